"""A scene's memory made anew from the images of its keyframes, with more time or other settings;
all else of the map stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.laps import Laps
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.bending import Bending
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.depth_scale import anchor_depths
from vggt3_ros.pipeline.mapping import NetworkSettings, check_anchors
from vggt3_ros.pipeline.network_map import choose_frames, map_chosen
from vggt3_ros.pipeline.plan import Wish
from vggt3_ros.pipeline.planning import Planning
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.views import RedundantViews
from vggt3_ros.progress import StageProgress
from vggt3_ros.scene.scene import Scene


@dataclass(frozen=True)
class RefitSettings:
    """As in ReconstructionSettings; steps None: as many as the scene was made with."""

    steps: int | None = None
    chunk: int | None = None
    anchors: int | None = None
    redundant_views: RedundantViews = "query"
    budget: Budget | None = None

    def network(self, steps: int) -> NetworkSettings:
        """What they say of the network's part, of a scene that was made in so many steps."""
        steps = self.steps or steps
        return NetworkSettings(steps, self.chunk, self.anchors, self.redundant_views, self.budget)


def refit_joined(scene: Scene, network: Vggt3, progress: StageProgress | None = None) -> Scene:
    """As `refit`, of a scene that was joined of several: with twice as many anchors as one map has,
    which say more of two places than as many as of one (measured in docs/maps.md).
    """
    anchors = 2 * network.config.anchors.count if network.config.has_anchors else None
    return refit(scene, network, RefitSettings(anchors=anchors), progress)


def refit(
    scene: Scene,
    network: Vggt3,
    settings: RefitSettings,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Scene:
    """A new scene of the same keyframes in the same map: what the network remembers, and what its
    poses are in that map, by its images, are new; landmarks, points, depth and images stay.

    The network is the one that made the scene. announce: told what is going to be done with a
    budget. Raises SceneError for a scene without images of its keyframes, InputError where the
    budget or memory does not suffice.
    """
    if scene.images is None:
        raise SceneError(
            f"scene {scene.scene_id} has no images of its keyframes, which its memory is made of;"
            " map the place again with --keep-images (the mapper's keep_images)"
        )
    check_anchors(network, settings.anchors)
    laps = Laps()
    prepared = _prepared(scene.images)
    how = settings.network(max(scene.ttt_steps, 1))
    planning = None
    if settings.budget is not None:
        count = len(scene.images)
        wish = Wish(count, count, how.steps, False, "off", scene.input_size, needed=True)
        planning = Planning(settings.budget, wish, network, how)
        laps.lap("costs")
    chosen = choose_frames(prepared, how, planning, announce=announce)
    laps.lap("views")
    prediction, memory = map_chosen(network, chosen, how, planning, progress)
    laps.lap("network")
    report: dict[str, Any] = {**scene.report, "views": chosen.views.report()}
    report.pop("budget", None)
    if planning is not None:
        how = replace(how, steps=planning.steps)
        report["budget"] = planning.finish(chosen.views, laps.seconds, None)
    return _renewed(scene, network, prediction, memory, how.steps, report)


def _renewed(
    scene: Scene,
    network: Vggt3,
    prediction: Prediction,
    memory: SceneMemory,
    steps: int,
    report: dict[str, Any],
) -> Scene:
    """The scene with what the network says now."""
    prediction.require_finite_cameras()
    keyframes = replace(scene.keyframes, cam_from_world=prediction.cameras.cam_from_world)
    calibration = scene.calibration
    scale = None
    errors: dict[str, float | None] = {}
    if scene.landmarks and calibration is not None:
        landmarks = Landmarks.from_tensors(scene.landmarks)
        anchors = anchor_depths(
            prediction.depth, landmarks, scene.keyframes.intrinsics, calibration.depth_scale
        )
        scale = anchors.scene_scale
        errors["depth_error_before"] = anchors.error_before
        errors["depth_error_after"] = anchors.error_after
        calibration = replace(calibration, depth_scale=scale)
    # where keyframes stood in the map, they stand now
    bending = Bending.fit(prediction.cameras.world_from_cam, scene.map_from_keyframes, scale)
    if scene.landmarks:
        report = {**report, "agreement": {**bending.report(), **errors}}
    return scene.successor(
        memory=memory.to("cpu").tensors(),
        keyframes=keyframes,
        ttt_steps=steps if network.config.has_fast_weights else 0,
        map_from_scene=bending.map_from_scene,
        calibration=calibration,
        report=report,
    )


def _prepared(images: Tensor) -> PreparedFrames:
    """Images (S, 3, H, W) uint8 as the network takes them."""
    pixels = torch.eye(3, dtype=torch.float64).expand(len(images), 3, 3)
    return PreparedFrames(images.float() / 255, None, None, pixels)
