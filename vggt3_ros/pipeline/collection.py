"""A bounded set of frames worth reconstructing, chosen by motion and image change, with reasons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.resize import same_shape

_THUMBNAIL = (24, 32)  # rows, columns
_WIDENING = 1.2
_DUPLICATE_CHANGE = 0.002  # of the image, up to which it is the same: a frozen camera


class Reason(Enum):
    """What became of a frame; the value is the sentence shown to users."""

    KEPT = "kept"
    DUPLICATE = "the image is the same as a kept one"
    LITTLE_MOTION = "the camera moved too little since a kept frame"
    LITTLE_CHANGE = "the image changed too little since a kept frame"
    BLACK = "the image is black"
    SIZE_CHANGED = "the image has another shape than the first frame's, and not both are calibrated"
    BAD_POSE = "the prior pose has NaN or is no rigid transform"
    STAMP_BACKWARDS = "the stamp lies before the previous frame's"
    FULL = "the collection is full and the frame adds too little"
    THINNED = (
        "a kept frame was dropped later, to make room or because the camera's resolution changed"
    )


# Frames with which nothing is wrong.
NOT_NEEDED = (
    Reason.DUPLICATE,
    Reason.LITTLE_MOTION,
    Reason.LITTLE_CHANGE,
    Reason.FULL,
    Reason.THINNED,
)


@dataclass(frozen=True)
class CollectionSettings:
    """When a frame is worth keeping.

    A frame with a prior pose is kept when it lies min_translation_m metres or min_rotation_rad from
    every kept frame; one without a prior when its thumbnail differs by min_image_change (mean of
    |difference|, 0 to 1) from every kept one. A full collection, of max_frames, thins itself: it
    drops what is most redundant.
    """

    max_frames: int = 200
    min_translation_m: float = 0.1
    min_rotation_rad: float = 0.1
    min_image_change: float = 0.03

    def __post_init__(self) -> None:
        if self.max_frames < 2:
            raise InputError(f"max_frames is {self.max_frames}; a reconstruction needs at least 2")
        for name in ("min_translation_m", "min_rotation_rad", "min_image_change"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.min_image_change < _DUPLICATE_CHANGE:
            raise InputError(
                f"min_image_change is {self.min_image_change}; images that differ by less than"
                f" {_DUPLICATE_CHANGE} count as the same, give more"
            )


@dataclass(frozen=True)
class AddResult:
    """Whether a frame was kept, and why or why not; and how many that were kept before had to go
    for it.
    """

    kept: bool
    reason: Reason
    gone: int = 0


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame as far as comparisons need it. pose is NaN where there is no prior."""

    frame: Frame
    thumbnail: Floats  # (24, 32) grey, 0 to 1
    pose: Floats  # (4, 4)


