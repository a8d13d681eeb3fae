"""`vggt3 refit SCENE --out NEW`: what the network remembers of a scene made anew from the images of
its keyframes, with more time or other settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_budget_option,
    add_chunk_option,
    add_common_options,
    add_execution_option,
    add_model_option,
    add_network_options,
    add_precision_option,
    check_not_input,
    resolve_device,
    scene_files,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.scene.scene import Scene


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "refit", help="make a scene's memory anew, with more time", description=__doc__
    )
    parser.add_argument(
        "scene",
        type=Path,
        metavar="SCENE",
        help="scene folder written by `vggt3 map --keep-images`; it is not changed",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NEW", help="scene folder to write or replace"
    )
    add_network_options(parser, of_scene=True)
    add_budget_option(parser)
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_chunk_option(parser)
    add_common_options(parser, "write what was planned and done as JSON")


def run(args: argparse.Namespace) -> int:
    """Refit and save. Outputs that cannot be written are refused before the work begins."""
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.pipeline.refit import RefitSettings, refit
    from vggt3_ros.scene.storage import check_target, load_scene, save_scene

    if args.out.resolve() == args.scene.resolve():
        raise argparse.ArgumentTypeError(
            f"--out {args.out} is the scene that is refitted; name another folder"
        )
    check_target(args.out)
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", [*scene_files(args.scene), *scene_files(args.out)])
    device = resolve_device(args.device)
    network = load_network(args.model, device, args.precision, args.execution)
    scene = load_scene(args.scene, network.fingerprint())
    settings = RefitSettings(
        args.steps, args.chunk, args.anchors, args.redundant_views, args.budget
    )
    with ProgressBar("refitting") as progress:
        made = refit(scene, network, settings, progress, _announce)
    save_scene(made, args.out)
    data = {
        "scene": str(args.out),
        "scene_id": made.scene_id,
        "refitted": str(args.scene),
        "ttt_steps": {"before": scene.ttt_steps, "after": made.ttt_steps},
        "views": made.report["views"],
        "budget": made.report.get("budget"),
        "agreement": made.report.get("agreement"),
    }
    write_json(args.json, data)
    views = made.report["views"]
    print(f"scene     {args.out}: {len(made.keyframes)} keyframes")
    print(
        f"network   fitted to {views['fitted']} of them in {made.ttt_steps} TTT steps"
        f" ({scene.ttt_steps} before)"
    )
    if "budget" in made.report:
        print(f"budget    planned: {made.report['budget']['planned']['in_words']}")
    return 0


def refitted(scene: Scene, args: argparse.Namespace, joined: bool) -> Scene:
    """A scene that was edited, or joined of several, with a memory of the keyframes that it has
    now, by the network that the options name. Raises SceneError for another one than made it.
    """
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.pipeline.refit import RefitSettings, refit, refit_joined

    device = resolve_device(args.device)
    network = load_network(args.model, device, args.precision, args.execution)
    scene.require_network(network.fingerprint())
    with ProgressBar("refitting") as progress:
        if joined:
            return refit_joined(scene, network, progress)
        return refit(scene, network, RefitSettings(), progress)


def _announce(plan: str) -> None:
    """Say on stderr what is going to be done."""
    print(f"vggt3: {plan}", file=sys.stderr)
