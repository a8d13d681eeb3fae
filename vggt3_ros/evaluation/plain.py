"""The plain layout: images/, poses.txt, intrinsics.json and, where there is more to tell, split.json and depth/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.sequence import Sequence, Split, standard_splits
from vggt3_ros.evaluation.text_files import pose_from_numbers, read_depth_png, read_json, read_rows, read_text
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.pipeline.deep_files import bit_depth_of
from vggt3_ros.pipeline.frame import read_image

_SUFFIXES = (".jpg", ".jpeg", ".png")
_DEPTH_PER_METRE = 1000.0


def load_plain(folder: Path) -> Sequence:
    """Read a folder in the plain layout.

    poses.txt has an index and 16 row-major numbers of world_from_cam (metres, OpenCV axes) per line; the image of
    index 7 is images/000007.jpg (or .png), its depth, if any, depth/000007.png in uint16 millimetres. split.json maps
    a split's name to {"map": [indices], "query": [indices]}; without it every other frame is a query.
    Raises InputError naming file and line for anything missing or malformed.
    """
    poses = _read_poses(folder / "poses.txt")
    indices = list(poses)
    images = [_image_file(folder / "images", index) for index in indices]
    depths = [folder / "depth" / f"{index:06d}.png" for index in indices]
    intrinsics, distortion = read_intrinsics(folder / "intrinsics.json")
    bit_depth = bit_depth_of(images)

    def read_depth(row: int) -> np.ndarray | None:
        return read_depth_png(depths[row], _DEPTH_PER_METRE) if depths[row].exists() else None

    return Sequence(
        name=folder.name,
        names=tuple(path.stem for path in images),
        stamps_ns=_read_stamps(folder / "frames.csv", indices),
        world_from_cam=torch.stack(list(poses.values())),
        intrinsics=intrinsics,
        splits=_read_splits(folder / "split.json", indices),
        read_image=lambda row: read_image(images[row], False, bit_depth),
        read_depth=read_depth,
        distortion=distortion,
    )


def read_intrinsics(path: Path) -> tuple[Tensor, Distortion | None]:
    """Intrinsics (3, 3) and distortion from a JSON with fx, fy, cx, cy in pixels.

    `distortion` is absent or a text that begins with "none", or {"model": NAME, "coefficients": [numbers]}.
    """
    data = read_json(path)
    values = []
    for key in ("fx", "fy", "cx", "cy"):
        value = data.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6:
            raise InputError(f"{path}: {key} must be a positive number of pixels, got {value!r}")
        values.append(float(value))
    return intrinsics_matrix(*values), _distortion(data.get("distortion"), path)


def _distortion(data: Any, path: Path) -> Distortion | None:
    if data is None or (isinstance(data, str) and data.lower().startswith("none")):
        return None
    try:
        return Distortion(data["model"], tuple(float(c) for c in data["coefficients"]))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            f'{path}: distortion must be "none" or {{"model": NAME, "coefficients": [numbers]}}, got {data!r}'
        ) from error


def _read_poses(path: Path) -> dict[int, Tensor]:
    poses: dict[int, Tensor] = {}
    for where, fields in read_rows(path, 17, "index and 16 numbers of a 4x4 camera-to-world pose"):
        index = _index(fields[0], where)
        if index in poses:
            raise InputError(f"{where}: frame {index} has a second pose; give one per frame")
        poses[index] = pose_from_numbers(fields[1:], where)
    return poses


def _index(field: str, where: str) -> int:
    if not field.isdecimal():
        raise InputError(f"{where}: {field!r} is not a frame index (a whole number from 0)")
    return int(field)


def _image_file(folder: Path, index: int) -> Path:
    for suffix in _SUFFIXES:
        path = folder / f"{index:06d}{suffix}"
        if path.exists():
            return path
    raise InputError(f"{folder}: no image {index:06d}.jpg or .png, though poses.txt has a pose for frame {index}")


def _read_stamps(path: Path, indices: list[int]) -> tuple[int, ...]:
    """Stamps from the first two columns of frames.csv (index, seconds); without that file the index is the second."""
    if not path.exists():
        return tuple(index * 1_000_000_000 for index in indices)
    stamps = {}
    for number, line in enumerate(read_text(path).splitlines()[1:], start=2):
        fields = line.split(",")
        where = f"{path}, line {number}"
        try:
            stamps[_index(fields[0], where)] = round(float(fields[1]) * 1e9)
        except (ValueError, IndexError, OverflowError) as error:
            raise InputError(f"{where}: expected index,seconds,... got {line!r}") from error
    missing = [index for index in indices if index not in stamps]
    if missing:
        raise InputError(f"{path}: no line for frame {missing[0]}, though poses.txt has a pose for it")
    return tuple(stamps[index] for index in indices)


def _read_splits(path: Path, indices: list[int]) -> dict[str, Split]:
    if not path.exists():
        return standard_splits(range(len(indices)))
    row_of_index = {index: row for row, index in enumerate(indices)}
    splits = {}
    for name, data in read_json(path).items():
        parts = [data.get(key) if isinstance(data, dict) else None for key in ("map", "query")]
        rows = []
        for key, part in zip(("map", "query"), parts, strict=True):
            if not isinstance(part, list):
                raise InputError(
                    f'{path}: split {name!r} must be {{"map": [indices], "query": [indices]}}, {key} is not'
                )
            unknown = [index for index in part if not isinstance(index, int) or index not in row_of_index]
            if unknown:
                raise InputError(
                    f"{path}: split {name!r} names {key} frame {unknown[0]!r}, which has no pose in poses.txt"
                )
            rows.append(tuple(row_of_index[index] for index in part))
        splits[name] = Split(*rows)
    return splits
