"""The network's depth refined by multi-view geometry: the network proposes, many views dispose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from vggt3_ros.dense.agreement import Agreement, agreement, believed
from vggt3_ros.dense.completion import completed, filled_depth
from vggt3_ros.dense.depth import DenseDepth
from vggt3_ros.dense.expected_error import expected_error
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.dense.neighbours import inverse_ranges, neighbours
from vggt3_ros.dense.planes import (
    Planes,
    reach_of_planes,
    refitted,
    straightened,
    visible_planes,
)
from vggt3_ros.dense.prior import corrected, usable_prediction
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.dense.sweep import most_alike, swept
from vggt3_ros.dense.views import Views
from vggt3_ros.dense.wall_search import WallSearch, inverse_in_view
from vggt3_ros.dense.walls import main_directions, votes, wall_planes
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.progress import Progress
from vggt3_ros.threads import each_in_threads, one_torch_thread

_ALIKE = 0.3  # correlation from which a match is one
_TEXTURED = 4 / 255  # standard deviation of grey values from which what looks different is so
_TRIED_PLANES = 12  # per keyframe
_MATCHING = 0.5  # of the time of it all
_SAME_PLANE = 0.04  # of the median depth: planes that differ by less are one
_UNCERTAIN = 0.1  # of that: expected errors from which agreed depth is less exact than its plane
_BIN = 0.2  # of that: how finely positions of walls are told apart
# of the pixels of all keyframes that must agree and lie on a plane of the map
_MIN_REPORTED = 0.005
# by how much a plane must be more alike than a depth, and than one that is agreed
_KEPT = 0.03
_KEPT_AGREED = 0.06

# pixels worked on at a time: on a CPU, so many that what is done with them stays within its cache,
# or more where threads would otherwise wait for each other between short operations
_PIXELS_ON_CPU = 80_000
_PIXELS_IN_THREADS = 120_000
_PIXELS_ON_GPU = 640_000


class OverBudgetError(Vggt3Error):
    """Refinement would take longer than it may."""


@torch.no_grad()
def refine(
    keyframes: Keyframes, settings: DenseSettings | None = None, progress: Progress | None = None
) -> DenseDepth:
    """Depth of every pixel of every keyframe, with how it is known and how well.

    A keyframe needs its neighbours only: memory grows with the number of keyframes by their depth
    alone. A keyframe without neighbours, or whose images show nothing that could be matched, has
    the network's depth, of provenance FAR. On a CPU as many batches of keyframes are worked on at
    a time as torch has threads. progress(0..1) may raise to cancel. Raises OverBudgetError when the
    first ones tell that all would take more than settings.seconds a keyframe.
    """
    tell = progress or (lambda share: None)
    with one_torch_thread() as threads:
        work = _Refinement(keyframes, settings or DenseSettings(), threads, tell)
        work.match()
        work.compare(_MATCHING, 0.7)
        work.find_planes()
        work.try_planes()
        work.compare(0.82, 0.85)
        raw = work.raw_points()
        work.carry_on()
        work.find_walls(*raw)
        work.straighten()
        return work.result()


class _Refinement:
    """What is known so far of S keyframes: depth (S, h, w), where the images are `alike`, where
    views have `agreed`.
    """

    def __init__(
        self, keyframes: Keyframes, settings: DenseSettings, threads: int, progress: Progress
    ) -> None:
        self._keyframes = keyframes
        self._settings = settings
        self._threads = threads if keyframes.images.device.type == "cpu" else 1
        self._progress = progress
        self._views = Views.of(keyframes)
        self._ranges = inverse_ranges(keyframes)
        self._around = neighbours(keyframes, settings.checked, settings.least_angle)
        self._matched = torch.nonzero(self._around[:, 0] >= 0)[:, 0]  # numbers of keyframes
        self._all = torch.arange(len(keyframes), device=self._around.device)
        self._predicted = usable_prediction(keyframes)
        self._depth = self._predicted.clone()
        self._alike = torch.zeros_like(self._depth, dtype=torch.bool)
        self._agreed = torch.zeros_like(self._alike)
        self._agreeing = torch.zeros_like(self._depth, dtype=torch.uint8)
        self._angle = torch.zeros_like(self._depth)
        self._planes = Planes.none()  # of the map, in the world
        self._large_planes = Planes.none()  # of these, as exact as all keyframes tell
        self._poses = keyframes.world_from_cam.double().cpu()
        self._reach = 0.0  # at which planes are one
        # planes (P, 4) in the world of each keyframe and its neighbours
        self._nearby = [Planes.none().equations] * len(keyframes)
        self._provenance = torch.zeros_like(self._agreeing)
        self._walls = torch.zeros_like(self._agreed)

    def match(self) -> None:
        """Sweep every keyframe that has neighbours."""
        half = self._views.halved()

        def sweep(batch: Tensor) -> None:
            beside = self._around[batch, : self._settings.views]
            prior = corrected(self._predicted, self._keyframes, self._views.grey, batch)
            matching = self._views.matching(batch, beside)
            self._set(
                batch, swept(matching, half.matching(batch, beside), self._ranges[batch], prior)
            )

        first, rest = self._matched.tensor_split([self._at_a_time * self._threads])
        began = perf_counter()
        self._each(sweep, first, 0.0, 0.0)
        self._check_budget(perf_counter() - began, len(first))
        self._each(sweep, rest, 0.0, _MATCHING)

    def _check_budget(self, seconds: float, keyframes: int) -> None:
        """Raises OverBudgetError when all would take too long, given the seconds that so many
        keyframes' matching took.
        """
        allowed = self._settings.seconds
        if allowed is None or keyframes == 0:
            return
        expected = seconds / keyframes / _MATCHING
        if expected > allowed:
            side = max(self._views.size_hw)
            raise OverBudgetError(
                f"at {side} pixels a keyframe was expected to take {expected:.2g} s, {allowed:.2g}"
                " s are allowed"
            )

    def compare(self, *shares: float) -> None:
        """Keep the depth that other keyframes agree with, as the mean of theirs."""
        agreed = torch.zeros_like(self._agreed)
        fused = self._depth.clone()

        def judge(batch: Tensor) -> None:
            said = self._said(batch, self._depth[batch], self._alike)
            agreed[batch] = self._alike[batch] & believed(said, self._views.intrinsics[batch])
            fused[batch] = torch.where(agreed[batch], said.fused, self._depth[batch])
            self._agreeing[batch] = torch.where(agreed[batch], said.agreeing, 0).to(torch.uint8)
            self._angle[batch] = said.angle

        self._each(judge, self._all, *shares)
        self._depth = fused
        self._agreed = agreed

    def find_planes(self) -> None:
        """The planes that agreed points lie on: those of the map, and those about each keyframe."""
        if self._settings.planes and bool(self._agreed.any()):
            self._reach = _SAME_PLANE * float(self._depth[self._agreed].median())
            of_each = [
                visible_planes(depth, agreed, intrinsics).moved(_rigid(pose))
                for depth, agreed, intrinsics, pose in zip(
                    self._depth, self._agreed, self._views.intrinsics, self._poses, strict=True
                )
            ]
            self._planes = Planes.together(of_each).merged(self._reach)
            for index, around in enumerate(self._around.tolist()):
                seen = [of_each[other] for other in (index, *around) if other >= 0]
                merged = Planes.together(seen).merged(self._reach)
                self._nearby[index] = merged[:_TRIED_PLANES].equations

    def try_planes(self) -> None:
        """Take up planes wherever images are more alike along them: behind edges, and at grazing
        angles.
        """

        def choose(batch: Tensor) -> None:
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

        self._each(choose, self._matched, 0.7, 0.82)

    def raw_points(self) -> tuple[Tensor, Tensor]:
        """Points in the world that were matched, though views do not agree on them, and their
        weights.
        """
        matched = ~self._agreed & (self._around[:, :1, None] >= 0)
        return votes(self._depth, matched, self._views.intrinsics, self._views.world_from_cam)

    def carry_on(self) -> None:
        """Carry agreed depth on to the other pixels, but not where other keyframes see through it
        or look different.
        """
        depth = torch.zeros_like(self._depth)

        def fill(batch: Tensor) -> None:
            known, own, predicted = self._agreed[batch], self._depth[batch], self._predicted[batch]
            grey = self._views.grey[batch]
            filled = filled_depth(own, known, predicted, grey)
            surfaces = [self._surfaces(int(index)) for index in batch]
            carried, kind = completed(own, known, filled, surfaces, grey)
            said = self._said(batch, carried, self._agreed)
            refuted = ~known & (
                (said.through > said.agreeing) | self._contradicted(batch, 1 / carried)
            )
            depth[batch] = torch.where(refuted, filled, carried)
            self._provenance[batch] = torch.where(refuted, int(Provenance.FAR), kind)

        self._each(fill, self._all, 0.85, 0.92)
        self._depth = depth

    def find_walls(self, points: Tensor, weight: Tensor) -> None:
        """Take up planes along the main directions, on which points (N, 3) heap up, where wide
        windows are most alike.

        Other keyframes must see the same there, and nothing speak against it.
        """
        directions = main_directions(self._planes)
        planes = wall_planes(directions, points, weight, _BIN * self._reach)
        if len(planes) == 0:
            return
        likely = self._provenance == Provenance.PLANE
        search = WallSearch(
            self._views, self._around, self._ranges, self._depth, self._agreed, likely
        )
        views = self._settings.views
        self._each(lambda batch: search.label(batch, planes, views), self._all, 0.92, 0.96)
        self._each(search.confirm, self._all, 0.96, 0.98)
        mostly = search.mostly_confirmed()

        def take(batch: Tensor) -> None:
            taken = mostly[batch] & ~self._contradicted(batch, 1 / search.with_walls[batch])
            self._walls[batch] = search.without_strips(batch, taken)

        self._each(take, self._all, 0.98, 1.0)
        self._depth = torch.where(self._walls, search.walls, self._depth)
        self._provenance[self._walls] = int(Provenance.PLANE)

    def straighten(self) -> None:
        """Depth that is less exact than a large plane of the map that it lies on becomes that of
        the plane: of far walls, each pixel, and each keyframe's plane, is off by more than all.
        """
        large = self._planes[self._planes.pixels >= _MIN_REPORTED * self._depth.numel()]
        if len(large) == 0:
            return
        points, nearness = votes(
            self._depth, self._agreed, self._views.intrinsics, self._views.world_from_cam
        )
        moved = refitted(large.equations, points, nearness)
        self._large_planes = replace(large, equations=moved)
        expected = self._expected_error()
        uncertain = self._agreed & (expected > _UNCERTAIN * self._reach)
        carried_on = self._provenance == Provenance.PLANE
        reach = reach_of_planes(self._depth, expected, uncertain, carried_on)
        for index, own in enumerate(reach):
            surfaces = inverse_in_view(moved, self._views, index)
            self._depth[index] = straightened(self._depth[index], own, surfaces)

    def result(self) -> DenseDepth:
        """What is known now."""
        self._progress(1.0)
        planes = self._large_planes
        return DenseDepth(
            self._depth,
            self._provenance,
            self._agreeing,
            self._expected_error(),
            planes.equations,
            planes.pixels / self._depth.numel(),
        )

    def _expected_error(self) -> Tensor:
        focal = self._views.intrinsics[:, 0, 0].float()[:, None, None]
        return expected_error(
            self._depth, self._provenance, self._walls, self._agreeing, self._angle, focal
        )

    def _surfaces(self, index: int) -> Tensor:
        """Inverse depth (P, h, w) of the planes of a keyframe and its neighbours."""
        return inverse_in_view(self._nearby[index], self._views, index)

    def _set(self, batch: Tensor, inverse: Tensor) -> None:
        """Take up inverse depth (B, h, w) and judge how alike images are there."""
        self._depth[batch] = 1 / inverse
        matching = self._views.matching(batch, self._around[batch])
        self._alike[batch] = matching.evidence(inverse[:, None], radius=2)[:, 0] > _ALIKE

    def _contradicted(self, batch: Tensor, inverse: Tensor) -> Tensor:
        """Where images have texture and views that show the point look different: (B, h, w)."""
        matching = self._views.matching(batch, self._around[batch])
        alike = matching.evidence(inverse[:, None], radius=2)[:, 0]
        return (matching.texture(radius=2) > _TEXTURED) & (alike > -1) & (alike < _ALIKE)

    def _said(self, batch: Tensor, own: Tensor, known: Tensor) -> Agreement:
        limits = self._settings.tolerance, self._settings.least_angle
        return agreement(self._views, batch, self._around[batch], own, self._depth, known, *limits)

    @property
    def _at_a_time(self) -> int:
        """Keyframes of a batch."""
        if self._depth.device.type != "cpu":
            pixels = _PIXELS_ON_GPU
        else:
            pixels = _PIXELS_IN_THREADS if self._threads > 1 else _PIXELS_ON_CPU
        return self._settings.batch or max(1, pixels // self._depth[0].numel())

    def _each(
        self, work: Callable[[Tensor], None], keyframes: Tensor, begin: float, end: float
    ) -> None:
        """Do work on batches of the keyframes of these numbers, telling progress from `begin` to
        `end`.
        """
        self._progress(begin)
        if len(keyframes) == 0:
            return
        batches = keyframes.split(self._at_a_time)
        step = (end - begin) / len(batches)
        each_in_threads(
            work, batches, self._threads, lambda done: self._progress(begin + step * done)
        )


def _rigid(new_from_old: Tensor) -> Sim3:
    return Sim3(1.0, new_from_old[:3, :3], new_from_old[:3, 3])
