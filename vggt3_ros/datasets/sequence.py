"""A sequence: images with true poses, and how they divide into frames to map and frames to
localize.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.se3 import check_pose
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.undistort import undistorted
from vggt3_ros.worlds.places import Place


@dataclass(frozen=True)
class Split:
    """Indices of the frames to map and of the query frames; no frame is both."""

    map: tuple[int, ...]
    query: tuple[int, ...]

    def limited(self, map_frames: int | None, query_frames: int | None) -> Split:
        """At most that many map and query frames, evenly spaced over the split; None keeps all."""
        return Split(evenly(self.map, map_frames), evenly(self.query, query_frames))


@dataclass(frozen=True, eq=False)
class Sequence:
    """N images of one camera with true poses; pixels are read only when a frame is asked for.

    world_from_cam (N, 4, 4) float64, metres, OpenCV camera axes; intrinsics (3, 3) float64 in
    pixels of the images. read_image(i) gives (H, W, 3) uint8 RGB; read_depth(i) gives z-depth (H,
    W) float32 in metres in the geometry of the image, 0 where unknown, or None. `up` is the world's
    upward direction (3,) where the layout fixes one. The first of `splits` is the default one.
    `notes` tell what a reader of the figures should know about the data. `place` tells which
    procedural place it is, if it is one. Raises InputError for poses that are not rigid and for
    splits that name unknown or shared frames.
    """

    name: str
    names: tuple[str, ...]
    stamps_ns: tuple[int, ...]
    world_from_cam: Tensor
    intrinsics: Tensor
    splits: dict[str, Split]
    read_image: Callable[[int], np.ndarray]
    read_depth: Callable[[int], np.ndarray | None]
    distortion: Distortion | None = None
    up: Tensor | None = None
    notes: tuple[str, ...] = ()
    place: Place | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.world_from_cam.shape != (count, 4, 4) or len(self.stamps_ns) != count:
            raise InputError(
                f"{self.name}: {count} frames need poses ({count}, 4, 4) and {count} stamps, "
                f"got {tuple(self.world_from_cam.shape)} and {len(self.stamps_ns)}"
            )
        for frame_name, pose in zip(self.names, self.world_from_cam, strict=True):
            check_pose(pose, f"{self.name}, frame {frame_name}")
        if len(set(self.names)) != count:
            raise InputError(
                f"{self.name}: two frames have the same name; each image needs a name of its own"
            )
        if not self.splits:
            raise InputError(
                f"{self.name}: {count} frames are too few to divide into map and query frames"
            )
        for name, split in self.splits.items():
            self._check_split(name, split)

    def __len__(self) -> int:
        return len(self.names)

    def frame(self, index: int, with_prior: bool = False, with_depth: bool = False) -> Frame:
        """Frame `index` with intrinsics; on request with its true pose as the prior, and with its
        true depth if any.
        """
        return Frame(
            image=self.read_image(index),
            stamp_ns=self.stamps_ns[index],
            intrinsics=self.intrinsics,
            distortion=self.distortion,
            prior_world_from_cam=self.world_from_cam[index] if with_prior else None,
            depth=self.read_depth(index) if with_depth else None,
            name=self.names[index],
        )

    def pinhole_frame(self, index: int, with_depth: bool = False) -> Frame:
        """Frame `index` without lens distortion, as `undistorted` makes it."""
        return undistorted(self.frame(index, with_depth=with_depth))

    def split(self, name: str | None = None) -> Split:
        """The split of that name, by default the first; raises InputError for an unknown one."""
        if name is None:
            return next(iter(self.splits.values()))
        if name not in self.splits:
            raise InputError(
                f"{self.name} has no split {name!r}; choose one of {', '.join(self.splits)}"
            )
        return self.splits[name]

    def _check_split(self, name: str, split: Split) -> None:
        where = f"{self.name}, split {name!r}"
        unknown = [i for i in split.map + split.query if not 0 <= i < len(self)]
        if unknown:
            raise InputError(
                f"{where}: frame {unknown[0]} does not exist, frames run from 0 to {len(self) - 1}"
            )
        shared = sorted(set(split.map) & set(split.query))
        if shared:
            raise InputError(
                f"{where}: frame {shared[0]} is both a map and a query frame; it may be only one of"
                " them"
            )
        if len(split.map) < 2 or not split.query:
            raise InputError(
                f"{where}: got {len(split.map)} map and {len(split.query)} query frames, at least 2"
                " and 1 are needed"
            )


def standard_splits(indices: Items[int]) -> dict[str, Split]:
    """`interleaved`: every other frame is a query. `temporal`: the first two thirds are mapped, the
    rest are queries.

    Empty when fewer than four indices are given, so few that one of the two would have nothing to
    map or to localize.
    """
    frames = tuple(indices)
    if len(frames) < 4:
        return {}
    border = (2 * len(frames) + 2) // 3
    return {
        "interleaved": Split(frames[0::2], frames[1::2]),
        "temporal": Split(frames[:border], frames[border:]),
    }


def evenly(indices: tuple[int, ...], limit: int | None) -> tuple[int, ...]:
    """At most `limit` of the indices, evenly spaced; None keeps all. Raises InputError for a limit
    below 1.
    """
    if limit is None or limit >= len(indices):
        return indices
    if limit < 1:
        raise InputError(f"a split can be limited to 1 frame or more, got {limit}")
    picks = torch.linspace(0, len(indices) - 1, limit, dtype=torch.float64).round().long()
    return tuple(indices[i] for i in picks.tolist())
