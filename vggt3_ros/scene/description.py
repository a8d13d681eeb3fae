"""scene.json: the readable part of a stored scene, and the checks on what is read back."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import check_pose, se3
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.descent import SCENE_ID, parse_loops, parse_origins
from vggt3_ros.scene.entries import Entries, parse_json
from vggt3_ros.scene.keyframe_list import KEYFRAMES, parse_keyframes
from vggt3_ros.scene.older_versions import OLDER, SCENE_UNITS, UNSEALED, upgraded
from vggt3_ros.scene.scene import Corner, Parent, Scene, Sibling
from vggt3_ros.scene.seal import CHECKSUM, SHA256, check_seal, sealed
from vggt3_ros.scene.verification import (
    MAX_SCALE,
    MIN_SCALE,
    MapCalibration,
    MapVerdict,
    check_range,
)

FORMAT = "vggt3_scene"
VERSION = 5
DESCRIPTION = "scene.json"
MEMORY = "memory.safetensors"
POINTS = "points.ply"
# only in scenes that have some
LANDMARKS = "landmarks.safetensors"
DEPTH = "depth.safetensors"
IMAGES = "images.safetensors"
FILES = (DESCRIPTION, KEYFRAMES, MEMORY, LANDMARKS, DEPTH, IMAGES, POINTS)
_MAP = "map"
_VERDICT = ("verified", "reason", "poses")
_ENTRIES = (
    "format",
    "version",
    "scene_id",
    "created",
    "model_id",
    "model_fingerprint",
    "input_size",
    "frames",
    "ttt_steps",
    "map_frame",
    "made_by",
    "map_from_scene",
    "metric",
    "metric_source",
    "metric_residual_m",
    "up_source",
    "verification",
    "calibration",
    "points_frame",
    "points_refined",
    "bounds",
    "files",
)
# left out of a scene that has none
_PARENTS = "parents"
SIBLINGS = "siblings"
_ORIGINS = "origins"
_LOOPS = "loops"
_OPTIONAL = (_PARENTS, SIBLINGS, _ORIGINS, _LOOPS)


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of a file of a scene."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Description:
    """Content of scene.json: its version, its entries in the form of the present one, and the
    record of every file.
    """

    version: int
    entries: Entries
    files: dict[str, FileRecord]


def describe(scene: Scene, files: dict[str, FileRecord]) -> bytes:
    """scene.json for a scene whose other files have the given records."""
    values = (
        FORMAT,
        VERSION,
        scene.scene_id,
        scene.created,
        scene.model_id,
        scene.model_fingerprint,
        scene.input_size,
        len(scene.keyframes),
        scene.ttt_steps,
        scene.map_frame,
        scene.made_by,
        scene.map_from_scene.to_dict(),
        scene.is_metric,
        scene.metric_source,
        scene.metric_residual_m,
        scene.up_source,
        scene.verification,
        scene.calibration_entry,
        _MAP,
        scene.has_refined_points,
        scene.bounds,
        {name: asdict(record) for name, record in files.items()},
    )
    entries: dict[str, Any] = dict(zip(_ENTRIES, values, strict=True))
    optional = {
        _PARENTS: [asdict(parent) for parent in scene.parents],
        SIBLINGS: [asdict(sibling) for sibling in scene.siblings],
        _ORIGINS: [asdict(origin) for origin in scene.origins],
        _LOOPS: [asdict(loop) for loop in scene.loops],
    }
    entries.update({name: several for name, several in optional.items() if several})
    return sealed(entries)


def recognized(data: bytes) -> Entries:
    """The entries of scene.json, checked for the format alone. Raises SceneError if it is foreign,
    newer or no JSON.
    """
    values = parse_json(data, DESCRIPTION)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise SceneError(
            f"{DESCRIPTION} is not vggt3_ros's: it lacks the entry format = {FORMAT!r}"
        )
    entries = Entries(values, DESCRIPTION)
    version = entries.count("version", low=1)
    if version not in (*OLDER, VERSION):
        known = f"{', '.join(map(str, OLDER))} and {VERSION}"
        remedy = "update vggt3_ros, or map" if version > VERSION else "map"
        raise SceneError(
            f"the scene has format version {version}, this program reads {known}; {remedy} the"
            " place again with this one"
        )
    return entries


def parse_description(data: bytes) -> Description:
    """Read scene.json. Raises SceneError when it is damaged, foreign, of a newer format or was
    edited by hand.
    """
    entries = recognized(data)
    version = entries.count("version")
    if version > UNSEALED or CHECKSUM in entries.values:
        check_seal(data, entries)
    files = _files(entries.part("files"))
    if version in OLDER:
        entries = upgraded(entries, LANDMARKS in files)
    entries.require(_ENTRIES, (CHECKSUM, *_OPTIONAL))
    return Description(version, entries, files)


def assemble(
    description: Description,
    keyframes: bytes,
    memory: dict[str, Tensor],
    landmarks: dict[str, Tensor],
    points: PointCloud,
    depth: KeyframeDepth | None,
    images: Tensor | None,
) -> Scene:
    """Put a scene together from its parts. Raises SceneError for an entry missing or wrong, or at
    odds with others.
    """
    entries = description.entries
    try:
        map_from_scene = _similarity(entries.part("map_from_scene"))
        bounds = _bounds(entries)
        if description.version == SCENE_UNITS:
            points = points.transformed(map_from_scene)
            bounds = _box_in(map_from_scene, bounds)
        verdict, report = _verdict(entries.part("verification"))
        height, width = entries.counts("input_size", (2,))
        frames = entries.count("frames", low=1)
        return Scene(
            memory=memory,
            keyframes=parse_keyframes(keyframes, frames),
            points=points,
            bounds=bounds,
            model_id=entries.text("model_id"),
            model_fingerprint=entries.text("model_fingerprint"),
            input_size=(height, width),
            ttt_steps=entries.count("ttt_steps"),
            map_from_scene=map_from_scene,
            is_metric=entries.flag("metric"),
            metric_source=entries.text("metric_source"),
            metric_residual_m=_residual(entries),
            up_source=entries.text("up_source"),
            landmarks=landmarks,
            verdict=verdict,
            calibration=_calibration(entries, frames),
            report=report,
            has_refined_points=_refined(entries, description.files),
            depth=depth,
            images=images,
            map_frame=entries.text("map_frame"),
            made_by=entries.text("made_by"),
            parents=_parents(entries),
            siblings=_siblings(entries),
            origins=parse_origins(_several(entries, _ORIGINS)),
            loops=parse_loops(_several(entries, _LOOPS)),
            scene_id=entries.text("scene_id", *SCENE_ID),
            created=_created(entries),
        )
    except InputError as error:
        raise SceneError(f"{DESCRIPTION}: {error}") from error


def _files(records: Entries) -> dict[str, FileRecord]:
    records.require((KEYFRAMES, MEMORY, POINTS), (LANDMARKS, DEPTH, IMAGES))
    files = {}
    for name in records.values:
        record = records.part(name)
        record.require(("size", "sha256"))
        files[name] = FileRecord(
            record.count("size"), record.text("sha256", SHA256, "the 64 digits of a SHA-256")
        )
    return files


def _verdict(entries: Entries) -> tuple[MapVerdict, dict[str, Any]]:
    """The verdict, and the other entries beside it: the report."""
    verdict = MapVerdict(entries.flag("verified"), entries.text("reason"), entries.text("poses"))
    return verdict, {name: value for name, value in entries.values.items() if name not in _VERDICT}


def _calibration(entries: Entries, frames: int) -> MapCalibration | None:
    if entries.values["calibration"] is None:
        return None
    numbers = entries.part("calibration")
    # colour_difference: there since points are compared with images
    numbers.require(("image_sizes_wh", "focal_factor", "depth_scale"), ("colour_difference",))
    sides = numbers.counts("image_sizes_wh", (frames, 2))
    sizes_wh = tuple(zip(sides[::2], sides[1::2], strict=True))
    difference = None
    if numbers.values.get("colour_difference") is not None:
        difference = numbers.number("colour_difference")
    return MapCalibration(
        sizes_wh, numbers.number("focal_factor"), numbers.number("depth_scale"), difference
    )


def _similarity(entries: Entries) -> Sim3:
    entries.require(("scale", "rotation", "translation"))
    scale = entries.number("scale")
    check_range("scale of map_from_scene", scale, MIN_SCALE, MAX_SCALE)
    similarity = Sim3(
        scale, entries.numbers("rotation", (3, 3)), entries.numbers("translation", (3,))
    )
    check_pose(se3(similarity.rotation, similarity.translation), "map_from_scene")
    return similarity


def _residual(entries: Entries) -> float | None:
    if entries.values["metric_residual_m"] is None:
        return None
    residual = entries.number("metric_residual_m")
    check_range("metric_residual_m", residual, 0.0, MAX_SCALE)
    return residual


def _refined(entries: Entries, files: dict[str, FileRecord]) -> bool:
    """Whether points are of refined depth, which then has to be there. What its frame is called is
    checked as well.
    """
    entries.text("points_frame", _MAP, repr(_MAP))
    refined = entries.flag("points_refined")
    if refined and DEPTH not in files:
        raise SceneError(
            f"{DESCRIPTION} says that points are of refined depth, but has no {DEPTH} among its"
            " files"
        )
    return refined


def _parents(entries: Entries) -> tuple[Parent, ...]:
    parents = []
    for parent in _several(entries, _PARENTS):
        parent.require(("scene_id", "name", "same_frame"))
        scene_id = parent.text("scene_id", *SCENE_ID)
        parents.append(Parent(scene_id, parent.text("name"), parent.flag("same_frame")))
    return tuple(parents)


def _siblings(entries: Entries) -> tuple[Sibling, ...]:
    siblings = []
    for sibling in _several(entries, SIBLINGS):
        sibling.require(("scene_id", "name", "frames"))
        scene_id = sibling.text("scene_id", *SCENE_ID)
        siblings.append(Sibling(scene_id, sibling.text("name"), sibling.texts("frames")))
    return tuple(siblings)


def _several(entries: Entries, name: str) -> list[Entries]:
    """The objects of an entry that scenes without any leave out."""
    return entries.parts(name) if name in entries.values else []


def _created(entries: Entries) -> str:
    text = entries.text("created")
    try:
        year = datetime.fromisoformat(text).year
    except ValueError:
        year = 0
    if not 1970 <= year < 9999:
        raise SceneError(
            f"{DESCRIPTION}: created must be a date and time of ISO 8601 since 1970, got {text!r}"
        )
    return text


def _bounds(entries: Entries) -> tuple[Corner, Corner]:
    low, high = entries.numbers("bounds", (2, 3))
    return _corner(low), _corner(high)


def _box_in(map_from_scene: Sim3, box: tuple[Corner, Corner]) -> tuple[Corner, Corner]:
    """The box along the axes of the map around a box along those of the scene."""
    corners = torch.tensor(list(itertools.product(*zip(*box, strict=True))), dtype=torch.float64)
    inside = map_from_scene.points(corners)
    return _corner(inside.amin(0)), _corner(inside.amax(0))


def _corner(values: Tensor) -> Corner:
    x, y, z = values.tolist()
    return x, y, z
