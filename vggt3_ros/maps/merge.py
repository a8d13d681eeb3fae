"""Several scenes of one place become one: in the frame of the oldest that has metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.pointcloud import PointCloud, at_most, concatenated, voxel_thin
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.tensors import LandmarkTensors, to_array, to_tensor
from vggt3_ros.maps.overlap import NoOverlap, Overlap, Side, find_overlap
from vggt3_ros.maps.seam import Joined, join
from vggt3_ros.pipeline.points import PointSettings
from vggt3_ros.progress import Progress, StageProgress
from vggt3_ros.scene.bounds import bounds_of
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.descent import Origin, later_loops
from vggt3_ros.scene.scene import Keyframes, Parent, Scene, Sibling
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

_VOXEL = 0.02  # metres, between points of a merged cloud
_VOXEL_SHARE = 0.01  # of the usual distance to landmarks, where there are no metres


@dataclass(frozen=True)
class MergeSettings:
    """Most landmarks and points of a merged scene."""

    max_landmarks: int = LandmarkSettings.budget
    max_points: int = PointSettings.max_points

    def __post_init__(self) -> None:
        for name in ("max_landmarks", "max_points"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True, eq=False)
class Merged:
    """The scene, and what of its parents it does not hold, in sentences."""

    scene: Scene
    left_out: tuple[str, ...]


class CannotMergeError(SceneError):
    """Scenes do not overlap, or contradict each other."""


def merge(
    scenes: Sequence[Scene],
    names: Sequence[str],
    settings: MergeSettings | None = None,
    progress: StageProgress | None = None,
    frame_of: int | None = None,
) -> Merged:
    """One scene of several verified ones of the same network, in whatever order they are given.

    It is in the frame of scenes[frame_of], by default of the oldest, of those in metres if there
    are any. What the network remembers is of that one alone: `refit` makes it anew where the scene
    has images. names: what the scenes are called, for messages and ancestry. progress(stage, 0..1)
    may raise to cancel. Raises SceneError where a scene cannot be merged, CannotMergeError where
    one overlaps with none of the others.
    """
    settings = settings or MergeSettings()
    parts = _sorted(scenes, names, None if frame_of is None else scenes[frame_of].scene_id)
    whole = parts[0]
    left = parts[1:]
    left_out: list[str] = []
    while left:
        done = len(parts) - len(left) - 1

        def report(stage: str, fraction: float, done: int = done) -> None:
            if progress is not None:
                progress(stage, (done + fraction) / (len(parts) - 1))

        side = side_of(whole.scene)
        finds = [
            find_overlap(side, side_of(part.scene), lambda f: report("overlap", 0.8 * f))
            for part in left
        ]
        best = max(range(len(left)), key=lambda i: _ties(finds[i]))
        overlap = finds[best]
        if isinstance(overlap, NoOverlap):
            raise CannotMergeError(_apart(whole, left, finds))
        part = left.pop(best)
        whole, missing = _joined(
            whole, part, overlap, settings, lambda f: report("seam", 0.8 + 0.2 * f)
        )
        left_out += missing
    scene = whole.scene.successor(
        parents=tuple(
            Parent(part.scene.scene_id, part.name, same_frame=part is parts[0]) for part in parts
        ),
        siblings=_siblings(parts),
        made_by="",
    )
    if scene.images is None:
        left_out.append(
            f"what the network remembers: of {parts[0].name} alone, since not all have images of"
            " their keyframes (--keep-images of `vggt3 map`, keep_images of the mapper)"
        )
    return Merged(scene, tuple(left_out))


@dataclass(frozen=True, eq=False)
class _Part:
    """A scene and what it is called."""

    scene: Scene
    name: str


def _sorted(scenes: Sequence[Scene], names: Sequence[str], first_id: str | None) -> list[_Part]:
    """The scenes, that whose frame stays first. Raises SceneError unless they can be merged at
    all.
    """
    parts = [_Part(scene, name) for scene, name in zip(scenes, names, strict=True)]
    if len(parts) < 2:
        raise InputError(f"merging needs at least two scenes, got {len(parts)}")
    for part in parts:
        check_mergeable(part.scene, part.name, parts[0].scene.model_fingerprint)
    ids = [part.scene.scene_id for part in parts]
    for index, part in enumerate(parts):
        first = ids.index(part.scene.scene_id)
        if first != index:
            raise SceneError(
                f"{part.name} is the same scene as {parts[first].name}; name every scene once"
            )
    return sorted(
        parts,
        key=lambda part: (
            part.scene.scene_id != first_id,
            not part.scene.is_metric,
            part.scene.created,
            part.scene.scene_id,
        ),
    )


def _siblings(parts: Sequence[_Part]) -> tuple[Sibling, ...]:
    """Siblings of the parts that are not among these themselves, nor what they were made from."""
    known = {part.scene.scene_id for part in parts}
    known |= {parent.scene_id for part in parts for parent in part.scene.parents}
    siblings = [sibling for part in parts for sibling in part.scene.siblings]
    return tuple({each.scene_id: each for each in siblings if each.scene_id not in known}.values())


def check_mergeable(scene: Scene, name: str, fingerprint: str) -> None:
    """Raise SceneError unless a scene, called `name`, can be merged with those of the network with
    this fingerprint.
    """
    if not scene.is_verified:
        raise SceneError(
            f"{name} cannot be merged: it has no landmarks that could be found in the others"
            f" ({scene.verdict.reason}); map the place again"
        )
    scene.require_network(fingerprint)


def side_of(scene: Scene) -> Side:
    """What of a verified scene says where others lie in it."""
    surface = to_array(scene.points.points.double()) if scene.has_refined_points else None
    return Side(
        Landmarks.from_tensors(scene.landmarks),
        scene.require_calibration().image_sizes_wh,
        surface,
        scene.is_metric,
    )


def _ties(found: Overlap | NoOverlap) -> int:
    return -1 if isinstance(found, NoOverlap) else len(found.pairs)


def _apart(whole: _Part, left: Sequence[_Part], finds: Sequence[Overlap | NoOverlap]) -> str:
    """Why none of the scenes that are left can be joined to the first."""
    reasons = "; ".join(
        f"{part.name}: {found.reason}"
        for part, found in zip(left, finds, strict=True)
        if isinstance(found, NoOverlap)
    )
    return (
        f"these scenes cannot be merged with {whole.name}: {reasons}. Drive through what lies"
        " between them, or leave them out"
    )


def _joined(
    a: _Part, b: _Part, overlap: Overlap, settings: MergeSettings, progress: Progress
) -> tuple[_Part, list[str]]:
    """Two scenes as one, named by both; and what it lacks of the second."""
    a_from_b = overlap.a_from_b
    own = Landmarks.from_tensors(a.scene.landmarks)
    other = Landmarks.from_tensors(b.scene.landmarks).transformed(a_from_b)
    joined = join(own, other, overlap.pairs, settings.max_landmarks, progress)
    if joined.objection is not None:
        raise CannotMergeError(f"{b.name} cannot be merged with {a.name}: {joined.objection}")
    depth, missing = _depth(a, b, a_from_b, joined)
    images, blind = _images(a, b)
    points = _points(a.scene, b.scene, a_from_b, settings.max_points)
    scene = replace(
        a.scene,
        keyframes=_keyframes(a.scene, b.scene, joined),
        points=points,
        bounds=bounds_of(points, to_tensor(joined.landmarks.world_from_cam)),
        landmarks=joined.landmarks.tensors(),
        verdict=_verdict(a.scene, joined),
        calibration=_calibration(a.scene, b.scene),
        report=_report(a, b, overlap, joined),
        depth=depth,
        images=images,
        origins=(*_origins(a), *_origins(b)),
        loops=(*a.scene.loops, *later_loops(b.scene.loops, len(a.scene.keyframes))),
        has_refined_points=a.scene.has_refined_points
        and b.scene.has_refined_points
        and depth is not None,
    )
    return _Part(scene, f"{a.name} and {b.name}"), missing + blind


def _keyframes(a: Scene, b: Scene, joined: Joined) -> Keyframes:
    """Keyframes of both. To the memory, which is that of a, those of b stand where the map has
    them.
    """
    own = a.keyframes
    other = b.keyframes
    poses = LandmarkTensors(joined.landmarks).world_from_cam[len(own) :]
    scene_from_cam = a.map_from_scene.inverse().poses(poses)
    zoom = torch.ones(3, 3, dtype=torch.float64)
    for row, axis in ((0, 1), (1, 0)):
        zoom[row] = a.input_size[axis] / b.input_size[axis]
        # the scene says one factor for all
        zoom[row, row] *= (
            b.require_calibration().focal_factor / a.require_calibration().focal_factor
        )
    taken = set(own.names)
    prefix = b.scene_id[:8]
    names = [f"{prefix}/{name}" if name in taken else name for name in other.names]
    return Keyframes(
        names=(*own.names, *names),
        stamps_ns=(*own.stamps_ns, *other.stamps_ns),
        cam_from_world=torch.cat([own.cam_from_world, se3_inverse(scene_from_cam)[:, :3]]),
        intrinsics=torch.cat([own.intrinsics, zoom * other.intrinsics]),
    )


def _origins(part: _Part) -> tuple[Origin, ...]:
    """Whose keyframes a scene has: its own, unless it was made of others."""
    scene = part.scene
    return scene.origins or (Origin(scene.scene_id, part.name, len(scene.keyframes)),)


def _depth(
    a: _Part, b: _Part, a_from_b: Sim3, joined: Joined
) -> tuple[KeyframeDepth | None, list[str]]:
    """Depth of the keyframes of both, in the adjusted map; None where it does not fit together, and
    why.
    """
    own, other = a.scene.depth, b.scene.depth
    if own is None and other is None:
        return None, []
    if own is None or other is None or own.depth.shape[1:] != other.depth.shape[1:]:
        sizes = " and ".join(f"{part.name} has {_size(part.scene.depth)}" for part in (a, b))
        return None, [f"refined depth of keyframes: {sizes}"]
    images = None
    if own.images is not None and other.images is not None:
        images = torch.cat([own.images, other.images])
    return (
        KeyframeDepth(
            depth=torch.cat([own.depth, (a_from_b.scale * other.depth).to(own.depth)]),
            provenance=torch.cat([own.provenance, other.provenance]),
            intrinsics=torch.cat([own.intrinsics, other.intrinsics]),
            world_from_cam=LandmarkTensors(joined.landmarks).world_from_cam,
            images=images,
        ),
        [],
    )


def _size(depth: KeyframeDepth | None) -> str:
    if depth is None:
        return "none"
    height, width = depth.depth.shape[1:]
    return f"{width}x{height} pixels"


def _images(a: _Part, b: _Part) -> tuple[Tensor | None, list[str]]:
    """Images of the keyframes of both; None where one has none or another size, and why."""
    own, other = a.scene.images, b.scene.images
    if own is None and other is None:
        return None, []
    if own is None or other is None:
        lacks = a.name if own is None else b.name
        return None, [f"images of keyframes: {lacks} has none"]
    if own.shape[1:] != other.shape[1:]:
        return None, [f"images of keyframes: those of {a.name} and {b.name} differ in size"]
    return torch.cat([own, other]), []


def _points(a: Scene, b: Scene, a_from_b: Sim3, most: int) -> PointCloud:
    """The points of both, one per voxel, so wide that `most` suffice."""
    moved = b.points.transformed(a_from_b)
    both = concatenated([a.points, moved])
    voxel = _VOXEL
    if not a.is_metric:
        voxel = _VOXEL_SHARE * Landmarks.from_tensors(a.landmarks).usual_distance
    return at_most(most, partial(voxel_thin, both), voxel)


def _verdict(a: Scene, joined: Joined) -> MapVerdict:
    landmarks = joined.landmarks
    reason = (
        f"{len(landmarks)} landmarks tie {len(landmarks.world_from_cam)} keyframes of joined maps,"
        f" {joined.joined} of them on both sides of the seam"
    )
    return MapVerdict(True, reason, a.verdict.poses)


def _calibration(a: Scene, b: Scene) -> MapCalibration:
    own = a.require_calibration()
    other = b.require_calibration()
    sizes = (*own.image_sizes_wh, *other.image_sizes_wh)
    differences = (own.colour_difference, other.colour_difference)
    known = [each for each in differences if each is not None]
    return replace(
        own,
        image_sizes_wh=sizes,
        colour_difference=max(known) if len(known) == len(differences) else None,
    )


def _report(a: _Part, b: _Part, overlap: Overlap, joined: Joined) -> dict[str, Any]:
    """Figures for people: of every join, the first one first."""
    seam = {
        "scenes": [a.name, b.name],
        "keyframes": [len(a.scene.keyframes), len(b.scene.keyframes)],
        "keyframes_found_in_the_other": [len(found) for found in overlap.keyframes],
        "scale": overlap.a_from_b.scale,
        "landmarks_in_both": joined.joined,
        "agreeing": joined.agreeing,
        "residual": overlap.residual,
        "moved": joined.moved,
    }
    before = a.scene.report.get("seams", [])
    landmarks = joined.landmarks
    return {
        "landmarks": len(landmarks),
        "observations": len(landmarks.observed),
        "keyframes": len(landmarks.world_from_cam),
        "noise_px": landmarks.noise_px,
        "seams": [*before, seam],
    }
