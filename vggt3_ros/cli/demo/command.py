"""`vggt3 demo`: map a room and localize in it, with the real nodes; no camera, no download, no
arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_device_option,
    add_json_option,
    add_model_option,
    add_seed_option,
    check_not_input,
    positive_float,
    resolve_device,
)
from vggt3_ros.cli.demo.folder import DemoFolder
from vggt3_ros.cli.demo.phases import Demo, DemoOutcome
from vggt3_ros.cli.demo.report import make_report, print_report, say
from vggt3_ros.evaluation.blocks import to_json
from vggt3_ros.files import check_writable, write_json
from vggt3_ros.interrupts import Interrupts

if TYPE_CHECKING:
    from vggt3_ros.nodes.demo.cameras import DemoCamera

_POLL = 0.1  # seconds


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="map a simulated room and localize in it, with the ROS 2 nodes",
        description=(
            "Starts a simulated camera, the mapper and the localizer as ROS 2 nodes; maps a room on"
            " a first drive, localizes on a second one beside that path, and compares every pose"
            " with the truth."
        ),
        epilog=(
            "The nodes talk on a ROS_DOMAIN_ID of their own, on this machine alone. Set"
            " ROS_DOMAIN_ID to watch them with ros2 or RViz."
        ),
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("vggt3_demo"),
        metavar="DIR",
        help=(
            "folder for report.json, top_view.png, points.ply, scene/ and logs/ (default:"
            " vggt3_demo)"
        ),
    )
    add_seed_option(parser, "another room, always the same one")
    parser.add_argument(
        "--length",
        type=positive_float,
        default=None,
        metavar="M",
        help="metres of each drive through the room",
    )
    _add_bag_options(parser)
    parser.add_argument(
        "--view",
        action="store_true",
        help="show it live in a web browser, and afterwards until Ctrl-C",
    )
    add_model_option(parser)
    add_device_option(parser)
    add_json_option(parser, "write the report here as well")


def _add_bag_options(parser: argparse.ArgumentParser) -> None:
    """Recordings in place of the simulated camera."""
    parser.add_argument(
        "--bag",
        type=Path,
        default=None,
        metavar="BAG",
        help=(
            "play this ROS 2 bag (mcap or sqlite3) in place of the simulated camera: once to map,"
            " once to localize"
        ),
    )
    parser.add_argument(
        "--query-bag",
        type=Path,
        default=None,
        metavar="BAG",
        help="play this bag the second time (default: the first)",
    )
    parser.add_argument(
        "--rate",
        type=positive_float,
        default=None,
        metavar="X",
        help="play bags X times as fast (default: 1)",
    )
    parser.add_argument(
        "--topic",
        action="append",
        type=_topic,
        default=None,
        metavar="NAME=TOPIC",
        help=(
            "play this topic of the bags as image, camera_info, odom, /tf or /tf_static, where"
            " several would do; may be given several times (NAME= leaves it out)"
        ),
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; raises DemoError, once everything is written, if the result is not good."""
    begin = time.perf_counter()
    # missing, it should be missed now and not when all work is done
    import matplotlib  # noqa: F401

    if args.view:
        import viser  # noqa: F401  # likewise

    from vggt3_ros.nodes.runtime.middleware import own_domain

    _check_usage(args)
    folder = DemoFolder(args.out)
    _check_outputs(args, folder)
    _check_network(args)
    os.environ.update(own_domain(os.environ))
    try:
        with Interrupts() as interrupts:
            camera = _camera(args)
            folder.claim()
            try:
                _run(args, folder, camera, interrupts, begin)
            finally:
                folder.release()
    except KeyboardInterrupt:
        print("vggt3: the demo was interrupted; all its processes have ended", file=sys.stderr)
        raise
    return 0


def _run(
    args: argparse.Namespace,
    folder: DemoFolder,
    camera: DemoCamera,
    interrupts: Interrupts,
    begin: float,
) -> None:
    """The phases and what they leave; every process has ended afterwards."""
    from vggt3_ros.nodes.demo.client import ClientThread
    from vggt3_ros.nodes.demo.processes import ProcessEndedError, Processes
    from vggt3_ros.nodes.demo.session import DemoError, Session

    with ClientThread() as thread:
        with Processes(folder.logs) as processes:
            demo = Demo(Session(processes, thread, interrupts.check), camera)
            try:
                outcome = _phases(args, folder, demo)
            except ProcessEndedError as error:
                print(error.log_tail, file=sys.stderr)
                raise
        report = make_report(folder, demo, outcome, begin)
        write_json(args.json, folder.write_report(to_json(report)))
        print_report(report, folder)
        if args.view:
            _wait(interrupts)
    if report.failure is not None:
        raise DemoError(f"{report.failure}; see {folder.path / 'report.json'}")


