"""The plain layout: images/, poses.txt, intrinsics.json and, where there is more to tell,
split.json and depth/.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.calibration import read_calibrated_image, read_calibration
from vggt3_ros.datasets.pose_files import read_pose_file
from vggt3_ros.datasets.sequence import Sequence, Split, standard_splits
from vggt3_ros.datasets.text_files import read_depth_png
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known, read_json, read_text
from vggt3_ros.pipeline.deep_files import bit_depth_of

_SUFFIXES = (".jpg", ".jpeg", ".png")
_DEPTH_PER_METRE = 1000.0
_CSV_COLUMNS = ("index", "timestamp")


def load_plain(folder: Path) -> Sequence:
    """Read a folder in the plain layout.

    poses.txt has an index and 16 row-major numbers of world_from_cam (metres, OpenCV axes) per
    line; the image of index 7 is images/000007.jpg (or .png), its depth, if any, depth/000007.png
    in uint16 millimetres. split.json maps a split's name to {"map": [indices], "query": [indices]};
    without it every other frame is a query. frames.csv has the columns index and timestamp
    (seconds; may be empty). Images and depth images without a pose are counted in the notes. Raises
    InputError naming file and line for anything missing, malformed or ambiguous, and for a depth
    folder of which no file belongs to a frame.
    """
    poses = _read_poses(folder / "poses.txt")
    indices = list(poses)
    image_files = _numbered(folder / "images", _SUFFIXES)
    depth_files = _numbered(folder / "depth", (".png",))
    images = [_image_file(folder / "images", image_files, index) for index in indices]
    calibration = read_calibration(folder / "intrinsics.json")
    stamps_ns, stamp_notes = _read_stamps(folder / "frames.csv", indices)
    bit_depth = bit_depth_of(images)

    def read_depth(row: int) -> np.ndarray | None:
        path = depth_files.get(indices[row])
        return None if path is None else read_depth_png(path, _DEPTH_PER_METRE)

    return Sequence(
        name=folder.name,
        names=tuple(path.stem for path in images),
        stamps_ns=stamps_ns,
        world_from_cam=torch.stack(list(poses.values())),
        intrinsics=calibration.intrinsics,
        splits=_read_splits(folder / "split.json", indices),
        read_image=lambda row: read_calibrated_image(images[row], calibration, bit_depth),
        read_depth=read_depth,
        distortion=calibration.distortion,
        notes=(*_notes(folder, indices, image_files, depth_files), *stamp_notes),
    )


def _read_poses(path: Path) -> dict[int, Tensor]:
    return {_index(row.key, row.where): row.world_from_cam() for row in read_pose_file(path).rows}


def _index(field: str, where: str) -> int:
    if not field.isdecimal():
        raise InputError(f"{where}: {field!r} is not a frame index (a whole number from 0)")
    return int(field)


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """The files of a folder by the number that is their name. Raises InputError for two of one
    number.
    """
    files: dict[int, Path] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() not in suffixes or not path.stem.isdecimal():
            continue
        other = files.setdefault(int(path.stem), path)
        if other != path:
            raise InputError(
                f"{other} and {path} are both frame {int(path.stem)}; keep one of them"
            )
    return files


def _image_file(folder: Path, files: dict[int, Path], index: int) -> Path:
    if index not in files:
        raise InputError(
            f"{folder}: no image {index:06d}.jpg or .png, though poses.txt has a pose for frame"
            f" {index}"
        )
    return files[index]


def _notes(
    folder: Path, indices: list[int], image_files: dict[int, Path], depth_files: dict[int, Path]
) -> tuple[str, ...]:
    """How much of what lies in the folder belongs to no frame. Raises InputError when that is all
    of the depth.
    """
    frames = set(indices)
    present = [
        path
        for path in (folder / "depth").glob("*")
        if path.is_file() and not path.name.startswith(".")
    ]
    without = [
        f"{len(image_files.keys() - frames)} of {len(image_files)} images have no pose and are"
        " left out"
    ]
    if not image_files.keys() - frames:
        without = []
    if present and not depth_files.keys() & frames:
        raise InputError(
            f"{folder / 'depth'}: none of its {len(present)} files ({present[0].name}, ...) belongs"
            f" to a frame; they are 16-bit png in millimetres, named like {min(frames):06d}.png"
        )
    if present:
        known = len(depth_files.keys() & frames)
        without.append(
            f"{known} of {len(frames)} frames have depth; {len(present) - known} files in depth/"
            " are unused"
        )
    return tuple(without)


def _read_stamps(path: Path, indices: list[int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Stamps from the columns `index` and `timestamp` (seconds) of frames.csv, and what there is to
    note of them.

    Without that file, and without a single stamp in it, index is second. So it is, with a note,
    where some frames have no stamp: two clocks in one sequence, or stamps made up between others,
    would tell what nobody measured.
    """
    counted = tuple(index * 1_000_000_000 for index in indices)
    if not path.exists():
        return counted, ()
    stamps = _stamps_of_frames(path)
    missing = [index for index in indices if index not in stamps]
    if missing:
        raise InputError(
            f"{path}: no line for frame {missing[0]}, though poses.txt has a pose for it"
        )
    known = tuple(stamp for index in indices if (stamp := stamps[index]) is not None)
    if len(known) == len(indices):
        return known, ()
    if not known:
        return counted, ()
    without = [index for index in indices if stamps[index] is None]
    which = f"{len(without)} of {len(indices)} frames (the first is {without[0]})"
    return counted, (
        f"frames.csv has no stamp for {which}; none of its stamps is used, index is second",
    )


