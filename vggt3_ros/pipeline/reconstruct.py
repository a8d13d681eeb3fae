"""Use case one: a set of frames becomes a scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from vggt3_ros.dense.refine import OverBudgetError
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.laps import Laps
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.dense import FAST, RefinedDepth, refined_depth
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.map_frame import Anchoring, anchor
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.mapping import NetworkSettings, check_anchors, map_views
from vggt3_ros.pipeline.memory_check import MapFit, bytes_within, fit_map
from vggt3_ros.pipeline.observed import Observed
from vggt3_ros.pipeline.plan import Dense, Wish
from vggt3_ros.pipeline.planning import Planning
from vggt3_ros.pipeline.points import PointSettings, coloured_points
from vggt3_ros.pipeline.preprocess import PreparedFrames, prepare, prepared_size
from vggt3_ros.pipeline.resize import resized, same_shape, usual_size
from vggt3_ros.pipeline.tie import Tied, tie
from vggt3_ros.pipeline.views import RedundantViews, Views, choose_views
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks
from vggt3_ros.scene.scene import Corner, Keyframes, Scene

_UNUSED = "left out to keep within the budget: it adds less than the others"


@dataclass(frozen=True)
class ReconstructionSettings:
    """How a scene is made: TTT steps, frames that pass the network together (chunk, None: as many
    as memory permits, up to 8 on a CPU and 32 on a GPU), points, what ties it to the world.

    anchors: frames whose keys the network's anchored layers keep, None for as many as it was
    trained with. redundant_views: what becomes of frames that show nothing new. budget: what the
    map may take; steps and dense are then what is done where it suffices.

    dense: how depth is refined in maps that landmarks verify, None for not at all; of `points` only
    max_points counts then. keep_images: the scene keeps its images as the network saw them, which
    local proposals are made of, and beside refined depth in its size, which colours meshes.
    memory_limit_bytes replaces what the system says is available on the network's device.
    """

    steps: int = 2
    chunk: int | None = None
    anchors: int | None = None
    redundant_views: RedundantViews = "query"
    budget: Budget | None = None
    points: PointSettings = field(default_factory=PointSettings)
    anchor: AnchorSettings = field(default_factory=AnchorSettings)
    dense: DenseSettings | None = FAST
    keep_images: bool = False
    map_frame: str = "map"
    made_by: str = ""
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "chunk", "anchors"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected at least 1")
        if self.redundant_views not in get_args(RedundantViews):
            expected = "expected 'query' or 'fit'"
            raise InputError(f"redundant_views is {self.redundant_views!r}; {expected}")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A scene and what it came from.

    frames: those used, in the order of the scene's keyframes and of the prediction (on the CPU),
    and in the size that they were used in. views: which of them the map was fitted to. skipped:
    names and reasons of those not used. prior_outliers: names of used frames whose prior pose is
    contradicted. anchored: the prediction as the landmarks scale and place it, still in scene
    units; None without landmarks. refined: depth refined by the views of each other, None where
    that was not done. seconds per stage; cpu_seconds of the processor, all threads of the process.
    """

    scene: Scene
    prediction: Prediction
    frames: tuple[Frame, ...]
    views: Views
    skipped: tuple[tuple[str, str], ...]
    prior_outliers: tuple[str, ...]
    anchored: Prediction | None
    refined: RefinedDepth | None
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]


