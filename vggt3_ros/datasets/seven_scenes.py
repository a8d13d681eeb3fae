"""7-Scenes folders (Shotton et al., CVPR 2013): seq-XX/frame-XXXXXX.{color.png,depth.png,pose.txt},
TrainSplit.txt.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from vggt3_ros.datasets.calibration import Calibration, read_calibrated_image, read_calibration
from vggt3_ros.datasets.sequence import Sequence, Split, standard_splits
from vggt3_ros.datasets.text_files import pose_from_numbers, read_depth_png, read_rows
from vggt3_ros.errors import InputError
from vggt3_ros.files import read_text
from vggt3_ros.geometry.camera import intrinsics_matrix

PROTOCOL = "vgg-t3"  # the split of the VGG-T3 paper
# of its training and test images
MAP_STRIDE = 50
QUERY_STRIDE = 20

_RATE_HZ = 30
_NO_DEPTH_VALUE = 65535
# pixels of 640x480; the colour images are not registered to the depth
_COLOR_FOCAL = 525.0
_DEPTH_FOCAL = 585.0
_COLOR_CAMERA = (_COLOR_FOCAL, _COLOR_FOCAL, 320.0, 240.0)
_NOTE = (
    "7-Scenes has no calibration between colour and depth: focal lengths 525 and 585 px assumed, "
    "the few centimetres between the two cameras ignored"
)


def load_seven_scenes(folder: Path) -> Sequence:
    """Read a 7-Scenes scene. Its splits: `standard` by the two files, and where it is long enough
    `sparse` with one frame per second of it, and `vgg-t3` with every 50th training image to map and
    every 20th test image to localize.

    A single seq-XX folder is read too, at one frame per second, with the splits `interleaved` and
    `temporal`. Raises InputError naming the file for anything missing or malformed.
    """
    if (folder / "TrainSplit.txt").exists():
        parts = {
            key: _split_folders(folder, file)
            for key, file in (("map", "TrainSplit.txt"), ("query", "TestSplit.txt"))
        }
    else:
        parts = {"all": [folder]}
    poses: list[Path] = []
    rows: dict[str, tuple[int, ...]] = {}
    for key, folders in parts.items():
        start = len(poses)
        for sub in folders:
            poses.extend(_pose_files(sub))
        rows[key] = tuple(range(start, len(poses)))
    if "all" in rows:
        splits = standard_splits(rows["all"][::_RATE_HZ])
    else:
        splits = {"standard": Split(rows["map"], rows["query"])}
        if len(rows["map"]) > _RATE_HZ:
            splits["sparse"] = Split(rows["map"][::_RATE_HZ], rows["query"][::_RATE_HZ])
        if len(rows["map"]) > MAP_STRIDE:
            splits[PROTOCOL] = Split(rows["map"][::MAP_STRIDE], rows["query"][::QUERY_STRIDE])
    own = folder / "intrinsics.json"
    assumed = Calibration(intrinsics_matrix(*_COLOR_CAMERA), None, None)
    calibration = read_calibration(own) if own.exists() else assumed
    color_focal = float(calibration.intrinsics[0, 0])

    def read_depth(row: int) -> np.ndarray | None:
        path = _sibling(poses[row], "depth.png")
        if not path.exists():
            return None
        return _in_color_camera(read_depth_png(path, 1000.0, invalid=_NO_DEPTH_VALUE), color_focal)

    return Sequence(
        name=folder.name,
        names=tuple(f"{path.parent.name}/{path.name.split('.')[0]}" for path in poses),
        stamps_ns=tuple(row * (1_000_000_000 // _RATE_HZ) for row in range(len(poses))),
        world_from_cam=torch.stack(
            [
                pose_from_numbers(read_text(path).replace(",", " ").split(), str(path))
                for path in poses
            ]
        ),
        intrinsics=calibration.intrinsics,
        splits=splits,
        read_image=lambda row: read_calibrated_image(
            _sibling(poses[row], "color.png"), calibration
        ),
        read_depth=read_depth,
        distortion=calibration.distortion,
        notes=(_NOTE, *_notes(poses)),
    )


def _split_folders(folder: Path, file: str) -> list[Path]:
    """Folders that a split file names, one per line: `sequence3` is the folder seq-03."""
    folders = []
    for where, (name,) in read_rows(folder / file, 1, "the name of a sequence, such as sequence1"):
        number = re.fullmatch(r"(?:sequence|seq-?)(\d+)", name.strip().lower())
        if number is None:
            raise InputError(f"{where}: expected a name such as sequence1, got {name!r}")
        folders.append(folder / f"seq-{int(number[1]):02d}")
        if not folders[-1].is_dir():
            raise InputError(
                f"{where}: the folder {folders[-1]} does not exist; unpack"
                f" seq-{int(number[1]):02d}.zip there"
            )
    return folders


def _pose_files(folder: Path) -> list[Path]:
    poses = sorted(folder.glob("frame-*.pose.txt"))
    if not poses:
        raise InputError(
            f"{folder}: no frame-XXXXXX.pose.txt in it, is this a sequence of 7-Scenes?"
        )
    for path in poses:
        color = _sibling(path, "color.png")
        if not color.exists():
            raise InputError(f"{color} is missing, though {path.name} gives its pose")
    return poses


def _notes(poses: list[Path]) -> tuple[str, ...]:
    """How many images have no pose, and how many no depth, where any has none."""
    folders = {path.parent for path in poses}
    images = sum(len(list(folder.glob("frame-*.color.png"))) for folder in folders)
    deep = sum(_sibling(path, "depth.png").exists() for path in poses)
    notes = []
    if images > len(poses):
        notes.append(f"{images - len(poses)} of {images} images have no pose and are left out")
    if 0 < deep < len(poses):
        notes.append(f"{deep} of {len(poses)} frames have depth")
    return tuple(notes)


def _sibling(pose_file: Path, suffix: str) -> Path:
    return pose_file.with_name(pose_file.name.removesuffix("pose.txt") + suffix)


def _in_color_camera(depth: np.ndarray, color_focal: float) -> np.ndarray:
    """Depth (H, W) resampled about the image centre to the field of view of the colour camera."""
    height, width = depth.shape
    ratio = _DEPTH_FOCAL / color_focal
    rows = np.round((np.arange(height) - height / 2) * ratio + height / 2).astype(int)
    columns = np.round((np.arange(width) - width / 2) * ratio + width / 2).astype(int)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    picked = depth[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return np.where(inside, picked, np.float32(0))
