"""`vggt3 evaluate FOLDER... --protocol vgg-t3`: the evaluation of the VGG-T3 paper on 7-Scenes."""

from __future__ import annotations

import argparse

from vggt3_ros.cli.common import resolve_device
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json


def run_protocol(args: argparse.Namespace) -> int:
    """Evaluate one scene after the other, with one network, and print a table."""
    from vggt3_ros.evaluation.protocol import evaluate_scene, load_scenes, protocol_figures
    from vggt3_ros.evaluation.protocol_table import table
    from vggt3_ros.model.checkpoint import load_network

    _refuse_contradictions(args)
    if args.json is not None:
        check_writable(args.json, "--json")
    scenes = []
    for folder in args.sequences:
        scenes += load_scenes(folder)
    device = resolve_device(args.device)
    network = load_network(args.model, device, args.precision, args.execution)
    figures = []
    for scene in scenes:
        with ProgressBar(scene.name) as progress:
            figures.append(evaluate_scene(scene, network, progress))
    write_json(args.json, protocol_figures(network, figures).to_json())
    print(table(figures))
    return 0


def _refuse_contradictions(args: argparse.Namespace) -> None:
    """The protocol settles which frames are mapped, and how, and it draws nothing; an option that
    says otherwise errs.

    Raises InputError.
    """
    from vggt3_ros.evaluation.protocol import STEPS

    given = {
        "--split": args.split is not None,
        "--priors": args.priors.kind != "none",
        "--prior-poses": args.prior_poses != "auto",
        "--adversarial": args.adversarial,
        "--dense": args.dense is not None,
        "--dense-seconds": args.dense_seconds is not None,
        "--query-depth": args.query_depth != "none",
        "--propose": args.propose != "memory",
        "--neighbours": args.neighbours is not None,
        "--chunk": args.chunk is not None,
        "--steps": args.steps != STEPS,
        "--seed": args.seed != 0,
        "--out": args.out is not None,
    }
    wrong = [option for option, is_given in given.items() if is_given]
    if wrong:
        raise InputError(
            f"--protocol {args.protocol} settles the frames, {STEPS} steps and no priors, judges"
            f" the network alone and draws no pictures; leave out {' and '.join(wrong)}"
        )
