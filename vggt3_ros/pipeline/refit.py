"""A scene's memory made anew from the images of its keyframes, with more time or other settings;
all else of the map stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
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
from vggt3_ros.pipeline.mapping import NetworkSettings, check_anchors, map_views
from vggt3_ros.pipeline.memory_check import MapFit, bytes_within, fit_map
from vggt3_ros.pipeline.plan import Wish
from vggt3_ros.pipeline.planning import Planning
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.views import RedundantViews, Views, choose_views
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
    steps = settings.steps or max(scene.ttt_steps, 1)
    fit = partial(_fit, network, settings, scene.input_size)
    report: dict[str, Any] = dict(scene.report)
    report.pop("budget", None)
    if settings.budget is None:
        views = Views.all_fitted(len(scene.images))
        if settings.redundant_views == "query":
            views = choose_views(prepared.images)
        how = NetworkSettings(
            steps, settings.anchors, False, fit(len(views.fitted), len(views.queried))
        )
        made = map_views(network, prepared.images, views, how, progress)
    else:
        count = len(scene.images)
        wish = Wish(count, count, steps, landmarks=False, dense="off", needed=True)
        planning = Planning(settings.budget, wish, network, scene.input_size, fit)
        laps.lap("costs")
        chosen = planning.choose(prepared, settings.redundant_views == "query")
        if announce is not None:
            announce(planning.told())
        views = chosen.views
        how = NetworkSettings(
            steps, settings.anchors, False, fit(len(views.fitted), len(views.queried))
        )
        laps.lap("views")
        made = planning.map(chosen, how, progress)
        laps.lap("network")
        steps = planning.steps
        report["budget"] = planning.finish(views, laps.seconds, None)
    report["views"] = views.report()
    return _renewed(scene, network, *made, steps, report)


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
    if scene.landmarks and calibration is not None:
        landmarks = Landmarks.from_tensors(scene.landmarks)
        scale = anchor_depths(
            prediction.depth, landmarks, scene.keyframes.intrinsics, calibration.depth_scale
        ).scene_scale
        calibration = replace(calibration, depth_scale=scale)
    # where keyframes stood in the map, they stand now
    bending = Bending.fit(prediction.cameras.world_from_cam, scene.map_from_keyframes, scale)
    if scene.landmarks:
        report = {**report, "agreement": {**report.get("agreement", {}), **bending.report()}}
    return replace(
        scene,
        memory=memory.to("cpu").tensors(),
        keyframes=keyframes,
        ttt_steps=steps if network.config.has_fast_weights else 0,
        map_from_scene=bending.map_from_scene,
        calibration=calibration,
        report=report,
        scene_id=uuid.uuid4().hex,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _prepared(images: Tensor) -> PreparedFrames:
    """Images (S, 3, H, W) uint8 as the network takes them."""
    pixels = torch.eye(3, dtype=torch.float64).expand(len(images), 3, 3)
    return PreparedFrames(images.float() / 255, None, None, pixels)


def _fit(
    network: Vggt3, settings: RefitSettings, size_hw: tuple[int, int], fitted: int, queried: int
) -> MapFit:
    given = None if settings.budget is None else settings.budget.memory_bytes
    limit = bytes_within(network.device, given, None)
    return fit_map(
        network, fitted, size_hw, settings.chunk, limit, False, queried, settings.anchors
    )