def reconstruct(
    frames: Sequence[Frame],
    network: Vggt3,
    settings: ReconstructionSettings | None = None,
    progress: StageProgress | None = None,
    ranks: Ranks | None = None,
    announce: Callable[[str], None] | None = None,
) -> Reconstruction:
    """Reconstruct a scene from frames. The first usable frame's camera is the origin of scene
    units.

    Frames of the shape that most have are brought to one size; those of another shape are used only
    where all frames are calibrated. The others, black frames and frames with a damaged prior pose
    are skipped and reported. Raises InputError when fewer than 2 usable frames remain or memory, or
    the budget, does not suffice; what `progress` raises passes through and nothing is left behind.

    ranks: processes whose network maps together, each a share of the frames; this is for the first
    of them, `contribute` for the others. announce: told what is going to be done with a budget.
    """
    settings = settings or ReconstructionSettings()
    laps = Laps()
    given, skipped = usable_frames(frames)
    planning = _planning(given, network, settings, ranks)
    if planning is not None:
        laps.lap("costs")
    mapped = _mapped(given, network, settings, progress, ranks, laps, planning, announce)
    observed, memory, views = mapped
    used = observed.frames
    if planning is not None:
        skipped = (*skipped, *((_name(i, given[i]), _UNUSED) for i in planning.unused))
        settings = replace(settings, steps=planning.steps)
    prediction = observed.prediction
    prediction.require_finite_cameras()

    def report_tie(stage: str, fraction: float) -> None:
        _report(progress, stage, 0.61 + 0.24 * fraction)

    tied = tie(observed, settings.anchor, report_tie)
    laps.lap("landmarks")
    if planning is not None:
        settings = replace(settings, dense=planning.dense(settings.dense, len(used)))
    refined, given_up = _refined(observed, tied, settings, network, progress)
    surface = None if refined is None else refined.surface()
    anchoring = anchor(observed, tied, settings.anchor, surface)
    refined = None if refined is None else refined.transformed(anchoring.map_from_tied)
    laps.lap("depth")

    points = _points(observed, anchoring, refined, settings.points, progress)
    laps.lap("points")

    scene = _scene(observed, memory, network, anchoring, points, refined, settings)
    outliers = tuple(scene.keyframes.names[i] for i in anchoring.prior_outliers)
    laps.lap("scene")
    report = {**scene.report, "views": views.report()}
    if given_up:
        report["depth_given_up"] = given_up
    if planning is not None:
        dense_done = None if tied.landmarks is None else _dense_name(refined)
        report["budget"] = planning.finish(views, laps.seconds, dense_done)
    return Reconstruction(
        scene=replace(scene, report=report),
        prediction=prediction,
        frames=used,
        views=views,
        skipped=skipped,
        prior_outliers=outliers,
        anchored=None if anchoring.landmarks is None else anchoring.prediction,
        refined=refined,
        seconds=laps.seconds,
        cpu_seconds=laps.cpu_seconds,
    )


def contribute(
    frames: Sequence[Frame],
    network: Vggt3,
    settings: ReconstructionSettings | None,
    ranks: Ranks,
) -> None:
    """What the others do while the first of several processes runs `reconstruct` on the same
    frames: their shares of them pass the network. Raises what `reconstruct` does.
    """
    settings = settings or ReconstructionSettings()
    _check_alone(settings, ranks)
    used, _ = usable_frames(frames)
    _mapped(used, network, settings, None, ranks, Laps())


def _check_alone(settings: ReconstructionSettings, ranks: Ranks | None) -> None:
    if settings.budget is not None and ranks is not None and ranks.world > 1:
        raise InputError(
            f"a budget is spent by one process, and there are {ranks.world}; leave the budget out,"
            " or start one"
        )


def _planning(
    frames: tuple[Frame, ...],
    network: Vggt3,
    settings: ReconstructionSettings,
    ranks: Ranks | None,
) -> Planning | None:
    """How the budget is spent, if there is one."""
    _check_alone(settings, ranks)
    if settings.budget is None:
        return None
    config = network.config
    landmarks = settings.anchor.landmarks is not None
    dense: Dense = "off"
    if landmarks and settings.dense is not None:
        dense = "fine" if settings.dense.long_side > FAST.long_side else "fast"
    count = len(frames)
    size_hw = prepared_size(frames, config.image_size, config.patch_size)
    wish = Wish(count, count, settings.steps, landmarks, dense)
    fit = partial(_fit, network, settings, size_hw)
    return Planning(settings.budget, wish, network, size_hw, fit)


