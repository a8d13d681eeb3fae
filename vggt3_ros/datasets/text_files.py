"""Reading the text files and depth images of data sets; every complaint names the file and, for
text, the line.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.files import read_text
from vggt3_ros.geometry.se3 import check_pose, chordal_mean, se3
from vggt3_ros.pipeline.image_file import opened_image


def read_rows(path: Path, columns: int, meaning: str) -> list[tuple[str, list[str]]]:
    """Rows of `columns` fields, divided by white space or commas, as (place "FILE, line N",
    fields).

    The last field of several may hold spaces and commas, as file names do; quotes around it are
    taken off. Empty lines and lines that begin with # are left out. Raises InputError for a row
    with another number of fields and for a file without rows; `meaning` says in both cases what a
    row should hold.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = re.split(r"[\s,]+", line.strip(" \t,"), maxsplit=columns - 1)
        fields[-1] = fields[-1].strip("\"'")
        if len(fields) != columns:
            raise InputError(
                f"{path}, line {number}: got {len(fields)} columns, expected {columns} ({meaning})"
            )
        rows.append((f"{path}, line {number}", fields))
    if not rows:
        raise InputError(f"{path}: no data, expected rows of {meaning}")
    return rows


def numbers(fields: list[str], where: str) -> Tensor:
    """Finite float64 numbers (len(fields),); raises InputError naming `where` and the field
    otherwise.
    """
    values = []
    for field in fields:
        try:
            values.append(float(field))
        except ValueError as error:
            raise InputError(f"{where}: {field!r} is not a number") from error
    parsed = torch.tensor(values, dtype=torch.float64)
    if not bool(torch.isfinite(parsed).all()):
        bad = fields[int((~torch.isfinite(parsed)).nonzero()[0])]
        raise InputError(
            f"{where}: {bad!r} is not a finite number; remove the frame or repair its pose"
        )
    return parsed


def pose_from_numbers(fields: list[str], where: str) -> Tensor:
    """world_from_cam (4, 4) float64 from 16 row-major numbers; its rotation must be one to within
    rounding.
    """
    if len(fields) != 16:
        raise InputError(
            f"{where}: got {len(fields)} numbers, expected the 16 of a 4x4 camera-to-world pose"
        )
    pose = numbers(fields, where).reshape(4, 4)
    check_pose(pose, where, tolerance=5e-3)
    return orthonormal(pose)


def orthonormal(pose: Tensor) -> Tensor:
    """The pose (4, 4) with the rotation nearest to its upper left 3x3: printed digits leave it
    slightly off.
    """
    return se3(chordal_mean(pose[None, :3, :3]), pose[:3, 3])


def read_depth_png(path: Path, units_per_metre: float, invalid: int | None = None) -> np.ndarray:
    """z-depth (H, W) float32 in metres from a 16-bit PNG; 0 where the file holds 0 or `invalid`.

    Raises InputError when the file is missing, damaged or not a 16-bit image of one channel.
    """
    with opened_image(path) as image:
        raw = np.asarray(image)
    if raw.ndim != 2 or raw.dtype not in (np.uint16, np.int32):
        raise InputError(
            f"{path}: expected a 16-bit depth image of one channel, got {raw.dtype} of shape"
            f" {raw.shape}"
        )
    depth = (raw / units_per_metre).astype(np.float32)
    if invalid is not None:
        depth[raw == invalid] = 0
    return depth
