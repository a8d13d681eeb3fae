"""The map: fixed-size memory of the network, keyframes, coloured points, scale and provenance."""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.descent import Loop, Origin, check_descent
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

Corner = tuple[float, float, float]


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Parent:
    """A scene that another one was made from: its scene_id, and what its folder was called.

    same_frame: poses in it are poses in the other one, too.
    """

    scene_id: str
    name: str
    same_frame: bool = False


@dataclass(frozen=True)
class Sibling:
    """Another part of the drive that a scene was made of, which nothing ties to it: the scene_id of
    the scene that it became, what the folder of that is called beside this one, and the names of
    its frames.
    """

    scene_id: str
    name: str
    frames: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Keyframes:
    """The S frames a scene was made of, in the order of the network's camera tokens.

    names: S strings. stamps_ns: S integers. cam_from_world (S, 3, 4) float64, scene units, the
    first one is the identity up to the network's accuracy. intrinsics (S, 3, 3) float64 in pixels
    of input_size. Raises InputError when the lengths or shapes disagree or a number is not finite.
    """

    names: tuple[str, ...]
    stamps_ns: tuple[int, ...]
    cam_from_world: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(self.stamps_ns) != count:
            raise InputError(
                f"{count} names but {len(self.stamps_ns)} stamps; give one of each per keyframe"
            )
        for name, value, shape in (
            ("cam_from_world", self.cam_from_world, (count, 3, 4)),
            ("intrinsics", self.intrinsics, (count, 3, 3)),
        ):
            if tuple(value.shape) != shape or value.dtype != torch.float64:
                got = f"{tuple(value.shape)} {value.dtype}"
                raise InputError(f"keyframes.{name} must be {shape} float64; got {got}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"keyframes.{name} contains NaN or infinity; leave that frame out")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Scene:
    """A reconstructed place; but for the list of keyframes its size does not depend on the number
    of frames.

    memory: named tensors of the network (what its global layers keep, and camera tokens); empty in
    scenes of softmax networks of earlier versions. map_from_scene: similarity from scene units into
    the map frame: metres if is_metric, and Z up as far as up_source says so ("pose_priors",
    "floor", "cameras", ...).
    metric_source says where the scale came from or why there is none ("pose_priors", "depth",
    "camera_height", "none: ..."); metric_residual_m is the rms position disagreement of what was
    used, where that is known. landmarks: named tensors of the landmarks, in the map frame; empty
    when poses cannot be verified, for the reason in verdict. calibration: what localizing with
    landmarks computes with; None only without any. report: figures for people, plain data for JSON;
    nothing computes with it. depth: of every keyframe's pixels, in the map frame; None in scenes
    without any. images (S, 3, H, W) uint8 RGB of the keyframes as the network saw them, H and W as
    of input_size; None where they were not kept. has_refined_points: the points are of that depth,
    on the surfaces of the place; the network's are about there. points and bounds (lowest and
    highest corner, each 3 numbers) are in the map frame. made_by: whose scene it is where several
    robots save in one folder: the mapper's full name and ROS domain; empty for scenes of nobody in
    particular. parents: the scenes that this one was made from; empty for one made of images alone.
    siblings: the other parts of a drive that came apart, each a scene of its own.
    origins: whose keyframes they were first; empty where they are this scene's own. loops: pairs of
    keyframes that closed loops of drives.
    Raises InputError when the parts contradict each other.
    """

    memory: dict[str, Tensor]
    keyframes: Keyframes
    points: PointCloud
    bounds: tuple[Corner, Corner]
    model_id: str
    model_fingerprint: str
    input_size: tuple[int, int]  # (H, W) pixels of the network input
    ttt_steps: int
    map_from_scene: Sim3 = field(default_factory=Sim3.identity)
    is_metric: bool = False
    metric_source: str = "none"
    metric_residual_m: float | None = None
    up_source: str = "none"
    landmarks: dict[str, Tensor] = field(default_factory=dict)
    verdict: MapVerdict = MapVerdict(False, "there are no landmarks")
    calibration: MapCalibration | None = None
    report: dict[str, Any] = field(default_factory=dict)
    depth: KeyframeDepth | None = None
    images: Tensor | None = None
    has_refined_points: bool = False
    map_frame: str = "map"
    made_by: str = ""
    parents: tuple[Parent, ...] = ()
    siblings: tuple[Sibling, ...] = ()
    origins: tuple[Origin, ...] = ()
    loops: tuple[Loop, ...] = ()
    scene_id: str = field(default_factory=_new_id)
    created: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not all(
            math.isfinite(a) and math.isfinite(b) and a <= b for a, b in zip(low, high, strict=True)
        ):
            raise InputError(
                f"bounds must be a finite lowest and highest corner; got {low} and {high}"
            )
        if not self.map_frame:
            raise InputError(
                'map_frame is empty; name the frame the map is expressed in, for example "map"'
            )
        if not self.is_metric and self.metric_residual_m is not None:
            raise InputError("metric_residual_m is given but the scene is not metric; leave it out")
        if len({self.scene_id, *(parent.scene_id for parent in self.parents)}) <= len(self.parents):
            raise InputError(
                f"scene {self.scene_id} has a parent twice, or itself among its parents; name each"
                " scene once"
            )
        if len({self.scene_id, *(each.scene_id for each in self.siblings)}) <= len(self.siblings):
            raise InputError(
                f"scene {self.scene_id} has a sibling twice, or itself among its siblings; name"
                " each scene once"
            )
        check_descent(self.origins, self.loops, len(self.keyframes))
        if self.depth is not None and len(self.depth) != len(self.keyframes):
            raise InputError(
                f"there is depth of {len(self.depth)} keyframes, but there are"
                f" {len(self.keyframes)}"
            )
        expected = (len(self.keyframes), 3, *self.input_size)
        if self.images is not None and (
            tuple(self.images.shape) != expected or self.images.dtype != torch.uint8
        ):
            got = f"{tuple(self.images.shape)} {self.images.dtype}"
            raise InputError(f"images of keyframes must be {expected} torch.uint8, got {got}")
        if asdict(self.verdict).keys() & self.report.keys():
            raise InputError("the report repeats an entry of the verdict; leave it out")
        if self.verdict.verified and not self.landmarks:
            raise InputError(
                "the verdict is that poses can be verified, but there are no landmarks to do it"
                " with"
            )
        if self.landmarks and self.calibration is None:
            raise InputError("there are landmarks, but no calibration to use them with")
        if self.calibration is not None and len(self.calibration.image_sizes_wh) != len(
            self.keyframes
        ):
            sizes = len(self.calibration.image_sizes_wh)
            raise InputError(
                f"there are image sizes of {sizes} keyframes, but there are {len(self.keyframes)}"
            )

    def successor(self, **changes: Any) -> Scene:
        """A scene of its own with other fields: with a new id, made now."""
        return replace(self, **changes, scene_id=_new_id(), created=_now())

    def continues(self, scene_id: str) -> bool:
        """Whether this scene was made from that one and is in its frame."""
        return any(parent.scene_id == scene_id and parent.same_frame for parent in self.parents)

    @property
    def metric_from_scene(self) -> Sim3 | None:
        """From scene units into metres of the map frame; None if the scale is unknown."""
        return self.map_from_scene if self.is_metric else None

    @property
    def is_verified(self) -> bool:
        """Whether there are landmarks that poses can be verified against."""
        return self.verdict.verified

    @property
    def verification(self) -> dict[str, Any]:
        """Verdict and report in one, as people find them in scene.json and in the JSON of
        commands.
        """
        return {**asdict(self.verdict), **self.report}

    @property
    def calibration_entry(self) -> dict[str, Any] | None:
        """The calibration as plain data for JSON, beside `verification`."""
        return None if self.calibration is None else asdict(self.calibration)

    @property
    def map_from_keyframes(self) -> Tensor:
        """Poses (S, 4, 4) of the keyframes in the map: adjusted to the landmarks, otherwise as the
        network has them.
        """
        if "world_from_cam" in self.landmarks:
            return self.landmarks["world_from_cam"]
        return self.map_from_scene.poses(se3_inverse(self.keyframes.cam_from_world))

    @property
    def keyframes_with_landmarks(self) -> tuple[int, ...]:
        """Indices of the keyframes that observe landmarks; the others stand wherever the network
        put them.
        """
        if "observed_from" not in self.landmarks:
            return ()
        return tuple(torch.unique(self.landmarks["observed_from"]).tolist())

    @property
    def own_frames(self) -> tuple[str, ...]:
        """Names of the keyframes that observe landmarks: the frames of this part of the drive."""
        return tuple(self.keyframes.names[row] for row in self.keyframes_with_landmarks)

    @property
    def frames_in_no_part(self) -> tuple[str, ...]:
        """Names of the keyframes that observe no landmarks, and are in no sibling; none where poses
        cannot be verified.
        """
        if not self.is_verified:
            return ()
        elsewhere = {name for sibling in self.siblings for name in sibling.frames}
        taken = elsewhere | set(self.own_frames)
        return tuple(name for name in self.keyframes.names if name not in taken)

    def require_calibration(self) -> MapCalibration:
        """The calibration that comes with landmarks. Raises SceneError where there are none."""
        if self.calibration is None:
            raise SceneError(
                f"scene {self.scene_id} has no landmarks ({self.verdict.reason}); map the place"
                " again"
            )
        return self.calibration

    def require_network(self, fingerprint: str) -> None:
        """Raise SceneError unless the scene was made by the network with this fingerprint."""
        if self.model_fingerprint != fingerprint:
            raise SceneError(
                f"scene {self.scene_id} was made by network {self.model_id!r} with fingerprint"
                f" {self.model_fingerprint}, the network in use has {fingerprint}; fast weights of"
                " one network mean nothing to another: use the network that made it, or map the"
                " place again"
            )
