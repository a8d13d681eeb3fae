"""Use case two: the camera pose of a new frame in a scene, proposed by the network and disposed of
by landmarks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.landmarks.acceptance import LocateSettings
from vggt3_ros.landmarks.features import Features, FeatureSettings, extract, whole_image
from vggt3_ros.landmarks.joint import View, is_thin, locate_jointly
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.locate import LandmarkLocalizer, Located
from vggt3_ros.landmarks.tensors import LandmarkTensors, to_array, to_tensor
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import LARGE
from vggt3_ros.model.prediction import SceneMemory, UndecodedPrediction
from vggt3_ros.pipeline.bending import Bending
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.live_depth import LiveDepth
from vggt3_ros.pipeline.preprocess import PreparedFrames, prepare
from vggt3_ros.pipeline.resample import Resampler
from vggt3_ros.pipeline.resize import most_like, resized_intrinsics
from vggt3_ros.scene.scene import Scene
from vggt3_ros.threads import one_torch_thread

_ENOUGH_INLIERS = 45  # landmarks that agree, from which a frame is not searched in a second size


class LocalizationStatus(Enum):
    """VERIFIED: landmarks confirm the pose. UNVERIFIED: the network proposes a pose that nothing
    confirms or denies. LOST: there is no pose that could be relied upon.
    """

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    LOST = "lost"


@dataclass(frozen=True)
class LocalizerSettings:
    """refine: "refine" finds and refines poses with the landmarks, "verify" only checks the
    network's own; both refuse what the landmarks do not confirm, where the scene has landmarks.
    "none" leaves the network's poses unverified.

    features: of every frame. Where fewer than 45 landmarks agree it is searched in a second size,
    too: the whole image, or half of it where features are those of the whole image.

    depth: "network" decodes the network's depth of every frame; "refined" replaces it, where the
    pose is verified, by what keyframes know there, as far as the scene has depth. "none" spares it
    where landmarks judge the pose.
    """

    refine: Literal["refine", "verify", "none"] = "refine"
    features: FeatureSettings = field(default_factory=FeatureSettings)
    locate: LocateSettings = field(default_factory=LocateSettings)
    depth: Literal["none", "network", "refined"] = "none"

    def __post_init__(self) -> None:
        if self.refine not in ("refine", "verify", "none"):
            raise InputError(f"refine is {self.refine!r}; choose 'refine', 'verify' or 'none'")
        if self.depth not in ("none", "network", "refined"):
            raise InputError(f"depth is {self.depth!r}; choose 'none', 'network' or 'refined'")

    @property
    def second_features(self) -> FeatureSettings:
        """Of frames in which the first features found too little."""
        return whole_image() if self.features.scale < 1 else FeatureSettings()


@dataclass(frozen=True, eq=False)
class Searched:
    """What landmarks were compared with: features of a frame, and its intrinsics (3, 3) in its own
    pixels.
    """

    features: Features
    intrinsics: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Extracted:
    """Features of a frame, and how long extracting them took: on the clock, and of the thread."""

    searched: Searched
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, eq=False)
class Localization:
    """Where a frame was taken, or why that is unknown.

    map_from_cam (4, 4) float64, OpenCV camera axes, None when LOST: in metres if `metric`,
    otherwise in scene units. covariance (6, 6) of its position in the map and its rotation vector
    in the camera frame (rad), of verified poses. confidence 0 to 1 is the network's own opinion of
    its depth, not a probability; NaN where that was not decoded.

    located: what the landmarks say, also of a refused pose: how many agree, how they spread over
    the image, and whose keyframes were searched; None where they were not asked. searched: what was
    compared with them to find the pose, not to verify a given one. network_map_from_cam: the
    network's own proposal.

    intrinsics (3, 3) in pixels of the prepared image: the frame's own calibration, otherwise the
    network's estimate. depth (h, w) along z of the prepared image, in the unit of the pose: the
    network's, roughly scaled; None unless it was wanted, or nothing but the network speaks for the
    pose. depth_provenance (h, w) uint8 says where it is not, None if nowhere: AGREED is the stored
    depth of keyframes around, rendered into the verified pose, NEAR and FAR the network's shape,
    scaled locally to agree with that; intrinsics are then the map's. What came or went since
    mapping is not noticed. Poses found together with images before keep the network's depth.
    seconds per stage, of which "features" run beside "prepare" and "network"; cpu_seconds of the
    processor, all threads of the process: "network" with the preparation of its input, and "total".
    """

    status: LocalizationStatus
    reason: str
    map_from_cam: Tensor | None
    metric: bool
    confidence: float
    intrinsics: Tensor | None
    depth: Tensor | None
    seconds: dict[str, float]
    covariance: Tensor | None = None
    located: Located | None = None
    searched: Searched | None = None
    network_map_from_cam: Tensor | None = None
    depth_provenance: Tensor | None = None
    cpu_seconds: dict[str, float] = field(default_factory=dict)


class Localizer:
    """Localizes frames in one scene with the network that made it.

    Raises SceneError when the scene was made by another network or holds no memory.
    """

    def __init__(
        self, scene: Scene, network: Vggt3, settings: LocalizerSettings | None = None
    ) -> None:
        scene.require_network(network.fingerprint())
        if not scene.memory:
            raise SceneError(
                f"scene {scene.scene_id} holds no memory: it is of an earlier version, which kept"
                f" none with the softmax network {scene.model_id!r}; map the place again"
            )
        self.scene = scene
        self.network = network
        self.settings = settings or LocalizerSettings()
        self._memory = SceneMemory.from_tensors(scene.memory).to(network.device)
        on_cpu = network.device.type == "cpu"
        self._is_small = on_cpu and sum(p.numel() for p in network.parameters()) < LARGE
        self._resampler = None if on_cpu else Resampler(network.device)  # Pillow is faster there
        self._bending: Bending | None = None  # how network poses are brought into the adjusted map
        if scene.is_verified:
            keyframes = se3_inverse(scene.keyframes.cam_from_world)
            scale = scene.map_from_scene.scale
            self._bending = Bending.fit(keyframes, scene.map_from_keyframes, scale)
        self._landmarks: LandmarkLocalizer | None = None
        if scene.is_verified and self.settings.refine != "none":
            try:
                landmarks = Landmarks.from_tensors(scene.landmarks)
            except InputError as error:
                raise SceneError(f"scene {scene.scene_id}: {error}") from error
            surface = to_array(scene.points.points.double()) if scene.has_refined_points else None
            self._landmarks = LandmarkLocalizer(landmarks, self.settings.locate, surface)
        self._worker = ThreadPoolExecutor(1, "features")
        self._live_depth: LiveDepth | None = None
        if (
            self.settings.depth == "refined"
            and self._landmarks is not None
            and scene.depth is not None
        ):
            self._live_depth = LiveDepth(scene.depth)

    def localize(self, frame: Frame, last_map_from_cam: Tensor | None = None) -> Localization:
        """Pose of the frame in the map, or LOST with the reason. Keeps nothing of it.

        last_map_from_cam (4, 4): where the camera was a moment ago, if known; it is a hint about
        where to look first.
        """
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        if frame.is_black:
            answer = self._lost("the image is black", {})
        else:
            extracting = self._start_extracting(frame)
            answer, prepared, undecoded = self._propose(frame)
            if self._landmarks is not None and extracting is not None:
                extracted = extracting.result()
                # all threads took so much by now, and that one what it says
                network = time.process_time() - cpu_begin - extracted.cpu_seconds
                answer = replace(answer, cpu_seconds={"network": network})
                answer = self._disposed(
                    self._landmarks, frame, answer, last_map_from_cam, extracted
                )
            wants_depth = (
                self.settings.depth != "none" or answer.status is LocalizationStatus.UNVERIFIED
            )
            if wants_depth and undecoded is not None:
                answer = self._with_depth(answer, undecoded)
            if self._landmarks is not None:
                answer = self._with_refined_depth(
                    self._landmarks.landmarks, frame, prepared, answer
                )
        return replace(
            answer,
            seconds={**answer.seconds, "total": time.perf_counter() - begin},
            cpu_seconds={**answer.cpu_seconds, "total": time.process_time() - cpu_begin},
        )

    def localize_jointly(self, localization: Localization, views: Sequence[View]) -> Localization:
        """A localization whose image shows too little, with the pose that it has together with the
        images before it; any other one, or where there is no such pose, as it is. views: these
        images, the newest last; with less than two it stands alone.
        """
        landmarks = self._landmarks
        located = localization.located
        if (
            landmarks is None
            or located is None
            or len(views) < 2
            or not is_thin(located, landmarks.settings)
        ):
            return localization
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        together = locate_jointly(landmarks, views)
        spent = time.perf_counter() - begin
        cpu_spent = time.process_time() - cpu_begin
        seconds = {
            **localization.seconds,
            "joint": spent,
            "total": localization.seconds["total"] + spent,
        }
        cpu_seconds = {
            **localization.cpu_seconds,
            "total": localization.cpu_seconds["total"] + cpu_spent,
        }
        answer = replace(localization, seconds=seconds, cpu_seconds=cpu_seconds)
        return answer if together is None else self._judged(answer, together, seconds)

    def _propose(
        self, frame: Frame
    ) -> tuple[Localization, PreparedFrames, UndecodedPrediction | None]:
        """The network's own answer, the frame as it was prepared for it, and its prediction if that
        is finite.
        """
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        config = self.network.config
        prepared = prepare([frame], config.image_size, config.patch_size, self._resampler)
        ready = time.perf_counter()
        with self._threads():
            undecoded = self.network.query_undecoded(prepared.images, self._memory, pointmap=False)
        undecoded = replace(undecoded, pose_encoding=undecoded.pose_encoding.cpu())
        seconds = {"prepare": ready - begin, "network": time.perf_counter() - ready}
        cpu_seconds = {"network": time.process_time() - cpu_begin}
        if not bool(undecoded.pose_encoding.isfinite().all()):
            lost = self._lost("the network returned a pose that is not finite", seconds)
            return replace(lost, cpu_seconds=cpu_seconds), prepared, None
        cameras = undecoded.cameras
        known = prepared.intrinsics
        intrinsics = cameras.intrinsics if known is None else known
        scene_from_cam = cameras.world_from_cam[0]
        if self._bending is None:
            map_from_cam = self.scene.map_from_scene.poses(scene_from_cam)
        else:
            map_from_cam = self._bending.map_from_cam(scene_from_cam)
        proposal = Localization(
            status=LocalizationStatus.UNVERIFIED,
            reason="proposed by the network, verified by nothing",
            map_from_cam=map_from_cam,
            metric=self.scene.is_metric,
            confidence=math.nan,
            intrinsics=intrinsics[0],
            depth=None,
            seconds=seconds,
            network_map_from_cam=map_from_cam,
            cpu_seconds=cpu_seconds,
        )
        return proposal, prepared, undecoded

    def _threads(self) -> AbstractContextManager[None]:
        """How torch works on one image: small networks keep no more than one core of a CPU busy."""
        return one_torch_thread() if self._is_small else nullcontext()

    def _with_depth(self, answer: Localization, undecoded: UndecodedPrediction) -> Localization:
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

    @property
    def _frame(self) -> str:
        """What a pose is relative to: a reference and what the images say may differ by more than a
        pose is wrong.
        """
        return f"the poses of the map are {self.scene.verdict.poses}"

    @property
    def _depth_scale(self) -> float:
        """Map units per predicted unit of depth: a weak network's poses and depths differ in
        scale.
        """
        calibration = self.scene.calibration
        return self.scene.map_from_scene.scale if calibration is None else calibration.depth_scale

    def _disposed(
        self,
        landmarks: LandmarkLocalizer,
        frame: Frame,
        proposal: Localization,
        last_map_from_cam: Tensor | None,
        extracted: _Extracted,
    ) -> Localization:
        """The proposal replaced by what the landmarks say to the features extracted first, and to
        others where these are too few.
        """
        poses = {"last": last_map_from_cam, "network": proposal.network_map_from_cam}
        proposals = {source: to_array(pose) for source, pose in poses.items() if pose is not None}
        if self.settings.refine == "verify" and "network" not in proposals:
            return proposal
        searched = extracted.searched
        located, seconds = self._located(landmarks, proposals, extracted)
        if (located.inliers < _ENOUGH_INLIERS or not located.accepted) and self._has_more(searched):
            extracted = self._extracted(frame, landmarks.landmarks, self.settings.second_features)
            again = extracted.searched
            second, more = self._located(landmarks, proposals, extracted)
            seconds = {
                name: seconds.get(name, 0.0) + more.get(name, 0.0) for name in {**seconds, **more}
            }
            is_finer = again.features.pixel_size <= searched.features.pixel_size
            if second.accepted > located.accepted or (
                second.accepted == located.accepted and is_finer
            ):
                located = second
                searched = again
        proposal = replace(
            proposal, searched=searched if self.settings.refine == "refine" else None
        )
        return self._judged(proposal, located, {**proposal.seconds, **seconds})

    def _has_more(self, searched: Searched) -> bool:
        """Whether the second features are others than those that were searched."""
        first = self.settings.features
        second = self.settings.second_features
        size_wh = searched.features.size_wh
        found = len(searched.features)
        return (
            first.searched_wh(size_wh) != second.searched_wh(size_wh)
            or found == first.count < second.count
        )

    def _start_extracting(self, frame: Frame) -> Future[_Extracted] | None:
        """Extract a frame's features in another thread, for the time that the network takes; None
        where nothing is compared with them.
        """
        if self._landmarks is None:
            return None
        landmarks = self._landmarks.landmarks
        return self._worker.submit(self._extracted, frame, landmarks, self.settings.features)

    def _extracted(
        self, frame: Frame, landmarks: Landmarks, settings: FeatureSettings
    ) -> _Extracted:
        begin = time.perf_counter()
        cpu_begin = time.thread_time()
        intrinsics = to_array(self._intrinsics(frame, landmarks))
        features = extract(frame.image, intrinsics, frame.distortion, settings)
        return _Extracted(
            Searched(features, intrinsics),
            time.perf_counter() - begin,
            time.thread_time() - cpu_begin,
        )

    def _located(
        self, landmarks: LandmarkLocalizer, proposals: dict[str, Any], extracted: _Extracted
    ) -> tuple[Located, dict[str, float]]:
        """What the landmarks say to the features of a frame, and seconds per stage."""
        searched = extracted.searched
        if self.settings.refine == "refine":
            located = landmarks.locate(searched.features, searched.intrinsics, proposals)
        else:
            located = landmarks.verify(searched.features, searched.intrinsics, proposals["network"])
        stages = {name: spent for name, spent in located.seconds.items() if name != "total"}
        return located, {"features": extracted.seconds, **stages}

    def _judged(
        self, proposal: Localization, located: Located, seconds: dict[str, float]
    ) -> Localization:
        accepted = located.accepted and located.world_from_cam is not None
        pose = located.world_from_cam
        covariance = located.covariance
        return replace(
            proposal,
            status=LocalizationStatus.VERIFIED if accepted else LocalizationStatus.LOST,
            reason=f"{located.reason}; {self._frame}" if accepted else located.reason,
            map_from_cam=to_tensor(pose) if accepted and pose is not None else None,
            covariance=(to_tensor(covariance) if accepted and covariance is not None else None),
            located=located,
            seconds=seconds,
        )

    def _intrinsics(self, frame: Frame, landmarks: Landmarks) -> Tensor:
        """Intrinsics (3, 3) in pixels of the frame: its own, corrected as the map's were, otherwise
        the map's.

        Of several cameras in the map it is then taken for the one whose images have the shape most
        like its own.
        """
        if frame.intrinsics is None:
            sizes_hw = [
                (height, width) for width, height in self.scene.require_calibration().image_sizes_wh
            ]
            alike = most_like(frame.size_hw, sizes_hw)
            return resized_intrinsics(
                LandmarkTensors(landmarks).intrinsics[alike], sizes_hw[alike], frame.size_hw
            )
        return self._corrected(frame.intrinsics)

    def _corrected(self, intrinsics: Tensor) -> Tensor:
        """Intrinsics (3, 3) with focal lengths corrected as the map's were."""
        corrected = intrinsics.clone()
        corrected[[0, 1], [0, 1]] *= self.scene.require_calibration().focal_factor
        return corrected

    def _with_refined_depth(
        self, landmarks: Landmarks, frame: Frame, prepared: PreparedFrames, answer: Localization
    ) -> Localization:
        """A verified answer with its depth refined, if that is wanted; any other as it is."""
        if self._live_depth is None or answer.map_from_cam is None or answer.depth is None:
            return answer
        begin = time.perf_counter()
        if prepared.intrinsics is None:
            intrinsics = prepared.pixels_from_source[0] @ self._intrinsics(frame, landmarks)
        else:
            intrinsics = self._corrected(prepared.intrinsics[0])
        depth, how = self._live_depth.refined(
            prepared.images[0].cpu(), answer.depth, intrinsics, answer.map_from_cam
        )
        seconds = {**answer.seconds, "depth": time.perf_counter() - begin}
        return replace(
            answer, intrinsics=intrinsics, depth=depth, depth_provenance=how, seconds=seconds
        )

    def _lost(self, reason: str, seconds: dict[str, float]) -> Localization:
        metric = self.scene.is_metric
        return Localization(LocalizationStatus.LOST, reason, None, metric, 0.0, None, None, seconds)
