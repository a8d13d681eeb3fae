"""Use case two: the camera pose of a new frame in a scene, proposed by the network and disposed of
by landmarks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.landmarks.joint import View
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.disposing import Disposer
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.live_depth import LiveDepth
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.proposing import Proposer
from vggt3_ros.scene.scene import Scene


class Localizer:
    """Localizes frames in one scene with the network that made it.

    Raises SceneError when the scene was made by another network, holds no memory, or has no images
    of its keyframes where these alone shall propose.
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
        self.settings = settings or LocalizerSettings()
        self._proposer = Proposer(scene, network, self.settings)
        self._disposer: Disposer | None = None
        if scene.is_verified and self.settings.refine != "none":
            self._disposer = Disposer(scene, self.settings)
        self._live_depth: LiveDepth | None = None
        if (
            self.settings.depth == "refined"
            and self._disposer is not None
            and scene.depth is not None
        ):
            self._live_depth = LiveDepth(scene.depth)

    @property
    def no_local(self) -> str:
        """Why keyframes propose nothing though the settings ask for it; empty where they do, or
        are not asked.
        """
        return self._proposer.no_local

    def localize(self, frame: Frame, last_map_from_cam: Tensor | None = None) -> Localization:
        """Pose of the frame in the map, or LOST with the reason. Keeps nothing of it.

        last_map_from_cam (4, 4): where the camera was a moment ago, if known; it is a hint about
        where to look first.
        """
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        if frame.is_black:
            answer = Localization.lost("the image is black", self.scene.is_metric, {})
        else:
            answer = self._localized(frame, last_map_from_cam)
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
        if self._disposer is None:
            return localization
        return self._disposer.together(localization, views)

    def _localized(self, frame: Frame, last_map_from_cam: Tensor | None) -> Localization:
        """The answer to a frame that shows something."""
        cpu_begin = time.process_time()
        disposer = self._disposer
        extracting = None if disposer is None else disposer.start_extracting(frame)
        proposed = self._proposer.by_memory(frame)
        answer = proposed.answer
        if self.settings.propose == "local":
            answer = self._by_keyframes_alone(frame, answer)
        searched = None
        if disposer is not None and extracting is not None:
            extracted = extracting.result()
            # all threads took so much by now, and that one what it says
            network = time.process_time() - cpu_begin - extracted.cpu_seconds
            answer = replace(answer, cpu_seconds={"network": network})
            answer, searched = disposer.disposed(frame, answer, last_map_from_cam, extracted)
        if self.settings.propose == "both" and not answer.is_verified:
            answer = self._proposer.by_keyframes(frame, answer) or answer
            if disposer is not None and searched is not None and answer.proposed_by == "local":
                answer = disposer.reconsidered(answer, searched)
        wants_depth = (
            self.settings.depth != "none" or answer.status is LocalizationStatus.UNVERIFIED
        )
        if wants_depth and proposed.undecoded is not None:
            answer = self._proposer.with_depth(answer, proposed.undecoded)
        return self._with_refined_depth(frame, proposed.prepared, answer)

    def _by_keyframes_alone(self, frame: Frame, answer: Localization) -> Localization:
        """The answer with the keyframes' proposal, or with none."""
        found = self._proposer.by_keyframes(frame, answer)
        if found is not None:
            return found
        reason = "the image shows too little to find keyframes like it"
        lost = Localization.lost(reason, self.scene.is_metric, answer.seconds)
        return replace(lost, intrinsics=answer.intrinsics, cpu_seconds=answer.cpu_seconds)

    def _with_refined_depth(
        self, frame: Frame, prepared: PreparedFrames, answer: Localization
    ) -> Localization:
        """A verified answer with its depth refined, if that is wanted; any other as it is."""
        disposer = self._disposer
        if (
            disposer is None
            or self._live_depth is None
            or answer.map_from_cam is None
            or answer.depth is None
        ):
            return answer
        begin = time.perf_counter()
        if prepared.intrinsics is None:
            intrinsics = prepared.pixels_from_source[0] @ disposer.intrinsics(frame)
        else:
            intrinsics = disposer.corrected(prepared.intrinsics[0])
        depth, how = self._live_depth.refined(
            prepared.images[0].cpu(), answer.depth, intrinsics, answer.map_from_cam
        )
        seconds = {**answer.seconds, "depth": time.perf_counter() - begin}
        return replace(
            answer, intrinsics=intrinsics, depth=depth, depth_provenance=how, seconds=seconds
        )
