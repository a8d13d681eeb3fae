"""keyframes.json: the keyframes of a stored scene.

Poses are written as matrices (3x4, row by row), not quaternions, so that reading gives the very
same numbers.
"""

from __future__ import annotations

import torch

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.se3 import check_pose, se3
from vggt3_ros.scene.entries import Entries, parse_json
from vggt3_ros.scene.scene import Keyframes
from vggt3_ros.scene.seal import dumped

KEYFRAMES = "keyframes.json"
_NAMES = ("name", "stamp_ns", "cam_from_world", "intrinsics")
_MAX_STAMP = 2**63 - 1  # ns, in the year 2262
_MAX_FOCAL = 1e6  # pixels


def describe_keyframes(keyframes: Keyframes) -> bytes:
    """keyframes.json: a list of name, stamp_ns, cam_from_world (3x4, scene units), intrinsics (3x3,
    px).
    """
    rows = zip(
        keyframes.names,
        keyframes.stamps_ns,
        keyframes.cam_from_world.tolist(),
        keyframes.intrinsics.tolist(),
        strict=True,
    )
    return dumped([dict(zip(_NAMES, row, strict=True)) for row in rows])


def parse_keyframes(data: bytes, count: int) -> Keyframes:
    """Read keyframes.json of `count` keyframes. Raises SceneError naming the keyframe and entry
    that is wrong.
    """
    values = parse_json(data, KEYFRAMES)
    if not isinstance(values, list):
        raise SceneError(f"{KEYFRAMES} must be a list of keyframes, got {type(values).__name__}")
    if len(values) != count:
        raise SceneError(f"scene.json promises {count} frames, {KEYFRAMES} has {len(values)}")
    rows = [
        Entries.of(value, f"{KEYFRAMES}: keyframe {index}") for index, value in enumerate(values)
    ]
    for row in rows:
        _check(row)
    return Keyframes(
        names=tuple(row.text("name") for row in rows),
        stamps_ns=tuple(row.count("stamp_ns", -_MAX_STAMP, _MAX_STAMP) for row in rows),
        cam_from_world=torch.stack([row.numbers("cam_from_world", (3, 4)) for row in rows]),
        intrinsics=torch.stack([row.numbers("intrinsics", (3, 3)) for row in rows]),
    )


def _check(row: Entries) -> None:
    """Raise SceneError unless these are the entries of a keyframe, with a rigid pose and intrinsics
    of a camera.
    """
    row.require(_NAMES)
    pose = row.numbers("cam_from_world", (3, 4))
    try:
        check_pose(se3(pose[:, :3], pose[:, 3]), f"{row.where}: cam_from_world")
    except InputError as error:
        raise SceneError(str(error)) from error
    intrinsics = row.numbers("intrinsics", (3, 3))
    plain = torch.eye(3, dtype=torch.float64)
    for at in ((0, 0), (1, 1), (0, 2), (1, 2)):
        plain[at] = intrinsics[at]
    if not (
        torch.equal(intrinsics, plain)
        and 0 < plain[0, 0] < _MAX_FOCAL
        and 0 < plain[1, 1] < _MAX_FOCAL
    ):
        raise SceneError(
            f"{row.where}: intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with focal"
            f" lengths from 0 to {_MAX_FOCAL:g} px, got {intrinsics.tolist()}"
        )
