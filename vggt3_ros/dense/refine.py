"""The network's depth refined by multi-view geometry: the network proposes, many views dispose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import torch
from torch import Tensor

from vggt3_ros.dense.agreement import Agreement, agreement, believed
from vggt3_ros.dense.completion import completed, filled_depth
from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.expected_error import expected_error
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.neighbours import inverse_ranges, neighbours
from vggt3_ros.dense.planes import Planes, plane_inverse, visible_planes
from vggt3_ros.dense.prior import corrected, usable_prediction
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.dense.sweep import most_alike, swept
from vggt3_ros.dense.views import Views
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3

_ALIKE = 0.3  # correlation from which a match is one
_TEXTURED = 4 / 255  # standard deviation of grey values from which what looks different is so
_TRIED_PLANES = 12  # per keyframe
_MATCHING = 0.65  # of the time of it all
_SAME_PLANE = 0.04  # of the median depth: planes that differ by less are one
# of the pixels of all keyframes that must agree and lie on a plane of the map
_MIN_REPORTED = 0.005
# by how much a plane must be more alike than a depth, and than one that is agreed
_KEPT = 0.03
_KEPT_AGREED = 0.06

Progress = Callable[[float], None]


class OverBudgetError(Vggt3Error):
    """Refinement would take longer than it may."""


@torch.no_grad()
def refine(
    keyframes: Keyframes, settings: DenseSettings | None = None, progress: Progress | None = None
) -> DenseDepth:
    """Depth of every pixel of every keyframe, with how it is known and how well.

    A keyframe needs its neighbours only: memory grows with the number of keyframes by their depth
    alone. A keyframe without neighbours, or whose images show nothing that could be matched, has
    the network's depth, of provenance FAR. progress(0..1) may raise to cancel. Raises
    OverBudgetError when the first batch tells that all would take more than settings.seconds a
    keyframe.
    """
    work = _Refinement(keyframes, settings or DenseSettings(), progress or (lambda share: None))
    work.match()
    work.compare(_MATCHING, 0.7)
    work.find_planes()
    work.try_planes()
    work.compare(0.82, 0.85)
    return work.complete()


class _Refinement:
    """What is known so far of S keyframes: depth (S, h, w), where the images are `alike`, where
    views have `agreed`.
    """

    def __init__(self, keyframes: Keyframes, settings: DenseSettings, progress: Progress) -> None:
        self._keyframes = keyframes
        self._settings = settings
        self._progress = progress
        self._views = Views.of(keyframes)
        self._ranges = inverse_ranges(keyframes)
        self._around = neighbours(keyframes, settings.checked, settings.least_angle)
        self._predicted = usable_prediction(keyframes)
        self._depth = self._predicted.clone()
        self._alike = torch.zeros_like(self._depth, dtype=torch.bool)
        self._agreed = torch.zeros_like(self._alike)
        self._agreeing = torch.zeros_like(self._depth, dtype=torch.uint8)
        self._angle = torch.zeros_like(self._depth)
        self._planes = [Planes.none()] * len(keyframes)  # in the world
        self._poses = keyframes.world_from_cam.double().cpu()
        self._reach = 0.0  # at which planes are one

    def match(self) -> None:
        """Sweep every keyframe that has neighbours."""
        half = self._views.halved()
        measured = self._settings.seconds is None
        for batch in self._batches(0.0, _MATCHING):
            batch = batch[self._around[batch, 0] >= 0]
            if len(batch) == 0:
                continue
            begin = perf_counter()
            beside = self._around[batch, : self._settings.views]
            prior = corrected(self._predicted, self._keyframes, self._views.grey, batch)
            matching = self._views.matching(batch, beside)
            self._set(
                batch, swept(matching, half.matching(batch, beside), self._ranges[batch], prior)
            )
            if not measured:
                float(self._depth[batch[0], 0, 0])  # a GPU has to be waited for
                self._check_budget((perf_counter() - begin) / len(batch))
                measured = True

    def _check_budget(self, matching: float) -> None:
        """Raises OverBudgetError when all would take too long, given the seconds that a keyframe's
        matching took.
        """
        expected = matching / _MATCHING
        allowed = self._settings.seconds
        if allowed is not None and expected > allowed:
            side = max(self._views.size_hw)
            raise OverBudgetError(
                f"at {side} pixels a keyframe was expected to take {expected:.2g} s, {allowed:.2g}"
                " s are allowed"
            )

    def compare(self, *shares: float) -> None:
        """Keep the depth that other keyframes agree with, as the mean of theirs."""
        agreed = torch.zeros_like(self._agreed)
        fused = self._depth.clone()
        for batch in self._batches(*shares):
            said = self._said(batch, self._depth[batch], self._alike)
            agreed[batch] = self._alike[batch] & believed(said, self._views.intrinsics[batch])
            fused[batch] = torch.where(agreed[batch], said.fused, self._depth[batch])
            self._agreeing[batch] = torch.where(agreed[batch], said.agreeing, 0).to(torch.uint8)
            self._angle[batch] = said.angle
        self._depth = fused
        self._agreed = agreed

    def find_planes(self) -> None:
        """The planes that each keyframe's agreed points lie on."""
        if self._settings.planes and bool(self._agreed.any()):
            self._reach = _SAME_PLANE * float(self._depth[self._agreed].median())
            for index, pose in enumerate(self._poses):
                own = visible_planes(
                    self._depth[index], self._agreed[index], self._views.intrinsics[index]
                )
                self._planes[index] = own.moved(_rigid(pose))

    def try_planes(self) -> None:
        """Take up planes wherever images are more alike along them: behind edges, and at grazing
        angles.
        """
        for batch in self._batches(0.7, 0.82):
            batch = batch[self._around[batch, 0] >= 0]
            if len(batch) == 0:
                continue
            inverse = 1 / self._depth[batch]
            candidates = inverse[:, None].repeat(1, 1 + _TRIED_PLANES, 1, 1)
            for place, index in enumerate(batch.tolist()):
                surfaces = self._surfaces(index)
                least, most = self._ranges[index]
                inside = (surfaces > least) & (surfaces < most)
                candidates[place, 1 : 1 + len(surfaces)] = torch.where(
                    inside, surfaces, inverse[place]
                )
            kept = torch.where(self._agreed[batch], _KEPT_AGREED, _KEPT)
            matching = self._views.matching(batch, self._around[batch, : self._settings.views])
            self._set(batch, most_alike(matching, candidates, kept, radius=1))

    def complete(self) -> DenseDepth:
        """Carry agreed depth on to the other pixels, but not where other keyframes see through it
        or look different.
        """
        depth = torch.zeros_like(self._depth)
        provenance = torch.zeros_like(self._agreeing)
        for batch in self._batches(0.85, 1.0):
            known = self._agreed[batch]
            own = self._depth[batch]
            predicted = self._predicted[batch]
            grey = self._views.grey[batch]
            filled = filled_depth(own, known, predicted, grey)
            surfaces = [self._surfaces(int(index)) for index in batch]
            carried, kind = completed(own, known, filled, surfaces, grey)
            said = self._said(batch, carried, self._agreed)
            refuted = ~known & (
                (said.through > said.agreeing) | self._contradicted(batch, 1 / carried)
            )
            depth[batch] = torch.where(refuted, filled, carried)
            provenance[batch] = torch.where(refuted, int(Provenance.FAR), kind)
        focal = self._views.intrinsics[:, 0, 0].float()[:, None, None]
        sigma = expected_error(depth, provenance, self._agreeing, self._angle, focal)
        self._progress(1.0)
        planes = Planes.together(self._planes).merged(self._reach)
        shares = planes.pixels / depth.numel()
        large = shares >= _MIN_REPORTED
        return DenseDepth(
            depth, provenance, self._agreeing, sigma, planes.equations[large], shares[large]
        )

    def _surfaces(self, index: int) -> Tensor:
        """Inverse depth (P, h, w) of the planes of a keyframe and its neighbours."""
        seen = [index, *(other for other in self._around[index].tolist() if other >= 0)]
        planes = Planes.together([self._planes[i] for i in seen]).merged(self._reach)[
            :_TRIED_PLANES
        ]
        planes = planes.moved(_rigid(se3_inverse(self._poses[index])))
        return plane_inverse(
            planes.equations.to(self._depth), self._views.intrinsics[index], self._views.size_hw
        )

    def _set(self, batch: Tensor, inverse: Tensor) -> None:
        """Take up inverse depth (B, h, w) and judge how alike images are there."""
        self._depth[batch] = 1 / inverse
        matching = self._views.matching(batch, self._around[batch])
        self._alike[batch] = matching.evidence(inverse, radius=2) > _ALIKE

    def _contradicted(self, batch: Tensor, inverse: Tensor) -> Tensor:
        """Where images have texture and views that show the point look different: (B, h, w)."""
        matching = self._views.matching(batch, self._around[batch])
        alike = matching.evidence(inverse, radius=2)
        return (matching.texture(radius=2) > _TEXTURED) & (alike > -1) & (alike < _ALIKE)

    def _said(self, batch: Tensor, own: Tensor, known: Tensor) -> Agreement:
        limits = self._settings.tolerance, self._settings.least_angle
        return agreement(self._views, batch, self._around[batch], own, self._depth, known, *limits)

    def _batches(self, begin: float, end: float) -> Iterator[Tensor]:
        """Numbers of keyframes, some at a time, telling progress from `begin` to `end`."""
        numbers = torch.arange(len(self._keyframes), device=self._depth.device)
        for batch in numbers.split(self._settings.batch):
            self._progress(begin + (end - begin) * int(batch[0]) / len(numbers))
            yield batch


def _rigid(new_from_old: Tensor) -> Sim3:
    return Sim3(1.0, new_from_old[:3, :3], new_from_old[:3, 3])
