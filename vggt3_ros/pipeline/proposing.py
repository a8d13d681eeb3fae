"""What the network proposes of a frame: a camera by the memory of the scene, or by the keyframes
most like it.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import LARGE
from vggt3_ros.model.prediction import SceneMemory, UndecodedPrediction
from vggt3_ros.pipeline.bending import Bending
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.local import LocalProposer
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.preprocess import PreparedFrames, prepare
from vggt3_ros.pipeline.resample import Resampler
from vggt3_ros.scene.scene import Scene
from vggt3_ros.threads import one_torch_thread

_BY_MEMORY = "proposed from the memory of the scene"


@dataclass(frozen=True, eq=False)
class Proposed:
    """What the memory makes of a frame: the answer if nothing else is asked, the frame as it was
    prepared, and the network's prediction if that is finite.
    """

    answer: Localization
    prepared: PreparedFrames
    undecoded: UndecodedPrediction | None


class Proposer:
    """The network's answers to frames in one scene. no_local: why keyframes are never asked though
    the settings would, empty otherwise.

    Raises SceneError for a scene without images of keyframes where nothing else may be asked.
    """

    def __init__(self, scene: Scene, network: Vggt3, settings: LocalizerSettings) -> None:
        self.scene = scene
        self.network = network
        self.no_local = ""
        self._memory = SceneMemory.from_tensors(scene.memory).to(network.device)
        on_cpu = network.device.type == "cpu"
        self._is_small = on_cpu and sum(p.numel() for p in network.parameters()) < LARGE
        self._resampler = None if on_cpu else Resampler(network.device)  # Pillow is faster there
        self._bending: Bending | None = None  # how network poses are brought into the adjusted map
        if scene.is_verified:
            keyframes = se3_inverse(scene.keyframes.cam_from_world)
            scale = scene.map_from_scene.scale
            self._bending = Bending.fit(keyframes, scene.map_from_keyframes, scale)
        self._local: LocalProposer | None = None
        if settings.propose != "memory":
            try:
                self._local = LocalProposer(scene, network, settings.neighbours)
            except SceneError as error:
                if settings.propose == "local":
                    raise
                self.no_local = str(error)

    def by_memory(self, frame: Frame) -> Proposed:
        """A camera by the scene's memory; LOST where the network's answer is not finite."""
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        long_side = max(self.scene.input_size)
        patch_size = self.network.config.patch_size
        prepared = prepare([frame], long_side, patch_size, self._resampler)
        ready = time.perf_counter()
        with self._threads():
            undecoded = self.network.query_undecoded(prepared.images, self._memory, pointmap=False)
        undecoded = replace(undecoded, pose_encoding=undecoded.pose_encoding.cpu())
        seconds = {"prepare": ready - begin, "network": time.perf_counter() - ready}
        cpu_seconds = {"network": time.process_time() - cpu_begin}
        if not bool(undecoded.pose_encoding.isfinite().all()):
            reason = "the network returned a pose that is not finite"
            lost = Localization.lost(reason, self.scene.is_metric, seconds)
            return Proposed(replace(lost, cpu_seconds=cpu_seconds), prepared, None)
        cameras = undecoded.cameras
        known = prepared.intrinsics
        map_from_cam = self._in_map(cameras.world_from_cam[0])
        answer = Localization(
            status=LocalizationStatus.UNVERIFIED,
            reason=f"{_BY_MEMORY}; verified by nothing",
            map_from_cam=map_from_cam,
            metric=self.scene.is_metric,
            confidence=math.nan,
            intrinsics=(cameras.intrinsics if known is None else known)[0],
            depth=None,
            seconds=seconds,
            network_map_from_cam=map_from_cam,
            proposed_by="memory",
            proposal=_BY_MEMORY,
            cpu_seconds=cpu_seconds,
        )
        return Proposed(answer, prepared, undecoded)

    def by_keyframes(self, frame: Frame, answer: Localization) -> Localization | None:
        """An answer with what the keyframes like the frame propose in place of its proposal; None
        where they propose nothing. What landmarks say in it stays.
        """
        if self._local is None:
            return None
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        config = self.network.config
        size_hw = self.scene.input_size
        prepared = prepare([frame], config.image_size, config.patch_size, self._resampler, size_hw)
        with self._threads():
            local = self._local.propose(prepared.images)
        if local is None:
            return None
        cpu_spent = time.process_time() - cpu_begin
        network = answer.cpu_seconds.get("network", 0.0) + cpu_spent
        found = replace(
            answer,
            seconds={**answer.seconds, "local": time.perf_counter() - begin},
            network_map_from_cam=local.map_from_cam,
            proposed_by="local",
            proposal=local.proposal,
            cpu_seconds={**answer.cpu_seconds, "network": network},
        )
        if answer.located is not None:
            return found
        return replace(
            found,
            status=LocalizationStatus.UNVERIFIED,
            reason=f"{local.proposal}; verified by nothing",
            map_from_cam=local.map_from_cam,
        )

    def with_depth(self, answer: Localization, undecoded: UndecodedPrediction) -> Localization:
        """The answer with the network's depth and what it thinks of it; the time counts as the
        network's.
        """
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        with self._threads():
            prediction = undecoded.decode().to("cpu")
        median = float(prediction.depth_confidence.median())
        spent = time.perf_counter() - begin
        cpu_spent = time.process_time() - cpu_begin
        return replace(
            answer,
            confidence=1 - 1 / median if math.isfinite(median) else 0.0,
            depth=self._depth_scale * prediction.depth[0],
            seconds={**answer.seconds, "network": answer.seconds["network"] + spent},
            cpu_seconds={
                **answer.cpu_seconds,
                "network": answer.cpu_seconds["network"] + cpu_spent,
            },
        )

    def _in_map(self, scene_from_cam: Tensor) -> Tensor:
        if self._bending is None:
            return self.scene.map_from_scene.poses(scene_from_cam)
        return self._bending.map_from_cam(scene_from_cam)

    def _threads(self) -> AbstractContextManager[int | None]:
        """How torch works on one image: small networks keep no more than one core of a CPU busy."""
        return one_torch_thread() if self._is_small else nullcontext()

    @property
    def _depth_scale(self) -> float:
        """Map units per predicted unit of depth: a weak network's poses and depths differ in
        scale.
        """
        calibration = self.scene.calibration
        return self.scene.map_from_scene.scale if calibration is None else calibration.depth_scale