def _phases(args: argparse.Namespace, folder: DemoFolder, demo: Demo) -> DemoOutcome:
    """All phases, and a line on stdout after each."""
    from vggt3_ros.scene.storage import load_scene

    demo.start(args.model, args.device, folder.work)
    say(
        "started",
        f"{demo.camera.title}, mapper and localizer (ROS_DOMAIN_ID {os.environ['ROS_DOMAIN_ID']})",
    )
    if args.view:
        say("look", f"open {demo.session.view()} in a browser")
    kept = demo.drive_to_map()
    say("drove", f"through the place; the mapper kept {kept} of {demo.camera.images_sent} images")
    seconds = demo.reconstruct(folder.scene)
    scene = load_scene(folder.scene, with_depth=False)
    scale = "metric" if scene.is_metric else "not metric"
    say(
        "mapped",
        f"{len(scene.keyframes)} keyframes in {seconds:.1f} s, {scale}; {scene.verdict.reason}",
    )
    demo.drive_to_localize()
    return demo.outcome(scene, seconds)


def _wait(interrupts: Interrupts) -> None:
    """Wait for Ctrl-C or another signal that ends the demo."""
    say("look", "the page stays until Ctrl-C")
    try:
        while True:
            interrupts.check()
            time.sleep(_POLL)
    except KeyboardInterrupt:
        return


def _check_usage(args: argparse.Namespace) -> None:
    """Raise `argparse.ArgumentTypeError` for options that do not go together."""
    bags = _bags(args)
    if args.query_bag is not None and args.bag is None:
        raise argparse.ArgumentTypeError("--query-bag is played after --bag; give that one too")
    if args.rate is not None and not bags:
        raise argparse.ArgumentTypeError(
            "--rate is for bags; the simulated camera runs in real time"
        )
    if args.topic is not None and not bags:
        raise argparse.ArgumentTypeError(
            "--topic is for bags; the simulated camera has one of each"
        )
    if bags and (args.seed is not None or args.length is not None):
        raise argparse.ArgumentTypeError(
            "--seed and --length are for the simulated camera; leave them out with --bag"
        )


def _bags(args: argparse.Namespace) -> list[Path]:
    return [bag for bag in (args.bag, args.query_bag) if bag is not None]


def _check_outputs(args: argparse.Namespace, folder: DemoFolder) -> None:
    """Raise `InputError`, `SceneError` or a usage error when something cannot be written, or must
    not be.
    """
    folder.check()
    if args.json is not None:
        if args.json.resolve() == folder.report:  # it is written there anyway
            args.json = None
            return
        check_writable(args.json, "--json")
        inputs = [*folder.files, folder.scene, folder.logs, Path(args.model)]
        for bag in _bags(args):
            inputs += (bag, *bag.glob("*"))
        check_not_input(args.json, "--json", inputs)


def _check_network(args: argparse.Namespace) -> None:
    """Raise `InputError` or `CheckpointError` for a device or a network that is not there, before
    any node is.
    """
    from vggt3_ros.model.checkpoint import require_checkpoint

    if args.device is not None:
        resolve_device(args.device)
    require_checkpoint(args.model)


def _camera(args: argparse.Namespace) -> DemoCamera:
    from vggt3_ros.nodes.demo.cameras import RecordedCamera, SimulatedCamera

    if args.bag is None:
        return SimulatedCamera(args.seed, args.length)
    return RecordedCamera(
        [args.bag, args.query_bag or args.bag], args.rate or 1.0, dict(args.topic or ())
    )


def _topic(text: str) -> tuple[str, str]:
    """Our name of a topic, and the bag's."""
    ours, separator, theirs = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no choice of a topic; expected NAME=TOPIC, as odom=/wheel/odom"
        )
    return ours, theirs