def _stamps_of_frames(path: Path) -> dict[int, int | None]:
    """Stamps in nanoseconds by frame, None where the field is empty."""
    header, *lines = read_text(path).splitlines() or [""]
    columns = [name.strip().strip('"').lower() for name in header.split(",")]
    check_known(
        (name for name in columns if not name.startswith("source")),
        _CSV_COLUMNS,
        str(path),
        "columns",
    )
    if any(columns.count(name) != 1 for name in _CSV_COLUMNS):
        raise InputError(
            f"{path}: the first line must name the columns index and timestamp, got {header!r}"
        )
    stamps: dict[int, int | None] = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        fields = [field.strip().strip('"').strip() for field in line.split(",")]
        where = f"{path}, line {number}"
        try:
            index = _index(fields[columns.index("index")], where)
            seconds = fields[columns.index("timestamp")]
            stamp_ns = round(float(seconds) * 1e9) if seconds else None
        except (ValueError, IndexError, OverflowError) as error:
            raise InputError(f"{where}: expected index,seconds,... got {line!r}") from error
        if stamps.setdefault(index, stamp_ns) != stamp_ns:
            raise InputError(f"{where}: frame {index} has a second stamp; give one per frame")
    return stamps


def _read_splits(path: Path, indices: list[int]) -> dict[str, Split]:
    if not path.exists():
        return standard_splits(range(len(indices)))
    row_of_index = {index: row for row, index in enumerate(indices)}
    splits = {}
    for name, data in read_json(path).items():
        if isinstance(data, dict):
            check_known(data, ("map", "query", "query_info"), f"{path}, split {name!r}")
        parts = [data.get(key) if isinstance(data, dict) else None for key in ("map", "query")]
        rows = []
        for key, part in zip(("map", "query"), parts, strict=True):
            if not isinstance(part, list):
                raise InputError(
                    f'{path}: split {name!r} must be {{"map": [indices], "query": [indices]}},'
                    f" {key} is not"
                )
            unknown = [
                index for index in part if not isinstance(index, int) or index not in row_of_index
            ]
            if unknown:
                raise InputError(
                    f"{path}: split {name!r} names {key} frame {unknown[0]!r}, which has no pose in"
                    " poses.txt"
                )
            rows.append(tuple(row_of_index[index] for index in part))
        splits[name] = Split(*rows)
    return splits
