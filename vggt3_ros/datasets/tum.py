"""TUM RGB-D folders (Sturm et al., IROS 2012): rgb.txt, groundtruth.txt, and depth.txt where there
is depth.
"""

from __future__ import annotations

import bisect
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.calibration import Calibration, read_calibrated_image, read_calibration
from vggt3_ros.datasets.pose_files import read_pose_file
from vggt3_ros.datasets.sequence import Sequence, standard_splits
from vggt3_ros.datasets.text_files import numbers, read_depth_png, read_rows
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.pipeline.deep_files import bit_depth_of

_MAX_DIFFERENCE_S = 0.02  # the benchmark's own association rule
_SPACING_S = 1.0  # the video has 30 frames per second, far more than a map needs
_DEPTH_PER_METRE = 5000.0
_NO_DEPTH = Path()

# Published calibrations of the three cameras; the images of freiburg3 are already undistorted.
_CAMERAS = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), None),
}
_DEFAULT_CAMERA = (525.0, 525.0, 319.5, 239.5)


def load_tum(folder: Path) -> Sequence:
    """Read a TUM RGB-D folder; each image takes the true pose and the depth nearest in time, at
    most 20 ms away.

    Images without a pose are left out and counted in the notes. The splits take one frame per
    second. Intrinsics come from intrinsics.json (as in the plain layout) if there is one, else from
    the calibration of the freiburg camera in the folder's name. Raises InputError naming file and
    line for anything missing or malformed, and when the timestamps of images and poses do not meet.
    """
    image_stamps, images = _read_list(folder / "rgb.txt")
    pose_stamps, poses = _read_trajectory(folder / "groundtruth.txt")
    nearest_pose = [_nearest(pose_stamps, stamp) for stamp in image_stamps]
    kept = [i for i, pose in enumerate(nearest_pose) if pose is not None]
    if not kept:
        raise InputError(
            f"{folder}: no image has a true pose within {_MAX_DIFFERENCE_S} s; rgb.txt runs from"
            f" {image_stamps[0]:.3f} to {image_stamps[-1]:.3f} s, groundtruth.txt from"
            f" {pose_stamps[0]:.3f} to {pose_stamps[-1]:.3f} s"
        )
    stamps = [image_stamps[i] for i in kept]
    depths, notes = _depth_files(folder / "depth.txt", stamps)
    calibration, camera_notes = _camera(folder)
    notes += camera_notes
    bit_depth = bit_depth_of(images)
    if len(kept) < len(images):
        notes += (
            (
                f"{len(images) - len(kept)} of {len(images)} images have no true pose within 20 ms"
                " and are left out"
            ),
        )

    def read_depth(row: int) -> np.ndarray | None:
        return (
            read_depth_png(depths[row], _DEPTH_PER_METRE) if depths[row] is not _NO_DEPTH else None
        )

    return Sequence(
        name=folder.name,
        names=tuple(images[i].stem for i in kept),
        stamps_ns=tuple(round(stamp * 1e9) for stamp in stamps),
        world_from_cam=torch.stack([poses[p] for p in nearest_pose if p is not None]),
        intrinsics=calibration.intrinsics,
        splits=standard_splits(_spaced(stamps)),
        read_image=lambda row: read_calibrated_image(images[kept[row]], calibration, bit_depth),
        read_depth=read_depth,
        distortion=calibration.distortion,
        up=torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
        notes=notes,
    )


def _read_list(path: Path) -> tuple[list[float], list[Path]]:
    stamps = []
    files = []
    for where, (stamp, name) in read_rows(path, 2, "timestamp and file name"):
        stamps.append(float(numbers([stamp], where)))
        files.append(path.parent / name.replace("\\", "/"))
        if not files[-1].is_file():
            raise InputError(f"{where}: the image {files[-1]} does not exist")
    _check_order(path, stamps)
    return stamps, files


def _read_trajectory(path: Path) -> tuple[list[float], list[Tensor]]:
    stamps = []
    poses = []
    for row in read_pose_file(path, 7, "timestamp tx ty tz qx qy qz qw").rows:
        stamps.append(float(numbers([row.key], row.where)))
        poses.append(row.world_from_cam())
    _check_order(path, stamps)
    return stamps, poses


def _check_order(path: Path, stamps: list[float]) -> None:
    for earlier, later in zip(stamps, stamps[1:], strict=False):
        if later <= earlier:
            raise InputError(
                f"{path}: timestamp {later:.6f} follows {earlier:.6f}; they must increase"
            )


def _nearest(stamps: list[float], stamp: float) -> int | None:
    """Index of the stamp nearest to `stamp`, or None when it is too far away."""
    right = bisect.bisect_left(stamps, stamp)
    best = min(
        (i for i in (right - 1, right) if 0 <= i < len(stamps)),
        key=lambda i: abs(stamps[i] - stamp),
    )
    return best if abs(stamps[best] - stamp) <= _MAX_DIFFERENCE_S else None


def _depth_files(path: Path, stamps: list[float]) -> tuple[list[Path], tuple[str, ...]]:
    """The depth image of each stamp, and how many have one. Raises InputError when the file is
    there and none has.
    """
    if not path.exists():
        return [_NO_DEPTH] * len(stamps), ()
    depth_stamps, files = _read_list(path)
    nearest = [_nearest(depth_stamps, stamp) for stamp in stamps]
    known = sum(index is not None for index in nearest)
    if not known:
        raise InputError(
            f"{path}: none of its stamps, {depth_stamps[0]:.3f} to {depth_stamps[-1]:.3f} s, is"
            f" within {_MAX_DIFFERENCE_S} s of an image, {stamps[0]:.3f} to {stamps[-1]:.3f} s;"
            " remove it or correct its clock"
        )
    note = f"{known} of {len(stamps)} images have a depth image within 20 ms"
    return [_NO_DEPTH if i is None else files[i] for i in nearest], (
        (note,) if known < len(stamps) else ()
    )


def _camera(folder: Path) -> tuple[Calibration, tuple[str, ...]]:
    if (folder / "intrinsics.json").exists():
        return read_calibration(folder / "intrinsics.json"), ()
    for name, (values, coefficients) in _CAMERAS.items():
        if name in folder.resolve().name:
            distortion = Distortion("plumb_bob", coefficients) if coefficients else None
            return Calibration(intrinsics_matrix(*values), distortion, None), ()
    note = (
        "intrinsics assumed (525 525 319.5 239.5): no intrinsics.json, and the folder's name has no"
        " freiburg1, 2 or 3"
    )
    return Calibration(intrinsics_matrix(*_DEFAULT_CAMERA), None, None), (note,)


def _spaced(stamps: list[float]) -> list[int]:
    """Indices of frames at least a second apart (less 20 ms, so that a 1 Hz recording keeps all its
    frames).
    """
    picks = [0]
    for i, stamp in enumerate(stamps):
        if stamp - stamps[picks[-1]] >= _SPACING_S - _MAX_DIFFERENCE_S:
            picks.append(i)
    return picks
