"""`vggt3 bench graph`: the nodes as they run on a robot, over DDS: delays, losses, processor and
memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.bench.machine import device_name
from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    add_seed_option,
    positive_float,
    positive_int,
    resolve_device,
)
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.evaluation.blocks import figure, to_json
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.cli.bench.graph_phases import GraphFigures
    from vggt3_ros.nodes.demo.bench_figures import MessageFigures
    from vggt3_ros.nodes.demo.bench_rig import BenchCamera


@dataclass(frozen=True)
class Rendered:
    """What the simulated camera has rendered: images, and the length of each of its drives."""

    images: int = field(metadata=figure("count"))
    metres_of_legs: list[float] = field(metadata=figure("m"))


@dataclass(frozen=True)
class Conditions:
    """What was measured, on which machine. image_size: H, W in pixels. load_average_before: of 1, 5
    and 15 minutes.
    """

    task: str
    model: str
    image_size: tuple[int, int]
    rate_hz: float = field(metadata=figure("Hz"))
    seed: int
    rendered: Rendered
    device: str
    cores: int | None = field(metadata=figure("count"))
    threads: int = field(metadata=figure("count"))
    torch: str
    ros_distro: str
    load_average_before: tuple[float, float, float]


@dataclass(frozen=True)
class GraphReport:
    """The JSON of `vggt3 bench graph`."""

    conditions: Conditions = field(metadata=figure(inline=True))
    load_average_after: tuple[float, float, float]
    figures: GraphFigures = field(metadata=figure(inline=True))


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = subparsers.add_parser(
        "graph",
        help="camera, mapper and localizer as processes over DDS",
        description=(
            "Starts a simulated camera, the mapper and the localizer as processes of their own,"
            " maps a short drive, and measures while the camera goes to and fro on another path:"
            " how long a pose takes, what is lost, and what it costs."
        ),
        epilog=(
            "The simulated camera is one of the processes that share the processor. The nodes talk"
            " on a ROS_DOMAIN_ID of their own, on this machine alone."
        ),
    )
    parser.add_argument(
        "--size", type=_size, default=(640, 480), metavar="WxH", help="pixels (default: 640x480)"
    )
    parser.add_argument(
        "--rate",
        type=positive_float,
        default=30.0,
        metavar="HZ",
        help="images per second (default: 30)",
    )
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=60.0,
        metavar="S",
        help="how long to measure (default: 60)",
    )
    add_model_option(parser)
    add_seed_option(parser, "room to drive through (default: 1)", 1)
    add_common_options(parser, "write all figures and the machine as JSON")


def run(args: argparse.Namespace) -> int:
    """Start everything, map, measure, stop everything. What went wrong is raised; logs are kept
    then.
    """
    from vggt3_ros.cli.bench.graph_phases import GraphBench
    from vggt3_ros.interrupts import Interrupts
    from vggt3_ros.nodes.demo.bench_rig import BenchCamera
    from vggt3_ros.nodes.demo.client import ClientThread
    from vggt3_ros.nodes.demo.processes import ProcessEndedError, Processes
    from vggt3_ros.nodes.demo.session import Session
    from vggt3_ros.nodes.runtime.middleware import own_domain

    if args.json is not None:
        check_writable(args.json, "--json")
    device = resolve_device(args.device)
    width, height = args.size
    camera = BenchCamera(width, height, args.rate, args.seed)
    conditions = _conditions(args, device, camera)
    os.environ.update(own_domain(os.environ))
    with Interrupts() as interrupts, _work_folder() as work, ClientThread() as thread:
        with Processes(work / "logs") as processes:
            bench = GraphBench(Session(processes, thread, interrupts.check), camera)
            try:
                figures = bench.run(args.model, device, work, args.seconds)
            except ProcessEndedError as error:
                print(error.log_tail, file=sys.stderr)
                raise
        interrupts.check()
    report = GraphReport(conditions, os.getloadavg(), figures)
    write_json(args.json, to_json(report))
    _print(report)
    return 0


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder for scenes and logs, which goes unless something went wrong that the logs may
    explain.
    """
    folder = Path(tempfile.mkdtemp(prefix="vggt3_bench_"))
    (folder / "logs").mkdir()
    try:
        yield folder
    except Vggt3Error:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _conditions(args: argparse.Namespace, device: str, camera: BenchCamera) -> Conditions:
    import torch

    width, height = args.size
    return Conditions(
        task=args.task,
        model=args.model,
        image_size=(height, width),
        rate_hz=args.rate,
        seed=args.seed,
        rendered=Rendered(camera.rendered, camera.metres),
        device=device_name(device),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        ros_distro=os.environ.get("ROS_DISTRO", "wheels of PyPI"),
        load_average_before=os.getloadavg(),
    )


def _print(report: GraphReport) -> None:
    conditions = report.conditions
    figures = report.figures
    _print_phases(conditions, figures)
    print(f"\n{'images':<28} {'sent':>6} {'received':>9} {'lost':>6} {'left out':>9}")
    _print_messages("mapping", figures.mapping.messages)
    _print_messages("reconstruction", figures.reconstruction.messages)
    _print_messages("localization", figures.localization.messages)
    print(f"\n{'process':<15} {'cores':>6} {'MB':>7} {'MB later':>9} {'MB per minute':>14}")
    for name, row in figures.processes.items():
        memory = f"{row.rss_mb_begin:>7.0f} {row.rss_mb_end:>9.0f} {row.rss_mb_per_minute:>14.1f}"
        print(f"{name:<15} {row.cores:>6.2f} {memory}")
    print(f"{'other programs':<15} {figures.other_programs_cores:>6.2f}")
    print(f"\n{conditions.cores} cores; figures depend on what other programs leave of them")


def _print_phases(conditions: Conditions, figures: GraphFigures) -> None:
    height, width = conditions.image_size
    made = figures.reconstruction
    found = figures.localization
    legs = " and ".join(f"{metres:.1f} m" for metres in conditions.rendered.metres_of_legs)
    print(
        f"camera          {width}x{height} at {conditions.rate_hz:g} Hz;"
        f" {conditions.rendered.images} images rendered, of drives of {legs}, the second one to and"
        " fro"
    )
    print(
        f"reconstruction  {made.keyframes} keyframes in {made.seconds:.1f} s,"
        f" {made.landmarks} landmarks"
    )
    print(
        f"localization    {found.seconds:.0f} s: {found.images_per_s:.1f} images,"
        f" {found.attempts_per_s:.2f} attempts and {found.poses_per_s:.2f} poses a second"
    )
    for title, delay in (
        ("image to pose", found.image_to_pose_ms),
        ("one attempt", found.attempt_ms),
    ):
        if delay.median is not None:
            print(
                f"{title:<15} median {delay.median:.0f} ms, 90 % below {delay.p90:.0f} ms, at"
                f" most {delay.max:.0f} ms"
            )


def _print_messages(phase: str, messages: dict[str, MessageFigures]) -> None:
    for node, row in messages.items():
        counts = f"{row.sent:>6} {row.received:>9} {row.lost:>6} {row.left_out:>9}"
        print(f"{phase + ', ' + node:<28} {counts}")
        for reason, count in row.reasons.items():
            print(f"{'':<28} {count:>33} {reason}")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return positive_int(width), positive_int(height)
