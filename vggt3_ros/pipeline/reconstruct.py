"""Use case one: a set of frames becomes a scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

from vggt3_ros.dense.refine import OverBudgetError
from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.laps import Laps
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.colours import compared_with_points
from vggt3_ros.pipeline.dense import FAST, RefinedDepth, refined_depth
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.map_frame import Anchoring, anchor
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.mapping import NetworkSettings, check_anchors
from vggt3_ros.pipeline.network_map import choose_frames, map_chosen
from vggt3_ros.pipeline.observed import Observed
from vggt3_ros.pipeline.plan import Dense, Wish
from vggt3_ros.pipeline.planning import Planning
from vggt3_ros.pipeline.points import PointSettings, coloured_points
from vggt3_ros.pipeline.preprocess import prepare, prepared_size
from vggt3_ros.pipeline.scene_of_map import scene_of_map
from vggt3_ros.pipeline.tie import Tied, tie
from vggt3_ros.pipeline.usable_frames import frame_name, usable_frames
from vggt3_ros.pipeline.views import RedundantViews, Views
from vggt3_ros.progress import StageProgress, scaled
from vggt3_ros.ranks import Ranks
from vggt3_ros.scene.scene import Scene

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
    image_size: long side in pixels of the images as the network sees them, None for what it was
    trained at. memory_limit_bytes replaces what the system says is available on its device.
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
    image_size: int | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "chunk", "anchors"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected at least 1")
        if self.redundant_views not in get_args(RedundantViews):
            expected = "expected 'query' or 'fit'"
            raise InputError(f"redundant_views is {self.redundant_views!r}; {expected}")

    @property
    def network(self) -> NetworkSettings:
        """What the network's part of it is."""
        return NetworkSettings(
            self.steps,
            self.chunk,
            self.anchors,
            self.redundant_views,
            self.budget,
            self.points.source == "pointmap",
            self.memory_limit_bytes,
            self.image_size,
        )


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A scene and what it came from.

    frames: those used, in the order of the scene's keyframes and of the prediction (on the CPU),
    and in the size that they were used in. views: which of them the map was fitted to. skipped:
    names and reasons of those not used. prior_outliers: names of used frames whose prior pose is
    contradicted. anchored: the prediction as the landmarks scale and place it, still in scene
    units; None without landmarks. refined: depth refined by the views of each other, None where
    that was not done. seconds per stage; cpu_seconds of the processor, all threads of the process.
    groups: indices of frames that hold together, but that nothing ties to the landmarks; each might
    be a map of its own. Where the map is refused for nothing but that it falls into parts, all.
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
    groups: tuple[tuple[int, ...], ...] = ()


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
    how = settings.network
    laps = Laps()
    given, skipped = usable_frames(frames)
    _check_alone(settings, ranks)
    check_anchors(network, settings.anchors)
    planning = _planning(given, network, settings, how)
    if planning is not None:
        laps.lap("costs")
    mapped = _mapped(given, network, how, progress, ranks, laps, planning, announce)
    observed, memory, views = mapped
    if planning is not None:
        skipped = (*skipped, *((frame_name(i, given[i]), _UNUSED) for i in planning.unused))
        how = replace(how, steps=planning.steps)
    observed.prediction.require_finite_cameras()

    tied = tie(observed, settings.anchor, scaled(progress, 0.61, 0.85))
    laps.lap("landmarks")
    if planning is not None:
        settings = replace(settings, dense=planning.dense(settings.dense, len(observed.frames)))
    anchoring, refined, given_up = _anchored(observed, tied, settings, network, progress)
    laps.lap("depth")

    points = _points(observed, anchoring, refined, settings.points, progress)
    if refined is not None:
        anchoring = compared_with_points(observed, anchoring, points)
    laps.lap("points")

    scene = scene_of_map(
        observed, memory, network, how.steps, anchoring, points, refined, settings.keep_images
    )
    laps.lap("scene")
    report = {**scene.report, "views": views.report()}
    if given_up:
        report["depth_given_up"] = given_up
    if planning is not None:
        dense_done = None if tied.landmarks is None else _dense_name(refined)
        report["budget"] = planning.finish(views, laps.seconds, dense_done)
    return Reconstruction(
        scene=replace(scene, report=report, map_frame=settings.map_frame, made_by=settings.made_by),
        prediction=observed.prediction,
        frames=observed.frames,
        views=views,
        skipped=skipped,
        prior_outliers=tuple(scene.keyframes.names[i] for i in anchoring.prior_outliers),
        anchored=None if anchoring.landmarks is None else anchoring.prediction,
        refined=refined,
        seconds=laps.seconds,
        cpu_seconds=laps.cpu_seconds,
        groups=tied.groups,
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
    check_anchors(network, settings.anchors)
    _mapped(used, network, settings.network, None, ranks, Laps())


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
    how: NetworkSettings,
) -> Planning | None:
    """How the budget is spent, if there is one."""
    if settings.budget is None:
        return None
    landmarks = settings.anchor.landmarks is not None
    dense: Dense = "off"
    if landmarks and settings.dense is not None:
        dense = "fine" if settings.dense.long_side > FAST.long_side else "fast"
    count = len(frames)
    patch_size = network.config.patch_size
    sizes_hw = tuple(prepared_size(frames, s, patch_size) for s in how.image_sizes(network))
    wish = Wish(count, count, settings.steps, landmarks, dense, sizes_hw[0], sizes_hw)
    return Planning(settings.budget, wish, network, how)


def _mapped(
    used: tuple[Frame, ...],
    network: Vggt3,
    how: NetworkSettings,
    progress: StageProgress | None,
    ranks: Ranks | None,
    laps: Laps,
    planning: Planning | None = None,
    announce: Callable[[str], None] | None = None,
) -> tuple[Observed, SceneMemory, Views]:
    """What the network says of frames, on the CPU, the memory, and which frames that was fitted to;
    of all frames at the first of several processes, or of those that the budget suffices for.
    """
    scaled(progress, 0.0, 1.0)("prepare", 0.0)
    sizes = how.image_sizes(network)
    long_side = sizes[0] if planning is None else max(planning.plan.size_hw)
    prepared = prepare(used, long_side, network.config.patch_size)
    chosen = choose_frames(prepared, how, planning, ranks, announce)
    laps.lap("prepare")

    listener = scaled(progress, 0.05, 0.6)
    prediction, memory = map_chosen(network, chosen, how, planning, listener, ranks)
    laps.lap("network")
    used = tuple(used[index] for index in chosen.used)
    return Observed(used, chosen.prepared, prediction), memory, chosen.views


def _anchored(
    observed: Observed,
    tied: Tied,
    settings: ReconstructionSettings,
    network: Vggt3,
    progress: StageProgress | None,
) -> tuple[Anchoring, RefinedDepth | None, str]:
    """The map's frame, and what `_refined` gives, in it."""
    refined, given_up = _refined(observed, tied, settings, network, progress)
    if refined is None:
        return anchor(observed, tied, settings.anchor, None), None, given_up
    anchoring = anchor(observed, tied, settings.anchor, refined.surface())
    return anchoring, refined.transformed(anchoring.map_from_tied), given_up


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
            partial(scaled(progress, 0.85, 0.97), "depth"),
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
    listener = partial(scaled(progress, 0.97, 1.0), "points")
    points = coloured_points(anchoring.prediction, observed.prepared.images, settings, listener)
    return points.transformed(anchoring.map_from_scene)
