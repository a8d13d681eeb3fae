"""What `vggt3 demo` tells: the files that it leaves, and lines on stdout."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vggt3_ros.cli.demo.folder import DemoFolder
from vggt3_ros.cli.demo.phases import Demo, DemoOutcome, Messages
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.files import atomic_path

if TYPE_CHECKING:
    from vggt3_ros.evaluation.live_run import LiveFigures


@dataclass(frozen=True)
class DemoReport:
    """What the demo tells. failure: why it is no success, None if it is one. seconds: of each
    phase, and in total.
    """

    finished: bool
    failure: str | None
    camera: str
    frames_mapped: int = field(metadata=figure("count"))
    map_seconds: float = field(metadata=figure("s"))
    figures: LiveFigures = field(metadata=figure(inline=True))
    dropped_messages: Messages
    seconds: dict[str, float] = field(metadata=figure("s"))
    scene_id: str
    metric: bool
    metric_source: str
    verified: bool
    model: str


def make_report(folder: DemoFolder, demo: Demo, outcome: DemoOutcome, begin: float) -> DemoReport:
    """Write points and picture; returns what there is to report. `begin`: when it began, by
    time.perf_counter.
    """
    from vggt3_ros.cli.demo.picture import draw_demo
    from vggt3_ros.geometry.pointcloud import write_ply

    scene = outcome.scene
    figures = outcome.run.figures()
    with atomic_path(folder.points) as temporary:
        write_ply(scene.points, temporary)
    with atomic_path(folder.picture) as temporary:
        draw_demo(scene, outcome.run, figures, temporary)
    return DemoReport(
        finished=True,
        failure=outcome.run.failure(),
        camera=demo.camera.title,
        frames_mapped=len(scene.keyframes),
        map_seconds=outcome.map_seconds,
        figures=figures,
        dropped_messages=outcome.messages,
        seconds={**demo.seconds, "total": time.perf_counter() - begin},
        scene_id=scene.scene_id,
        metric=scene.is_metric,
        metric_source=scene.metric_source,
        verified=scene.is_verified,
        model=scene.model_id,
    )


def say(what: str, text: str) -> None:
    """A line on stdout."""
    print(f"{what:9s} {text}", flush=True)


def print_report(report: DemoReport, folder: DemoFolder) -> None:
    """The report in a few lines on stdout."""
    figures = report.figures
    known = ""
    if figures.answerable is not None:
        known = (
            f"; {figures.localized_answerable} of the {figures.answerable} that show enough of"
            " the map"
        )
    say(
        "localized",
        f"{figures.localized} of {figures.query_frames} images of the second drive{known}",
    )
    position = figures.position_error_m
    rotation = figures.rotation_error_deg
    delay = figures.image_to_pose_ms
    if position.median is not None and position.p90 is not None:
        half = f"median {100 * position.median:.1f} cm and {rotation.median:.2f} degrees"
        most = f"90 % below {100 * position.p90:.1f} cm and {rotation.p90:.2f} degrees"
        say("errors", f"{half}, {most}; {figures.wrong} poses wrong")
    if delay.median is not None:
        say(
            "delay",
            f"median {delay.median:.0f} ms from image to pose, 90 % below {delay.p90:.0f} ms",
        )
    say("images", f"{report.dropped_messages.lost or 'none'} lost between the nodes")
    say("written", f"{folder.path}: top_view.png, points.ply, report.json, scene/, logs/")
    say("seconds", f"{report.seconds['total']:.1f}")
