"""What the landmarks of a scene make of the network's proposals: a pose they confirm, or a
refusal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.landmarks.appearance import Appearance
from vggt3_ros.landmarks.features import FeatureSettings, extract
from vggt3_ros.landmarks.joint import View, is_thin, locate_jointly
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.locate import SOURCES, LandmarkLocalizer, Located, Source
from vggt3_ros.landmarks.picture import Picture
from vggt3_ros.landmarks.tensors import LandmarkTensors, to_array, to_tensor
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus, Searched
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.resize import most_like, resized_intrinsics
from vggt3_ros.scene.scene import Scene

_ENOUGH_INLIERS = 45  # landmarks that agree, from which a frame is not searched in a second size
_SOURCES: dict[str, Source] = {"memory": "network", "local": "local"}  # of proposals


@dataclass(frozen=True, eq=False)
class Extracted:
    """Features of a frame, and how long extracting them took: on the clock, and of the thread."""

    searched: Searched
    seconds: float
    cpu_seconds: float


class Disposer:
    """Compares frames with the landmarks of one verified scene.

    Raises SceneError where these are damaged.
    """

    def __init__(self, scene: Scene, settings: LocalizerSettings) -> None:
        self.scene = scene
        self.settings = settings
        try:
            landmarks = Landmarks.from_tensors(scene.landmarks)
        except InputError as error:
            raise SceneError(f"scene {scene.scene_id}: {error}") from error
        surface = to_array(scene.points.points.double()) if scene.has_refined_points else None
        usual = scene.require_calibration().colour_difference
        appearance = None
        if surface is not None and usual is not None:
            appearance = Appearance(surface, to_array(scene.points.colors), usual)
        self._landmarks = LandmarkLocalizer(landmarks, settings.locate, surface, appearance)
        self._worker = ThreadPoolExecutor(1, "features")

    def start_extracting(self, frame: Frame) -> Future[Extracted]:
        """Extract a frame's features in another thread, for the time that the network takes."""
        return self._worker.submit(self._extracted, frame, self.settings.features)

    def disposed(
        self,
        frame: Frame,
        proposal: Localization,
        last_map_from_cam: Tensor | None,
        extracted: Extracted,
    ) -> tuple[Localization, Searched]:
        """The proposal replaced by what the landmarks say to the features extracted first, and to
        others where these are too few; and which these were.
        """
        searched = extracted.searched
        proposals = _proposals(proposal)
        if last_map_from_cam is not None:
            proposals["last"] = to_array(last_map_from_cam)
        if self.settings.refine == "verify" and proposal.network_map_from_cam is None:
            return proposal, searched
        located, seconds = self._located(proposals, extracted)
        if (located.inliers < _ENOUGH_INLIERS or not located.accepted) and self._has_more(searched):
            picture = searched.features.picture
            extracted = self._extracted(frame, self.settings.second_features, picture)
            again = extracted.searched
            second, more = self._located(proposals, extracted)
            seconds = _sums(seconds, more)
            is_finer = again.features.pixel_size <= searched.features.pixel_size
            if second.accepted > located.accepted or (
                second.accepted == located.accepted and is_finer
            ):
                located = second
                searched = again
        proposal = replace(
            proposal, searched=searched if self.settings.refine == "refine" else None
        )
        judged = self._judged(proposal, located, {**proposal.seconds, **seconds}, searched)
        return judged, searched

    def reconsidered(self, refused: Localization, searched: Searched) -> Localization:
        """A refused answer, which now has another proposal, as the landmarks see that one: refused
        all the same, or verified.
        """
        again = Extracted(searched, 0.0, 0.0)
        source = _SOURCES[refused.proposed_by]
        located, seconds = self._located(_proposals(refused), again, [source])
        spent = _sums(refused.seconds, seconds)
        if not located.accepted:
            return replace(refused, seconds=spent)
        return self._judged(refused, located, spent, searched)

    def together(self, localization: Localization, views: Sequence[View]) -> Localization:
        """A localization whose image shows too little, with the pose that it has together with the
        images before it; any other one, or where there is no such pose, as it is. views: these
        images, the newest last; with less than two it stands alone.
        """
        located = localization.located
        if located is None or len(views) < 2 or not is_thin(located, self._landmarks.settings):
            return localization
        begin = time.perf_counter()
        cpu_begin = time.process_time()
        together = locate_jointly(self._landmarks, views)
        spent = time.perf_counter() - begin
        cpu_spent = time.process_time() - cpu_begin
        seconds = _sums(localization.seconds, {"joint": spent, "total": spent})
        cpu_seconds = _sums(localization.cpu_seconds, {"total": cpu_spent})
        answer = replace(localization, seconds=seconds, cpu_seconds=cpu_seconds)
        return answer if together is None else self._judged(answer, together, seconds)

    def intrinsics(self, frame: Frame) -> Tensor:
        """Intrinsics (3, 3) in pixels of the frame: its own, corrected as the map's were, otherwise
        the map's.

        Of several cameras in the map it is then taken for the one whose images have the shape most
        like its own.
        """
        if frame.intrinsics is not None:
            return self.corrected(frame.intrinsics)
        sizes_hw = [
            (height, width) for width, height in self.scene.require_calibration().image_sizes_wh
        ]
        alike = most_like(frame.size_hw, sizes_hw)
        own = LandmarkTensors(self._landmarks.landmarks).intrinsics[alike]
        return resized_intrinsics(own, sizes_hw[alike], frame.size_hw)

    def corrected(self, intrinsics: Tensor) -> Tensor:
        """Intrinsics (3, 3) with focal lengths corrected as the map's were."""
        corrected = intrinsics.clone()
        corrected[[0, 1], [0, 1]] *= self.scene.require_calibration().focal_factor
        return corrected

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

    def _extracted(
        self, frame: Frame, settings: FeatureSettings, picture: Picture | None = None
    ) -> Extracted:
        """Features of a frame, with its picture, made unless given, if the map has colours."""
        begin = time.perf_counter()
        cpu_begin = time.thread_time()
        intrinsics = to_array(self.intrinsics(frame))
        features = extract(frame.image, intrinsics, frame.distortion, settings)
        if picture is None and self._landmarks.compares_colours:
            picture = Picture.of(frame.image, intrinsics, frame.distortion)
        features = replace(features, picture=picture)
        return Extracted(
            Searched(features, intrinsics),
            time.perf_counter() - begin,
            time.thread_time() - cpu_begin,
        )

    def _located(
        self,
        proposals: Mapping[Source, Floats],
        extracted: Extracted,
        sources: Sequence[Source] = SOURCES,
    ) -> tuple[Located, dict[str, float]]:
        """What the landmarks say to the features of a frame, and seconds per stage."""
        features = extracted.searched.features
        intrinsics = extracted.searched.intrinsics
        if self.settings.refine == "refine":
            located = self._landmarks.locate(features, intrinsics, proposals, sources)
        else:
            own = next(pose for source, pose in proposals.items() if source != "last")
            located = self._landmarks.verify(features, intrinsics, own)
        stages = {name: spent for name, spent in located.seconds.items() if name != "total"}
        return located, {"features": extracted.seconds, **stages}

    def _judged(
        self,
        proposal: Localization,
        located: Located,
        seconds: dict[str, float],
        searched: Searched | None = None,
    ) -> Localization:
        """The proposal with what the landmarks say; searched: what of one image was compared."""
        accepted = located.accepted and located.world_from_cam is not None
        sighting = None
        if accepted and searched is not None and self.settings.note_sightings:
            sighting = self._landmarks.sighting(searched.features, searched.intrinsics, located)
        pose = located.world_from_cam
        covariance = located.covariance
        return replace(
            proposal,
            status=LocalizationStatus.VERIFIED if accepted else LocalizationStatus.LOST,
            reason=f"{located.reason}; {self._frame}" if accepted else located.reason,
            map_from_cam=to_tensor(pose) if accepted and pose is not None else None,
            covariance=(to_tensor(covariance) if accepted and covariance is not None else None),
            located=located,
            sighting=sighting,
            seconds=seconds,
        )

    @property
    def _frame(self) -> str:
        """What a pose is relative to: a reference and what the images say may differ by more than a
        pose is wrong.
        """
        return f"the poses of the map are {self.scene.verdict.poses}"


def _proposals(answer: Localization) -> dict[Source, Floats]:
    """What the network proposes, by what landmarks call it."""
    pose = answer.network_map_from_cam
    return {} if pose is None else {_SOURCES[answer.proposed_by]: to_array(pose)}


def _sums(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: first.get(name, 0.0) + second.get(name, 0.0) for name in {**first, **second}}
