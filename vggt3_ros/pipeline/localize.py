"""Use case two: the camera pose of a new frame in a scene."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory
from vggt3_ros.pipeline.cameras import predicted_cameras
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.scene.scene import Scene


class LocalizationStatus(Enum):
    """UNVERIFIED: the network proposes a pose that nothing else confirms. LOST: there is no pose."""

    UNVERIFIED = "unverified"
    LOST = "lost"


@dataclass(frozen=True, eq=False)
class Localization:
    """Where a frame was taken, or why that is unknown.

    map_from_cam (4, 4) float64, OpenCV camera axes, None when LOST: in metres if `metric`, otherwise in
    scene units. confidence 0 to 1 is the network's own opinion (of its depth), not a probability.
    intrinsics (3, 3) in pixels of the prepared image: the frame's own calibration, otherwise the network's
    estimate. depth (h, w) along z of the prepared image, in the unit of the pose. seconds per stage.
    """

    status: LocalizationStatus
    reason: str
    map_from_cam: Tensor | None
    metric: bool
    confidence: float
    intrinsics: Tensor | None
    depth: Tensor | None
    seconds: dict[str, float]


class Localizer:
    """Localizes frames, each by itself, in one scene with the network that made it.

    Raises SceneError when the scene was made by another network or holds no memory.
    """

    def __init__(self, scene: Scene, network: Vggt3) -> None:
        scene.require_network(network.fingerprint())
        if not scene.memory:
            raise SceneError(
                f"scene {scene.scene_id} holds no memory, because {scene.model_id!r} is a softmax network: "
                f"nothing can be localized in it; map the place with a 'ttt' network"
            )
        self.scene = scene
        self.network = network
        self._memory = SceneMemory.from_tensors(scene.memory).to(network.device)

    def localize(self, frame: Frame) -> Localization:
        """Pose of the frame in the map, or LOST with the reason. Keeps nothing of it."""
        begin = time.perf_counter()
        if frame.is_black:
            return self._lost("the image is black", {"total": time.perf_counter() - begin})
        config = self.network.config
        prepared = prepare([frame], config.image_size, config.patch_size)
        ready = time.perf_counter()
        prediction = self.network.query(prepared.images, self._memory).to("cpu")
        end = time.perf_counter()
        seconds = {"prepare": ready - begin, "network": end - ready, "total": end - begin}
        if not bool(prediction.pose_encoding.isfinite().all()):
            return self._lost("the network returned a pose that is not finite", seconds)
        cam_from_world, intrinsics = predicted_cameras(prediction)
        map_from_scene = self.scene.map_from_scene
        median = float(prediction.depth_confidence.median())
        return Localization(
            status=LocalizationStatus.UNVERIFIED,
            reason="proposed by the network, verified by nothing",
            map_from_cam=map_from_scene.poses(se3_inverse(cam_from_world))[0],
            metric=self.scene.is_metric,
            confidence=1 - 1 / median if math.isfinite(median) else 0.0,
            intrinsics=(intrinsics if prepared.intrinsics is None else prepared.intrinsics)[0],
            depth=map_from_scene.scale * prediction.depth[0],
            seconds=seconds,
        )

    def _lost(self, reason: str, seconds: dict[str, float]) -> Localization:
        metric = self.scene.is_metric
        return Localization(LocalizationStatus.LOST, reason, None, metric, 0.0, None, None, seconds)
