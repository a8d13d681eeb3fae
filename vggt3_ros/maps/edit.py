"""A scene edited: without some of its keyframes, cut to a box, scaled by distances that were
measured, or turned so that its floor is level.

Each edit gives a new scene, and says what was done and what does not follow it. Boxes and distances
are in the map frame of the scene that is edited.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.files import check_known
from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.verdict import MIN_SHARED
from vggt3_ros.maps.part import part_of
from vggt3_ros.maps.transform import transformed
from vggt3_ros.pipeline.upright import camera_up, floor_plane
from vggt3_ros.scene.scene import Corner, Parent, Scene

_LEAST_KEYFRAMES = 2  # of a scene
_APART = 1e-3  # of the box around all keyframes: those closer together stand at one place
MEASURED = "measured distances"


@dataclass(frozen=True)
class Measured:
    """A distance in metres between the cameras of two keyframes, given by their names."""

    first: str
    second: str
    metres: float


@dataclass(frozen=True, eq=False)
class Edited:
    """A scene, what was done to it, and what does not follow, in sentences.

    is_memory_stale: whether what the network remembers was fitted to keyframes that have gone.
    same_frame: whether poses in the map stay poses in the map.
    """

    scene: Scene
    done: tuple[str, ...] = ()
    does_not_follow: tuple[str, ...] = ()
    is_memory_stale: bool = False
    same_frame: bool = True

    def then(self, scene: Scene, done: str) -> Edited:
        """After one more edit."""
        return replace(self, scene=scene, done=(*self.done, done))

    def but(self, does_not_follow: str) -> Edited:
        """With one more thing that does not follow."""
        return replace(self, does_not_follow=(*self.does_not_follow, does_not_follow))


def descendant(edited: Edited, parent: Scene, name: str) -> Scene:
    """The edited scene as one of its own: a new id, made now, of the parent, whose folder is called
    `name`; nobody's, so that no mapper deletes it.
    """
    return edited.scene.successor(
        made_by="",
        parents=(Parent(parent.scene_id, name, edited.same_frame),),
    )


def without_keyframes(edited: Edited, names: Sequence[str]) -> Edited:
    """Without the keyframes of these names; what only they saw goes with them.

    Raises InputError for a name that no keyframe has, and where too little would be left.
    """
    scene = edited.scene
    check_known(names, scene.keyframes.names, "--drop-keyframes", "keyframes")
    kept = torch.tensor([name not in names for name in scene.keyframes.names])
    _check_left(int(kept.sum()), "dropping keyframes")
    left = part_of(scene, kept)
    done = (
        f"dropped {int((~kept).sum())} of {len(kept)} keyframes,"
        f" {_landmarks(scene) - _landmarks(left)} of {_landmarks(scene)} landmarks and"
        f" {len(scene.points) - len(left.points)} of {len(scene.points)} points"
    )
    return replace(edited.then(left, done), is_memory_stale=True)


def cropped(edited: Edited, low: Corner, high: Corner) -> Edited:
    """What lies in the box between two corners of the map; keyframes stay that see enough of it.

    These are those that observe ten landmarks in it; in maps without landmarks, those that stand in
    it. Raises InputError for a box that is none, that holds no points, or too little to be a map.
    """
    scene = edited.scene
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise InputError(
            f"a box needs a lowest and a highest corner, each number of the first below that of the"
            f" second, got {list(low)} and {list(high)}"
        )
    box = (torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64))
    if not bool(_inside(scene.points.points, box).any()):
        corners = " and ".join(str(np.round(end, 2).tolist()) for end in scene.bounds)
        raise InputError(
            f"the box from {list(low)} to {list(high)} holds no point of the map, which lies"
            f" between {corners}"
        )
    kept = _seeing(scene, box)
    _check_left(int(kept.sum()), "the crop")
    left = part_of(scene, kept, lambda points: _inside(points, box))
    done = (
        f"cropped: {int(kept.sum())} of {len(kept)} keyframes, {_landmarks(left)} of"
        f" {_landmarks(scene)} landmarks and {len(left.points)} of {len(scene.points)} points stay"
    )
    rest = "the network's memory, which knows what kept keyframes show outside of the box"
    if scene.images is not None:
        rest += ", and their images, which show it"
    is_stale = edited.is_memory_stale or not bool(kept.all())
    return replace(edited.then(left, done).but(rest), is_memory_stale=is_stale)


def rotated_to_floor(edited: Edited) -> Edited:
    """Turned, no more than that takes, so that the floor is level, and moved so that it is at Z =
    0. Raises SceneError where no floor is found.
    """
    scene = edited.scene
    cameras = scene.map_from_keyframes
    points = scene.points.points
    if scene.landmarks and not scene.has_refined_points:
        points = scene.landmarks["positions"]
    floor = floor_plane(points, camera_up(cameras)[0])
    if floor is None or not float(floor.height(cameras[:, :3, 3]).median()) > 0:
        raise SceneError(
            f"no floor is found among the {len(points)} points of scene {scene.scene_id}: no large"
            " level plane lies below its cameras; map the place again with images that show the"
            " floor, or with poses whose Z is up (--poses)"
        )
    rotation, degrees = _levelling(floor.normal)
    shift = torch.tensor([0.0, 0.0, -floor.offset], dtype=torch.float64)
    turned = transformed(scene, Sim3(1.0, rotation, shift))
    turned = replace(turned, up_source="floor", report={**turned.report, "floor_z": 0.0})
    done = (
        f"turned by {degrees:.2f} degrees and moved by {-floor.offset:.3f} along Z: the floor is at"
        f" Z = 0, {100 * floor.fraction:.0f} % of the points lie on it"
    )
    return edited.then(turned, done).but(
        "poses known in the old map frame: they are others in the new"
    )


def scaled(edited: Edited, distances: Sequence[Measured], original: Scene) -> Edited:
    """In metres, by distances that were measured between cameras of keyframes; by least squares
    where there are several.

    original: the scene before all edits, whose keyframes the distances name. Raises InputError for
    names that no keyframe or several have, and keyframes at one place.
    """
    measured = np.array([each.metres for each in distances])
    found = np.array([_distance(original, each) for each in distances])
    factor = float((measured * found).sum() / (found * found).sum())
    residual = float(np.sqrt(np.mean((factor * found - measured) ** 2)))
    origin = torch.zeros(3, dtype=torch.float64)
    larger = transformed(edited.scene, Sim3(factor, torch.eye(3, dtype=torch.float64), origin))
    metric = replace(
        larger,
        is_metric=True,
        metric_source=MEASURED,
        metric_residual_m=residual if len(distances) > 1 else None,
    )
    done = f"scaled by {factor:.5g}: the map is in metres"
    if len(distances) > 1:
        done += f", {len(distances)} measured distances are kept to {residual:.3f} m rms"
    return replace(edited.then(metric, done), same_frame=False)


def _check_left(count: int, what: str) -> None:
    if count < _LEAST_KEYFRAMES:
        raise InputError(
            f"{what} would leave {count} keyframes; a scene needs {_LEAST_KEYFRAMES} at least:"
            " drop fewer, or give a larger box"
        )


def _seeing(scene: Scene, box: tuple[Tensor, Tensor]) -> Tensor:
    """Which keyframes (S,) see enough of what is in the box, or, without landmarks, stand in it."""
    if not scene.landmarks:
        return _inside(scene.map_from_keyframes[:, :3, 3], box)
    inside = _inside(scene.landmarks["positions"], box)
    seen = inside[scene.landmarks["observed"].long()]
    counts = torch.bincount(
        scene.landmarks["observed_from"].long()[seen], minlength=len(scene.keyframes)
    )
    return counts >= MIN_SHARED


def _inside(points: Tensor, box: tuple[Tensor, Tensor]) -> Tensor:
    """Which of points (..., 3) are in the box."""
    low, high = box
    return ((points.double() >= low) & (points.double() <= high)).all(-1)


def _levelling(normal: Tensor) -> tuple[Tensor, float]:
    """The least rotation (3, 3) that makes a normal (3,) of unit length Z, and its angle in
    degrees.
    """
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    axis = torch.linalg.cross(normal, up)
    sine = float(axis.norm())
    angle = math.atan2(sine, float(normal @ up))
    if sine < 1e-12:
        axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        sine = 1.0
    return rotation_from_axis_angle(axis / sine * angle), math.degrees(angle)


def _distance(scene: Scene, measured: Measured) -> float:
    """How far apart the two keyframes are in the map. Raises InputError where that tells
    nothing.
    """
    positions = []
    for name in (measured.first, measured.second):
        check_known([name], scene.keyframes.names, "--scale", "keyframes")
        rows = [row for row, other in enumerate(scene.keyframes.names) if other == name]
        if len(rows) > 1:
            raise InputError(f"--scale: {len(rows)} keyframes are called {name!r}; name others")
        positions.append(scene.map_from_keyframes[rows[0], :3, 3])
        if scene.landmarks and rows[0] not in scene.keyframes_with_landmarks:
            raise InputError(
                f"--scale: no landmarks say where keyframe {name!r} stands; name another one"
            )
    distance = float((positions[0] - positions[1]).norm())
    extent = scene.map_from_keyframes[:, :3, 3]
    if not distance > _APART * float((extent.amax(0) - extent.amin(0)).norm()):
        raise InputError(
            f"--scale: keyframes {measured.first!r} and {measured.second!r} stand at one place, so"
            " their distance tells no scale; name two that are far apart"
        )
    return distance


def _landmarks(scene: Scene) -> int:
    return len(scene.landmarks["positions"]) if scene.landmarks else 0
