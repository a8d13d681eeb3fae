"""What a user knows of the cameras beforehand: the files of --poses, --intrinsics and --depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.calibration import Calibration, read_calibration
from vggt3_ros.datasets.matching import Matching, by_name, by_number, by_time, check_positions
from vggt3_ros.datasets.pose_files import PoseFile, read_pose_file
from vggt3_ros.datasets.text_files import read_depth_png
from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Frame

_DEPTH_PER_METRE = 1000.0
_NO_DEPTH_VALUE = 65535  # what cameras write, beside 0, where they know nothing
_OTHER_DEPTH = (
    ".tif",
    ".tiff",
    ".exr",
    ".npy",
    ".npz",
    ".pfm",
    ".pgm",
    ".jpg",
    ".jpeg",
    ".raw",
    ".bin",
    ".dpt",
)
_NAME_RULE = (
    "a pose belongs to the image whose name is its number (7 to 000007.png) or time in seconds, or"
    " whose position in the list is its number; where that is not so, write in the number's place"
    " the image's file name, with its folder where several have it (left/000.png)"
)
_DEPTH_RULE = (
    "a depth image is a 16-bit png in millimetres, with its image's name (and in sub-folders as its"
    " image is, where images of several folders have the same name)"
)


@dataclass(frozen=True, eq=False)
class KnownCameras:
    """Calibration shared by all images, poses and depth images, and which image each of them
    belongs to.

    world_from_cam: (4, 4) float64 in metres of each pose; NaN where a tracker was lost.
    depth_files: 16-bit png in millimetres. options: what was given on the command line. images: the
    names of the images seen so far.
    """

    calibration: Calibration | None = None
    poses: Matching | None = None
    world_from_cam: Sequence[Tensor] = ()
    depths: Matching | None = None
    depth_files: Sequence[Path] = ()
    options: Sequence[str] = ()
    images: list[str] = field(default_factory=list)

    @staticmethod
    def from_files(
        poses: Path | None, intrinsics: Path | None, depth: Path | None = None
    ) -> KnownCameras:
        """Read the files that are given. Raises InputError naming file and line, or a depth folder
        without images.
        """
        pose_file = None if poses is None else read_pose_file(poses)
        depth_files = [] if depth is None else _depth_files(depth)
        given = (("--poses", poses), ("--intrinsics", intrinsics), ("--depth", depth))
        return KnownCameras(
            calibration=None if intrinsics is None else read_calibration(intrinsics),
            poses=None if pose_file is None else _matching(pose_file),
            world_from_cam=[] if pose_file is None else _poses(pose_file),
            depths=None if depth is None else _depth_matching(depth, depth_files),
            depth_files=depth_files,
            options=[f"{option} {path}" for option, path in given if path is not None],
        )

    @property
    def intrinsics(self) -> Tensor | None:
        """The calibration (3, 3) that belongs to the pixels of the images as stored, if there is
        one.
        """
        return None if self.calibration is None else self.calibration.intrinsics

    @property
    def calibration_text(self) -> str | None:
        """What was understood of the calibration, None where there is none."""
        return None if self.calibration is None else self.calibration.text

    @property
    def left_over(self) -> dict[str, int]:
        """How many poses and depth images belong to none of the images so far, of what was
        given.
        """
        given = {"poses": self.poses, "depth_images": self.depths}
        return {
            what: matching.left_over for what, matching in given.items() if matching is not None
        }

    def frame(self, image: np.ndarray, position: int, name: str, stamp_ns: int = 0) -> Frame:
        """The frame of an image (H, W, 3) with what is known of it; `name` may be a path.

        A pose belongs to the image whose name is its number, time or file name; where the name is
        no number, the image's position in the list counts. Raises InputError when two images would
        have the same pose or depth image, and when the calibration is for images of another size.
        """
        self.images.append(name)
        if self.calibration is not None:
            self.calibration.check_size((image.shape[1], image.shape[0]), name)
        pose = None if self.poses is None else self.poses.take(name, position)
        return Frame(
            image=image,
            stamp_ns=stamp_ns,
            intrinsics=self.intrinsics,
            distortion=None if self.calibration is None else self.calibration.distortion,
            prior_world_from_cam=None if pose is None else self.world_from_cam[pose],
            depth=self._read_depth(image, position, name),
            name=name,
        )

    def check(self, images: int) -> None:
        """After reading: raise InputError when what was given was ambiguous, or fits none of the
        `images` used.
        """
        if images and self.options and not self.images:
            raise InputError(
                f"{', '.join(self.options)}: rooms bring their own, and there are no other images"
            )
        for matching in (self.poses, self.depths):
            if matching is not None:
                matching.check(images)
        if self.poses is not None and all(name.isdecimal() for name in self.poses.names):
            check_positions(
                self.poses.images, {int(name) for name in self.poses.names}, "the pose file"
            )

    def _read_depth(self, image: np.ndarray, position: int, name: str) -> np.ndarray | None:
        """The depth image (H, W) in metres that belongs to an image, None where there is none."""
        index = None if self.depths is None else self.depths.take(name, position)
        if index is None:
            return None
        depth = read_depth_png(self.depth_files[index], _DEPTH_PER_METRE, invalid=_NO_DEPTH_VALUE)
        if depth.shape != image.shape[:2]:
            raise InputError(
                f"{self.depth_files[index]} has {depth.shape[1]} x {depth.shape[0]} pixels, its"
                f" image {name} {image.shape[1]} x {image.shape[0]}; depth has to be registered to"
                " the image, pixel by pixel"
            )
        return depth


def _matching(file: PoseFile) -> Matching:
    """Who gets which pose. Raises InputError for a row that begins with nothing an image can be
    found by.
    """
    keys = [row.key for row in file.rows]
    if file.kind == "number":
        return Matching(
            keys, by_number([int(key) for key in keys]), "pose", f"--poses {file.path}", _NAME_RULE
        )
    if file.kind == "time":
        return Matching(
            keys, by_time([float(key) for key in keys]), "pose", f"--poses {file.path}", _NAME_RULE
        )
    for row in file.rows:
        if not Path(row.key).suffix[1:].isalnum() or Path(row.key).suffix[1:].isdecimal():
            raise InputError(
                f"{row.where}: {row.key!r} is not a frame number (a whole number from 0), nor a"
                " time in seconds, nor an image's file name such as left/000.png; all rows begin"
                " with the same of these"
            )
    return Matching(keys, by_name(keys, "poses"), "pose", f"--poses {file.path}", _NAME_RULE)


def _poses(file: PoseFile) -> list[Tensor]:
    lost = torch.full((4, 4), torch.nan, dtype=torch.float64)
    return [lost if row.is_lost else row.world_from_cam() for row in file.rows]


def _depth_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"--depth {folder}: there is no such folder; give one with a png for each image"
        )
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    usable = [path for path in files if path.suffix.lower() == ".png"]
    stems = {path.with_suffix("") for path in usable}
    others = [
        path
        for path in files
        if path.suffix.lower() in _OTHER_DEPTH and path.with_suffix("") not in stems
    ]
    if not usable or others:
        unread = others or files
        found = f"{len(usable)} png and" if usable else "no png but"
        what = f"{len(unread)} other files such as {unread[0].name}" if unread else "nothing"
        raise InputError(f"--depth {folder} holds {found} {what}; {_DEPTH_RULE}")
    return usable


def _depth_matching(folder: Path, files: Sequence[Path]) -> Matching:
    names = [str(path.relative_to(folder)) for path in files]
    find = by_name(names, "depth images", endings=False)
    return Matching(names, find, "depth image", f"--depth {folder}", _DEPTH_RULE)
