"""scene.json and keyframes.json: the readable part of a stored scene, and the checks on what is read back.

Poses are written as matrices (3x4, row by row), not quaternions, so that reading gives the very same numbers.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.scene import Corner, Keyframes, Scene

FORMAT = "vggt3_scene"
VERSION = 3
_MAP = "map"
_SCENE_UNITS = 2  # the version in which points were in scene units and axes
DESCRIPTION, KEYFRAMES, MEMORY, POINTS = "scene.json", "keyframes.json", "memory.safetensors", "points.ply"
LANDMARKS, DEPTH = "landmarks.safetensors", "depth.safetensors"  # only in scenes that have some


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of a file of a scene."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Description:
    """Content of scene.json: the entries as they were read, and the record of every other file."""

    entries: dict[str, Any]
    files: dict[str, FileRecord]


def describe(scene: Scene, files: dict[str, FileRecord]) -> bytes:
    """scene.json for a scene whose other files have the given records."""
    return _dump(
        {
            "format": FORMAT,
            "version": VERSION,
            "scene_id": scene.scene_id,
            "created": scene.created,
            "model_id": scene.model_id,
            "model_fingerprint": scene.model_fingerprint,
            "input_size": list(scene.input_size),
            "frames": len(scene.keyframes),
            "ttt_steps": scene.ttt_steps,
            "map_frame": scene.map_frame,
            "made_by": scene.made_by,
            "map_from_scene": scene.map_from_scene.to_dict(),
            "metric": scene.is_metric,
            "metric_source": scene.metric_source,
            "metric_residual_m": scene.metric_residual_m,
            "up_source": scene.up_source,
            "verification": scene.verification,
            "points_frame": _MAP,
            "bounds": [list(corner) for corner in scene.bounds],
            "files": {name: {"size": record.size, "sha256": record.sha256} for name, record in files.items()},
        }
    )


def describe_keyframes(keyframes: Keyframes) -> bytes:
    """keyframes.json: a list of name, stamp_ns, cam_from_world (3x4, scene units), intrinsics (3x3, px)."""
    rows = zip(
        keyframes.names,
        keyframes.stamps_ns,
        keyframes.cam_from_world.tolist(),
        keyframes.intrinsics.tolist(),
        strict=True,
    )
    names = ("name", "stamp_ns", "cam_from_world", "intrinsics")
    return _dump([dict(zip(names, row, strict=True)) for row in rows])


def parse_description(data: bytes) -> Description:
    """Read scene.json. Raises SceneError when it is damaged, foreign or of a newer format."""
    entries = _parse(data, DESCRIPTION)
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise SceneError(f"{DESCRIPTION} is not vggt3_ros's: it lacks the entry format = {FORMAT!r}")
    version = entries.get("version")
    if not isinstance(version, int) or version < 1:
        raise SceneError(f"{DESCRIPTION} is damaged: version {version!r} is not a positive number")
    if version not in (_SCENE_UNITS, VERSION):
        remedy = "update vggt3_ros, or map" if version > VERSION else "map"
        raise SceneError(
            f"the scene has format version {version}, this program reads {_SCENE_UNITS} and {VERSION}; {remedy} the "
            "place again with this one"
        )
    try:
        files = {
            name: FileRecord(int(entries["files"][name]["size"]), str(entries["files"][name]["sha256"]))
            for name in (KEYFRAMES, MEMORY, POINTS, *({LANDMARKS, DEPTH} & set(entries["files"])))
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{DESCRIPTION} is damaged: the list of files is incomplete ({error!r})") from error
    return Description(entries, files)


def assemble(
    description: Description,
    keyframes: bytes,
    memory: dict[str, Tensor],
    landmarks: dict[str, Tensor],
    points: PointCloud,
    depth: KeyframeDepth | None,
) -> Scene:
    """Put a scene together from its parts. Raises SceneError for an entry missing or of the wrong kind."""
    entries = description.entries
    try:
        residual = entries["metric_residual_m"]
        height, width = entries["input_size"]
        map_from_scene = Sim3.from_dict(entries["map_from_scene"])
        bounds = (_corner(entries["bounds"][0]), _corner(entries["bounds"][1]))
        if entries["version"] == _SCENE_UNITS:
            points, bounds = points.transformed(map_from_scene), _box_in(map_from_scene, bounds)
        scene = Scene(
            memory=memory,
            keyframes=_keyframes(_parse(keyframes, KEYFRAMES)),
            points=points,
            bounds=bounds,
            model_id=str(entries["model_id"]),
            model_fingerprint=str(entries["model_fingerprint"]),
            input_size=(int(height), int(width)),
            ttt_steps=int(entries["ttt_steps"]),
            map_from_scene=map_from_scene,
            is_metric=bool(entries["metric"]),
            metric_source=str(entries["metric_source"]),
            metric_residual_m=None if residual is None else float(residual),
            up_source=str(entries["up_source"]),
            landmarks=landmarks,
            depth=depth,
            verification=dict(entries["verification"]),
            map_frame=str(entries["map_frame"]),
            made_by=str(entries.get("made_by", "")),
            scene_id=str(entries["scene_id"]),
            created=str(entries["created"]),
        )
        frames = int(entries["frames"])
    except KeyError as error:
        raise SceneError(f"{DESCRIPTION} or {KEYFRAMES} lacks the entry {error}") from error
    except (TypeError, ValueError, IndexError, Vggt3Error) as error:
        raise SceneError(f"{DESCRIPTION} or {KEYFRAMES} has an entry of the wrong kind ({error})") from error
    if len(scene.keyframes) != frames:
        raise SceneError(f"{DESCRIPTION} promises {frames} frames, {KEYFRAMES} has {len(scene.keyframes)}")
    return scene


def _keyframes(rows: Any) -> Keyframes:
    poses = torch.tensor([row["cam_from_world"] for row in rows], dtype=torch.float64)
    intrinsics = torch.tensor([row["intrinsics"] for row in rows], dtype=torch.float64)
    return Keyframes(
        names=tuple(str(row["name"]) for row in rows),
        stamps_ns=tuple(int(row["stamp_ns"]) for row in rows),
        cam_from_world=poses.reshape(len(rows), 3, 4),
        intrinsics=intrinsics.reshape(len(rows), 3, 3),
    )


def _box_in(map_from_scene: Sim3, box: tuple[Corner, Corner]) -> tuple[Corner, Corner]:
    """The box along the axes of the map around a box along those of the scene."""
    corners = torch.tensor(list(itertools.product(*zip(*box, strict=True))), dtype=torch.float64)
    inside = map_from_scene.points(corners)
    return _corner(inside.amin(0).tolist()), _corner(inside.amax(0).tolist())


def _corner(values: Any) -> Corner:
    x, y, z = values
    return float(x), float(y), float(z)


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _parse(data: bytes, name: str) -> Any:
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except ValueError as error:  # also wrong encodings
        raise SceneError(f"{name} is damaged or truncated: {error}") from error


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")