class FrameCollection:
    """Collects frames for one reconstruction, in the order of their stamps; holds max_frames at
    most.

    The first frame always stays: it is the origin of the reconstruction.
    """

    def __init__(self, settings: CollectionSettings | None = None) -> None:
        self.settings = settings or CollectionSettings()
        self.counts: Counter[Reason] = Counter()
        self._kept: list[_Seen] = []
        self._distances = np.zeros((0, 0))  # between kept frames, in units of the thresholds
        self._spacing = 1.0  # the least distance between kept frames, in the same unit
        self._last_stamp_ns: int | None = None

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The kept frames, oldest first."""
        return tuple(kept.frame for kept in self._kept)

    def add(self, frame: Frame) -> AddResult:
        """Keep the frame or say why not; counts the reason."""
        before = len(self._kept)
        reason = self._refusal(frame)
        if reason is None:
            reason = self._keep_if_new(frame)
        if reason is not Reason.STAMP_BACKWARDS:
            self._last_stamp_ns = frame.stamp_ns
        self.counts[reason] += 1
        kept = reason is Reason.KEPT
        return AddResult(kept, reason, before + kept - len(self._kept))

    def restart_clock(self) -> None:
        """Accept a stamp older than the last one: the clock was set back."""
        self._last_stamp_ns = None

    def clear(self) -> None:
        """Forget all frames and counts."""
        self.counts.clear()
        self._kept.clear()
        self._distances = np.zeros((0, 0))
        self._spacing = 1.0
        self._last_stamp_ns = None

    def _refusal(self, frame: Frame) -> Reason | None:
        """What is wrong with the frame by itself, or beside the first one."""
        if self._last_stamp_ns is not None and frame.stamp_ns < self._last_stamp_ns:
            return Reason.STAMP_BACKWARDS
        if frame.is_black:
            return Reason.BLACK
        if frame.prior_problem is not None:
            return Reason.BAD_POSE
        if self._kept and not _go_together(frame, self._kept[0].frame):
            return Reason.SIZE_CHANGED
        return None

    def _keep_if_new(self, frame: Frame) -> Reason:
        seen = _seen(frame)
        if self._kept:
            changes = self._image_changes(seen)
            distances = self._distances_to(seen, changes)
            if changes.min() <= _DUPLICATE_CHANGE:
                return Reason.DUPLICATE  # whatever the odometry says
            if distances.min() < 1:
                by_pose = np.isfinite(seen.pose).all()
                return Reason.LITTLE_MOTION if by_pose else Reason.LITTLE_CHANGE
            if distances.min() < self._spacing:
                return Reason.FULL
            self._distances = np.block(
                [[self._distances, distances[:, None]], [distances[None], np.inf]]
            )
        else:
            self._distances = np.full((1, 1), np.inf)
        self._kept.append(seen)
        return self._thin() if len(self._kept) > self.settings.max_frames else Reason.KEPT

    def _image_changes(self, seen: _Seen) -> Floats:
        """Mean absolute difference (N,) of the thumbnail from every kept one."""
        thumbnails = np.stack([kept.thumbnail for kept in self._kept])
        changes: Floats = np.abs(thumbnails - seen.thumbnail).mean(axis=(1, 2))
        return changes

    def _distances_to(self, seen: _Seen, changes: Floats) -> Floats:
        """Distance (N,) from the kept frames in thresholds: by pose if both have one, otherwise by
        image.
        """
        poses = torch.from_numpy(np.stack([kept.pose for kept in self._kept]))
        pose = torch.from_numpy(seen.pose)
        metres = torch.linalg.vector_norm(poses[:, :3, 3] - pose[:3, 3], dim=-1).numpy()
        radians = rotation_angle(poses[:, :3, :3].transpose(-1, -2) @ pose[:3, :3]).numpy()
        settings = self.settings
        by_pose = np.maximum(
            metres / settings.min_translation_m, radians / settings.min_rotation_rad
        )
        return np.where(np.isfinite(by_pose), by_pose, changes / settings.min_image_change)

    def _thin(self) -> Reason:
        """Widen the spacing between kept frames until one too many fits; later frames must respect
        it too.

        Dropping only the closest pair's frame would freeze a full collection: the newest are always
        the closest.
        """
        count = len(self._kept)
        chosen = list(range(count))
        while len(chosen) > self.settings.max_frames:
            self._spacing *= _WIDENING
            chosen = [0]
            for index in range(1, count):
                if self._distances[index, chosen].min() >= self._spacing:
                    chosen.append(index)
        dropped_newest = chosen[-1] != count - 1
        self.counts[Reason.THINNED] += count - len(chosen) - dropped_newest
        self._kept = [self._kept[index] for index in chosen]
        self._distances = self._distances[np.ix_(chosen, chosen)]
        return Reason.FULL if dropped_newest else Reason.KEPT


def thumbnail(image: npt.NDArray[np.uint8]) -> Floats:
    """Grey thumbnail (24, 32), 0 to 1, of an image (H, W, 3) uint8."""
    grey = torch.from_numpy(image).double().mean(dim=2)[None]
    small: Floats = (torch.nn.functional.adaptive_avg_pool2d(grey, _THUMBNAIL)[0] / 255).numpy()
    return small


def _go_together(one: Frame, other: Frame) -> bool:
    """Whether two frames can be reconstructed together: sizes of one shape are resized, other
    cameras need be known.
    """
    both_calibrated = one.intrinsics is not None and other.intrinsics is not None
    return both_calibrated or same_shape(one.size_hw, other.size_hw)


def _seen(frame: Frame) -> _Seen:
    prior = frame.prior_world_from_cam
    return _Seen(
        frame, thumbnail(frame.image), np.full((4, 4), np.nan) if prior is None else prior.numpy()
    )