def _mapped(
    used: tuple[Frame, ...],
    network: Vggt3,
    settings: ReconstructionSettings,
    progress: StageProgress | None,
    ranks: Ranks | None,
    laps: Laps,
    planning: Planning | None = None,
    announce: Callable[[str], None] | None = None,
) -> tuple[Observed, SceneMemory, Views]:
    """What the network says of frames, on the CPU, the memory, and which frames that was fitted to;
    of all frames at the first of several processes, or of those that the budget suffices for.
    """
    config = network.config
    check_anchors(network, settings.anchors)
    _report(progress, "prepare", 0.0)
    prepared = prepare(used, config.image_size, config.patch_size)
    chosen = None
    views = Views.all_fitted(len(used))
    if planning is not None:
        chosen = planning.choose(prepared, settings.redundant_views == "query")
        used = tuple(used[index] for index in chosen.used)
        prepared, views = chosen.prepared, chosen.views
        if announce is not None:
            announce(planning.told())
    elif settings.redundant_views == "query":
        processes = 1 if ranks is None else min(ranks.world, len(used))
        views = choose_views(prepared.images, max(2, processes))
    fitted, queried = len(views.fitted), len(views.queried)
    if ranks is not None:
        fitted, queried = (len(range(*ranks.share(n).indices(n))) for n in (fitted, queried))
    fit = _fit(network, settings, prepared.size_hw, fitted, queried)
    how = NetworkSettings(settings.steps, settings.anchors, _pointmap(settings), fit)
    laps.lap("prepare")

    def report(stage: str, fraction: float) -> None:
        _report(progress, stage, 0.05 + 0.55 * fraction)

    if planning is not None and chosen is not None:
        prediction, memory = planning.map(chosen, how, report)
    else:
        prediction, memory = map_views(network, prepared.images, views, how, report, ranks)
    laps.lap("network")
    return Observed(used, prepared, prediction), memory, views


def _fit(
    network: Vggt3,
    settings: ReconstructionSettings,
    size_hw: tuple[int, int],
    fitted: int,
    queried: int,
) -> MapFit:
    """How the network maps in the memory that there is. Raises InputError where it does not
    suffice.
    """
    given = None if settings.budget is None else settings.budget.memory_bytes
    limit = bytes_within(network.device, given, settings.memory_limit_bytes)
    return fit_map(
        network,
        fitted,
        size_hw,
        settings.chunk,
        limit,
        _pointmap(settings),
        queried,
        settings.anchors,
    )


def _pointmap(settings: ReconstructionSettings) -> bool:
    return settings.points.source == "pointmap"


def _refined(
    observed: Observed,
    tied: Tied,
    settings: ReconstructionSettings,
    network: Vggt3,
    progress: StageProgress | None,
) -> tuple[RefinedDepth | None, str]:
    """Depth refined with the cameras of a verified map, in their frame; None for any other, or
    where not asked for.

    And why it was given up: where it would have taken longer than it may.
    """
    if tied.landmarks is None or settings.dense is None:
        return None, ""
    try:
        refined = refined_depth(
            observed.frames,
            observed.prepared,
            tied.depth(observed.prediction.depth),
            tied.landmarks,
            settings.dense,
            network.device,
            lambda fraction: _report(progress, "depth", 0.85 + 0.12 * fraction),
        )
    except OverBudgetError as error:
        return None, str(error)
    return refined, ""


def _dense_name(refined: RefinedDepth | None) -> Dense:
    """How depth was refined."""
    if refined is None:
        return "off"
    return "fine" if max(refined.keyframes.size_hw) > FAST.long_side else "fast"


def _points(
    observed: Observed,
    anchoring: Anchoring,
    refined: RefinedDepth | None,
    settings: PointSettings,
    progress: StageProgress | None,
) -> PointCloud:
    """The map's points, in its frame: of refined depth, or else of what the network predicts."""
    if refined is not None:
        return refined.cloud(anchoring.is_metric, settings.max_points)

    def report(fraction: float) -> None:
        _report(progress, "points", 0.97 + 0.03 * fraction)

    points = coloured_points(anchoring.prediction, observed.prepared.images, settings, report)
    return points.transformed(anchoring.map_from_scene)


