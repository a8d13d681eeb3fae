"""What `vggt3 demo` tells: the files that it leaves, and lines on stdout."""

from __future__ import annotations

import time
from typing import Any

from vggt3_ros.cli.common import atomic_path
from vggt3_ros.cli.demo_folder import DemoFolder
from vggt3_ros.cli.demo_phases import Demo, Outcome


def write_report(folder: DemoFolder, demo: Demo, outcome: Outcome, begin: float) -> dict[str, Any]:
    """Write points, picture and report; returns the report. `begin`: when the demo began, by time.perf_counter."""
    from vggt3_ros.cli.demo_picture import draw_demo
    from vggt3_ros.geometry.pointcloud import write_ply

    scene, figures = outcome.scene, outcome.run.figures()
    with atomic_path(folder.points) as temporary:
        write_ply(scene.points, temporary)
    with atomic_path(folder.picture) as temporary:
        draw_demo(scene, outcome.run, figures, temporary)
    return folder.write_report(
        {
            "finished": True,
            "failure": outcome.run.failure(),
            "camera": demo.camera.title,
            "frames_mapped": len(scene.keyframes),
            "map_seconds": outcome.map_seconds,
            **figures,
            "dropped_messages": outcome.messages,
            "seconds": {**demo.seconds, "total": time.perf_counter() - begin},
            "scene_id": scene.scene_id,
            "metric": scene.is_metric,
            "metric_source": scene.metric_source,
            "verified": scene.is_verified,
            "model": scene.model_id,
        }
    )


def say(what: str, text: str) -> None:
    """A line on stdout."""
    print(f"{what:9s} {text}", flush=True)


def print_report(data: dict[str, Any], folder: DemoFolder) -> None:
    """The report in a few lines on stdout."""
    tried, answerable = data["query_frames"], data["answerable"]
    known = ""
    if answerable is not None:
        known = f"; {data['localized_answerable']} of the {answerable} that show enough of the map"
    say("localized", f"{data['localized']} of {tried} images of the second drive{known}")
    position, rotation, delay = (data[key] for key in ("position_error_m", "rotation_error_deg", "image_to_pose_ms"))
    if position["median"] is not None:
        half = f"median {100 * position['median']:.1f} cm and {rotation['median']:.2f} degrees"
        most = f"90 % below {100 * position['p90']:.1f} cm and {rotation['p90']:.2f} degrees"
        say("errors", f"{half}, {most}; {data['wrong']} poses wrong")
    if delay["median"] is not None:
        say("delay", f"median {delay['median']:.0f} ms from image to pose, 90 % below {delay['p90']:.0f} ms")
    lost = data["dropped_messages"]["lost"]
    say("images", f"{lost or 'none'} lost between the nodes")
    say("written", f"{folder.path}: top_view.png, points.ply, report.json, scene/, logs/")
    say("seconds", f"{data['seconds']['total']:.1f}")
