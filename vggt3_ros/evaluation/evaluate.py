"""Reconstructs a sequence's map frames, localizes its query frames one by one, and compares both
with the truth.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.evaluation.attempt import Attempt
from vggt3_ros.evaluation.challenges import KINDS, Challenge, challenges
from vggt3_ros.evaluation.compared_clouds import NETWORK, SCENE, ComparedClouds, compare_clouds
from vggt3_ros.evaluation.coverage import ANSWERABLE_FRACTION, query_coverage
from vggt3_ros.evaluation.depth import (
    DepthComparison,
    DepthFigures,
    compare_depth,
    live_depth_figures,
)
from vggt3_ros.evaluation.drive_figures import DriveFigures, drive_figures
from vggt3_ros.evaluation.figures import (
    AlignmentFigures,
    EvaluationFigures,
    MapErrors,
    MapFigures,
    SkippedFrame,
)
from vggt3_ros.evaluation.judge import Judge
from vggt3_ros.evaluation.map_alignment import MappedFrames, align_scene
from vggt3_ros.evaluation.metrics import localization_errors, trajectory_extent
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.provenance import RefinedFrames
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.evaluation.scores import (
    baseline_errors,
    map_errors,
    network_errors,
    query_figures,
    verified_figures,
)
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.points import coloured_points
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct
from vggt3_ros.progress import StageProgress, scaled


@dataclass(frozen=True)
class EvaluationSettings:
    """How maps are made and queries localized; the pose priors of the map frames; whether
    challenges are posed.

    seed draws the noise of the priors and of the challenges. The limits keep evenly spaced frames
    of the split.
    """

    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    localizer: LocalizerSettings = field(default_factory=LocalizerSettings)
    priors: Priors = field(default_factory=Priors)
    adversarial: bool = False
    seed: int = 0
    max_map_frames: int | None = None
    max_query_frames: int | None = None


@dataclass(frozen=True, eq=False)
class _Run:
    """A map of chosen frames of a sequence and what was localized in it. seconds: of the map;
    memory: as of `_peak_memory`; posed: what became of challenges, None where there were none.
    """

    sequence: Sequence
    chosen: Split
    network: Any
    settings: EvaluationSettings
    reconstruction: Reconstruction
    seconds: float
    mapped: MappedFrames
    localizations: list[Localization]
    attempts: tuple[Attempt, ...]
    memory: tuple[int, int | None]
    posed: dict[str, tuple[Attempt, ...]] | None

    def in_true_world(self, map_from_cam: Tensor | None) -> Tensor | None:
        """A pose (4, 4) as the truth has it."""
        return None if map_from_cam is None else self.mapped.true_from_map.poses(map_from_cam)

    def true_scale(self) -> float | None:
        """Metres of the truth to one of the map; None where the map has collapsed."""
        return None if self.mapped.collapsed else self.mapped.true_from_map.scale


def evaluate(
    sequence: Sequence,
    network: Any,
    split: str | None = None,
    settings: EvaluationSettings | None = None,
    progress: StageProgress | None = None,
    elsewhere: Items[Sequence] = (),
) -> Evaluation:
    """Measure a network (a Vggt3), alone and verified by landmarks, on a split of a sequence, by
    default its first one.

    Every query is localized once. With true pose priors the scene's own metres and axes are
    measured, otherwise estimates are compared after the Sim(3) of the map poses. elsewhere:
    sequences of other places, whose frames are among the challenges. progress(stage, 0..1) is
    called now and then; what it raises cancels. Raises InputError for an unknown split, unreadable
    images, or fewer than two usable map frames.
    """
    settings = settings or EvaluationSettings()
    chosen = sequence.split(split).limited(settings.max_map_frames, settings.max_query_frames)
    run = _run(sequence, chosen, network, settings, progress, elsewhere)
    mapped = run.mapped
    depth = _compare_depth(run)
    compared = _clouds(run)
    clouds = compare_clouds(sequence, mapped, compared, _reporting_clouds(progress))
    query_poses = tuple(run.in_true_world(each.network_map_from_cam) for each in run.localizations)
    return Evaluation(
        sequence=sequence,
        split=chosen,
        map_indices=mapped.indices,
        map_poses=mapped.true_from_map.poses(mapped.map_poses),
        query_poses=query_poses,
        verified_poses=tuple(
            run.in_true_world(each.map_from_cam)
            if each.status is LocalizationStatus.VERIFIED
            else None
            for each in run.localizations
        ),
        attempts=run.attempts,
        challenges=run.posed,
        points=compared[SCENE],
        clouds=clouds,
        depth_examples=depth.examples,
        figures=_figures(run, split, depth.figures, clouds, query_poses),
    )


def _run(
    sequence: Sequence,
    chosen: Split,
    network: Any,
    settings: EvaluationSettings,
    progress: StageProgress | None,
    elsewhere: Items[Sequence],
) -> _Run:
    """Map, localize, and pose challenges where settings ask for them."""
    _reset_cuda_peak(network)
    map_frames = _read(sequence, chosen, settings, progress)
    # of the time, at the end of the part
    mapping, localizing = (0.25, 0.4) if settings.adversarial else (0.7, 1.0)
    started = time.perf_counter()
    reconstruction = reconstruct(
        map_frames, network, settings.reconstruction, scaled(progress, 0.0, mapping)
    )
    seconds = time.perf_counter() - started
    scene = reconstruction.scene
    mapped = align_scene(sequence, chosen, scene, settings.priors)

    localizer = Localizer(scene, network, settings.localizer)
    localizations = _localize(sequence, chosen, localizer, scaled(progress, mapping, localizing))
    fractions = query_coverage(sequence, mapped.indices, chosen.query)
    answerable = [each is None or each >= ANSWERABLE_FRACTION for each in fractions]
    judge = Judge(None if mapped.collapsed else mapped.true_from_map, settings.localizer.locate)
    attempts = tuple(
        judge.attempt(sequence.names[index], localization, sequence.world_from_cam[index], can)
        for localization, index, can in zip(localizations, chosen.query, answerable, strict=True)
    )
    memory = _peak_memory(network)
    posed = None
    if settings.adversarial:
        visible = [index for index, can in zip(chosen.query, answerable, strict=True) if can]
        cases = challenges(sequence, chosen, visible, settings.seed, elsewhere)
        posed = _pose(cases, localizer, judge, scaled(progress, localizing, 1.0))
    return _Run(
        sequence,
        chosen,
        network,
        settings,
        reconstruction,
        seconds,
        mapped,
        localizations,
        attempts,
        memory,
        posed,
    )


def _figures(
    run: _Run,
    split: str | None,
    depth: DepthFigures,
    clouds: ComparedClouds,
    query_poses: tuple[Tensor | None, ...],
) -> EvaluationFigures:
    """All that a run is worth, by the truth. query_poses: of the network, in the true world."""
    sequence = run.sequence
    chosen = run.chosen
    mapped = run.mapped
    network = run.network
    settings = run.settings
    scene = run.reconstruction.scene
    extent = trajectory_extent(sequence.world_from_cam[[*chosen.map, *chosen.query]])
    errors = network_errors(sequence, chosen, mapped, run.localizations, query_poses)
    config = network.config
    return EvaluationFigures(
        sequence=sequence.name,
        split=split or next(iter(sequence.splits)),
        model=network.model_id,
        model_fingerprint=scene.model_fingerprint,
        device=str(network.device),
        ttt_steps=scene.ttt_steps,
        input_size=scene.input_size,
        priors=str(settings.priors),
        propose=settings.localizer.propose,
        neighbours=settings.localizer.neighbours,
        seed=settings.seed,
        trajectory_extent_m=extent,
        map=_map_figures(run, map_errors(sequence, mapped, extent), depth),
        localization=localization_errors(*errors, extent),
        baselines=baseline_errors(sequence, chosen, mapped, extent),
        queries=query_figures(run.localizations, query_poses, run.attempts, errors),
        verified=verified_figures(sequence, mapped, scene, run.attempts, run.posed),
        live_depth=live_depth_figures(
            sequence,
            chosen.query,
            run.localizations,
            config.image_size,
            config.patch_size,
            run.true_scale(),
        ),
        cloud=clouds.figures(SCENE),
        cloud_network=clouds.figures(NETWORK),
        alignment=_alignment_figures(mapped),
        drive=_drive(run),
        notes=_notes(sequence, clouds),
    )


def _map_figures(run: _Run, errors: MapErrors, depth: DepthFigures) -> MapFigures:
    peak_rss, peak_cuda = run.memory
    made = run.reconstruction
    return MapFigures(
        errors=errors,
        depth=depth,
        seconds=run.seconds,
        cpu_seconds=made.cpu_seconds["total"],
        stages=dict(made.seconds),
        cpu_stages=dict(made.cpu_seconds),
        peak_rss_bytes=peak_rss,
        peak_cuda_bytes=peak_cuda,
        skipped=tuple(SkippedFrame(name, reason) for name, reason in made.skipped),
    )


def _drive(run: _Run) -> DriveFigures | None:
    """What became of odometry that drifts; None where priors do not."""
    settings = run.settings
    if settings.priors.drift is None:
        return None
    true = run.sequence.world_from_cam
    priors = settings.priors.poses(true[list(run.chosen.map)], settings.seed)
    of_frame = dict(zip(run.chosen.map, priors, strict=True))
    odometry = [of_frame[index] for index in run.mapped.indices]
    report = run.reconstruction.scene.report
    return drive_figures(true[list(run.mapped.indices)], odometry, run.mapped.map_poses, report)


def _alignment_figures(mapped: MappedFrames) -> AlignmentFigures:
    return AlignmentFigures(
        source=mapped.source,
        collapsed=mapped.collapsed,
        reason=mapped.problem,
        network_reason=mapped.network_problem,
        true_from_estimated=mapped.true_from_scene,
        true_from_map=mapped.true_from_map,
    )


def _notes(sequence: Sequence, clouds: ComparedClouds) -> tuple[str, ...]:
    if not clouds.problem:
        return tuple(sequence.notes)
    return (*sequence.notes, f"clouds are not compared: {clouds.problem}")


def _reporting_clouds(progress: StageProgress | None) -> Callable[[], None] | None:
    """A listener to what comes last and is quick; it can still be cancelled."""
    return None if progress is None else lambda: progress("cloud", 1.0)


def _read(
    sequence: Sequence, split: Split, settings: EvaluationSettings, progress: StageProgress | None
) -> list[Frame]:
    priors = settings.priors.poses(sequence.world_from_cam[list(split.map)], settings.seed)
    frames = []
    for index, prior in zip(split.map, priors, strict=True):
        if progress is not None:
            progress("read", 0.0)
        frames.append(replace(sequence.frame(index), prior_world_from_cam=prior))
    return frames


def _compare_depth(run: _Run) -> DepthComparison:
    mapped = run.mapped
    config = run.network.config
    anchored = run.reconstruction.anchored
    refined = run.reconstruction.refined
    dense = None if refined is None else refined.depth
    return compare_depth(
        run.sequence,
        mapped.indices,
        run.reconstruction.prediction.depth,
        None if anchored is None else anchored.depth,
        config.image_size,
        config.patch_size,
        None if mapped.collapsed else mapped.true_from_scene.scale,
        None
        if dense is None
        else RefinedFrames(dense.depth.cpu(), dense.provenance.cpu(), dense.sigma.cpu()),
        run.true_scale(),
    )


def _clouds(run: _Run) -> dict[str, PointCloud]:
    """The points of a scene in the true world, and where its depth was refined, those that it would
    have without.
    """
    clouds = {SCENE: run.reconstruction.scene.points}
    if run.reconstruction.refined is not None:
        clouds[NETWORK] = _network_cloud(run.reconstruction, run.network)
    return {block: cloud.transformed(run.mapped.true_from_map) for block, cloud in clouds.items()}


def _network_cloud(reconstruction: Reconstruction, network: Any) -> PointCloud:
    """The points, in the map, that a scene would have if depth were not refined."""
    assert reconstruction.anchored is not None
    images = prepare(
        reconstruction.frames, network.config.image_size, network.config.patch_size
    ).images
    return coloured_points(reconstruction.anchored, images).transformed(
        reconstruction.scene.map_from_scene
    )


def _localize(
    sequence: Sequence,
    split: Split,
    localizer: Localizer,
    progress: StageProgress,
) -> list[Localization]:
    """One localization per query."""
    localizations = []
    for done, index in enumerate(split.query):
        progress("localize", done / len(split.query))
        found = localizer.localize(sequence.frame(index))
        # features of all queries would fill the memory
        localizations.append(replace(found, searched=None))
    progress("localize", 1.0)
    return localizations


def _pose(
    cases: Iterable[Challenge], localizer: Localizer, judge: Judge, progress: StageProgress
) -> dict[str, tuple[Attempt, ...]]:
    """What became of each challenge, per kind."""
    attempts: dict[str, list[Attempt]] = {}
    for case in cases:
        kind = attempts.setdefault(case.kind, [])
        progress("challenge", (len(attempts) - 1) / len(KINDS))
        kind.append(
            judge.attempt(case.frame.name, localizer.localize(case.frame), case.true_world_from_cam)
        )
    progress("challenge", 1.0)
    return {kind: tuple(each) for kind, each in attempts.items()}


def _reset_cuda_peak(network: Any) -> None:
    if network.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(network.device)


def _peak_memory(network: Any) -> tuple[int, int | None]:
    """Bytes of the process, and of the GPU where there is one."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    on_gpu = network.device.type == "cuda"
    return resident, torch.cuda.max_memory_allocated(network.device) if on_gpu else None