def _scene(
    observed: Observed,
    memory: SceneMemory,
    network: Vggt3,
    anchoring: Anchoring,
    points: PointCloud,
    refined: RefinedDepth | None,
    settings: ReconstructionSettings,
) -> Scene:
    """What is stored of a reconstruction."""
    keyframes = Keyframes(
        names=tuple(_name(i, frame) for i, frame in enumerate(observed.frames)),
        stamps_ns=tuple(frame.stamp_ns for frame in observed.frames),
        cam_from_world=observed.prediction.cameras.cam_from_world,
        intrinsics=observed.intrinsics,
    )
    return Scene(
        memory=memory.to("cpu").tensors(),
        keyframes=keyframes,
        points=points,
        bounds=_bounds(points, anchoring.map_from_scene.poses(observed.scene_from_cam)),
        model_id=network.model_id,
        model_fingerprint=network.fingerprint(),
        input_size=observed.prepared.size_hw,
        ttt_steps=settings.steps if network.config.has_fast_weights else 0,
        map_from_scene=anchoring.map_from_scene,
        is_metric=anchoring.is_metric,
        metric_source=anchoring.metric_source,
        metric_residual_m=anchoring.metric_residual_m,
        up_source=anchoring.up_source,
        landmarks={} if anchoring.landmarks is None else anchoring.landmarks.tensors(),
        verdict=anchoring.verdict,
        calibration=anchoring.calibration,
        report={
            **anchoring.report,
            **({} if refined is None else {"depth": refined.report()}),
        },
        map_frame=settings.map_frame,
        made_by=settings.made_by,
        depth=None if refined is None else refined.stored(settings.keep_images),
        images=_stored_images(observed.prepared) if settings.keep_images else None,
        has_refined_points=refined is not None,
    )


def _stored_images(prepared: PreparedFrames) -> Tensor:
    """Images (S, 3, H, W) uint8 as the network saw them: they come from bytes, and nothing is
    lost.
    """
    return (255 * prepared.images).round().to(torch.uint8).cpu()


def usable_frames(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[tuple[str, str], ...]]:
    """Frames that can be reconstructed together, and (name, reason) of the others.

    What has the same shape but another size is taken as the same camera's and resized, so that one
    focal length and one noise in pixels hold for all. Where every frame brings its calibration,
    other shapes are other cameras, and are used as they are. Raises InputError when fewer than 2
    are usable.
    """
    if len(frames) == 0:
        raise InputError("there are no frames; give at least 2 images of the place")
    bright = [frame for frame in frames if not frame.is_black] or frames[:1]
    usual = usual_size(frame.size_hw for frame in bright)
    several_cameras = all(frame.intrinsics is not None for frame in bright)
    used = []
    skipped = []
    for index, frame in enumerate(frames):
        has_usual_shape = same_shape(frame.size_hw, usual)
        if frame.is_black:
            skipped.append((_name(index, frame), "the image is black"))
        elif not (has_usual_shape or several_cameras):
            skipped.append((_name(index, frame), _other_shape(frame.size_hw, usual)))
        elif frame.prior_problem is not None:
            skipped.append((_name(index, frame), frame.prior_problem))
        else:
            used.append(resized(frame, usual) if has_usual_shape else frame)
    if len(used) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        why = f" ({reasons}{more})" if skipped else ""
        count = f"{len(used)} of {len(frames)}"
        raise InputError(
            f"a reconstruction needs at least 2 usable frames, but only {count} can be used{why}"
        )
    return tuple(used), tuple(skipped)


def _other_shape(size_hw: tuple[int, int], usual_hw: tuple[int, int]) -> str:
    return (
        f"the image is {size_hw[1]}x{size_hw[0]}, most are {usual_hw[1]}x{usual_hw[0]}: images of"
        " several shapes can be used together only if all of them are calibrated"
    )


def _bounds(points: PointCloud, map_from_cam: Tensor) -> tuple[Corner, Corner]:
    """Lowest and highest corner of the points, or of the cameras if no point was kept."""
    positions = points.points.double() if len(points) else map_from_cam[:, :3, 3]
    low = positions.amin(0).tolist()
    high = positions.amax(0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _name(index: int, frame: Frame) -> str:
    return frame.name or f"frame {index}"


def _report(progress: StageProgress | None, stage: str, fraction: float) -> None:
    if progress is not None:
        progress(stage, fraction)
