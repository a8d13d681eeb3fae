"""`vggt3 evaluate SEQUENCE...`: map and localize sequences with known poses, and compare with the
truth.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_chunk_option,
    add_common_options,
    add_dense_option,
    add_execution_option,
    add_model_option,
    add_precision_option,
    add_prior_poses_option,
    add_propose_options,
    add_seed_option,
    dense_settings,
    neighbours,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.evaluate_protocol import run_protocol
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.evaluate import EvaluationSettings
    from vggt3_ros.evaluation.figures import AggregateFigures, EvaluationFigures
    from vggt3_ros.evaluation.priors import Priors


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate", help="measure errors on sequences with known poses", description=__doc__
    )
    parser.add_argument(
        "sequences",
        nargs="+",
        metavar="SEQUENCE",
        help=(
            "folder (plain, TUM RGB-D or 7-Scenes layout), or room:, moved:, corridor: or"
            " yard:SEED[:FRAMES], or ring:SEED:METRES[:FRAMES], a drive that comes back"
        ),
    )
    parser.add_argument(
        "--protocol",
        choices=("vgg-t3",),
        default=None,
        help=(
            "instead evaluate as the VGG-T3 paper does, on 7-Scenes: a scene, or a folder of scenes"
            " (of the network alone: pointmaps of every 50th training image, localization of every"
            " 20th test image)"
        ),
    )
    parser.add_argument(
        "--split",
        default=None,
        metavar="NAME",
        help="which frames to map (default: the first split)",
    )
    _add_priors_options(parser)
    parser.add_argument(
        "--adversarial",
        action="store_true",
        help=(
            "also pose queries that should be refused: frames of the other folders on the command"
            " line (which must show other places), other rooms, such that look alike, unmapped"
            " parts, degraded and mirrored images (takes several times as long)"
        ),
    )
    add_dense_option(parser)
    parser.add_argument(
        "--query-depth",
        choices=("none", "network", "refined"),
        default="none",
        help=(
            "also judge the depth of verified queries: the network's, or what keyframes know there"
            " (default: none)"
        ),
    )
    add_propose_options(parser)
    parser.add_argument(
        "--steps", type=positive_int, default=2, help="test-time-training steps (default: 2)"
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="DIR", help="write pictures into this folder"
    )
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_chunk_option(parser)
    add_common_options(
        parser,
        "write all figures as JSON; of several sequences their medians, and each below `each` (with"
        " --protocol their means below `mean`, and each below `scenes`)",
    )
    add_seed_option(parser, "seed of the noise of --priors and --adversarial (default: 0)", 0)


def _add_priors_options(parser: argparse.ArgumentParser) -> None:
    """What is known of the map frames' poses, and what becomes of it."""
    parser.add_argument(
        "--priors",
        type=_priors,
        default="none",
        metavar="none|given|noisy:LENGTH,ANGLE|drift:SCALE,ANGLE",
        help=(
            "pose priors of the map frames: none (default), the true poses, or these with Gaussian"
            " noise of such rms values, for example noisy:3cm,1deg; or odometry that drifts by"
            " such a fraction of the way and such an angle per metre, for example drift:2%%,0.1deg"
        ),
    )
    parser.add_argument(
        "--no-loops",
        action="store_true",
        help="do not tell the map that priors drift: no loops are sought, for comparison",
    )
    add_prior_poses_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate one sequence after the other, with one network, and print a table."""
    if args.protocol is not None:
        return run_protocol(args)

    from vggt3_ros.datasets.load import is_procedural, load_sequence, show_the_same_place
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.evaluate import evaluate
    from vggt3_ros.evaluation.report import table, write_pictures
    from vggt3_ros.evaluation.result import aggregate
    from vggt3_ros.model.checkpoint import load_network

    _check(args)
    # Their images are read later.
    folders = {spec: load_sequence(spec) for spec in args.sequences if not is_procedural(spec)}
    device = resolve_device(args.device)
    network = load_network(args.model, device, args.precision, args.execution)
    settings = _settings(args)

    evaluations = []
    pictures = []
    names: set[str] = set()
    for spec in args.sequences:
        sequence = load_sequence(spec) if is_procedural(spec) else folders[spec]
        sequence = replace(sequence, name=_new_name(sequence.name, names))
        elsewhere = [
            folders[other]
            for other in folders
            if is_procedural(spec) or not show_the_same_place(spec, other)
        ]
        with ProgressBar(spec) as progress:
            evaluation = evaluate(sequence, network, args.split, settings, progress, elsewhere)
        evaluations.append(evaluation)
        if args.out is not None:
            pictures += write_pictures(evaluation, args.out)
    figures: list[EvaluationFigures | AggregateFigures] = [
        evaluation.figures for evaluation in evaluations
    ]
    data = evaluations[0].to_json()
    if len(evaluations) > 1:
        total = aggregate(evaluations)
        figures.append(total)
        data = {**to_json(total), "each": [evaluation.to_json() for evaluation in evaluations]}
    write_json(args.json, data)
    print(table(figures))
    for picture in pictures:
        print(f"picture {picture}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise for options that do not go together, and for outputs that cannot be written."""
    if args.prior_poses != "auto" and args.priors.kind == "none":
        raise argparse.ArgumentTypeError(
            f"--prior-poses {args.prior_poses} needs --priors given, noisy or drift"
        )
    if args.prior_poses == "hold" and args.priors.drift is not None and not args.no_loops:
        raise argparse.ArgumentTypeError(
            "--prior-poses hold would keep the drift of --priors drift; leave it out, or give"
            " --no-loops"
        )
    if args.no_loops and args.priors.drift is None:
        raise argparse.ArgumentTypeError("--no-loops needs --priors drift:SCALE,ANGLE")
    if args.query_depth == "refined" and args.dense == "off":
        raise argparse.ArgumentTypeError(
            "--query-depth refined needs the depth that --dense off leaves out; give one of them"
        )
    if args.json is not None:
        check_writable(args.json, "--json")
    if args.out is not None:
        # missing, it should be missed now and not when all work is done
        import matplotlib  # noqa: F401

        _check_folder(args.out)


def _settings(args: argparse.Namespace) -> EvaluationSettings:
    from vggt3_ros.evaluation.evaluate import EvaluationSettings
    from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
    from vggt3_ros.pipeline.map_frame_settings import AnchorSettings, landmark_settings
    from vggt3_ros.pipeline.reconstruct import ReconstructionSettings

    drift = None if args.no_loops else args.priors.drift
    anchor = AnchorSettings(landmark_settings(args.prior_poses), drift=drift)
    return EvaluationSettings(
        reconstruction=ReconstructionSettings(
            steps=args.steps,
            chunk=args.chunk,
            anchor=anchor,
            dense=dense_settings(args),
            keep_images=args.propose != "memory",
        ),
        localizer=LocalizerSettings(
            depth=args.query_depth, propose=args.propose, neighbours=neighbours(args)
        ),
        priors=args.priors,
        adversarial=args.adversarial,
        seed=args.seed,
    )


def _priors(text: str) -> Priors:
    """Type of --priors: none, given, noisy:LENGTH,ANGLE or drift:SCALE,ANGLE."""
    from vggt3_ros.evaluation.priors import Priors

    try:
        return Priors.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _new_name(name: str, taken: set[str]) -> str:
    """The name, with a number where folders of the same name came before; pictures are named after
    it.
    """
    new = name
    number = 1
    # what may become the same file counts as the same
    while (key := re.sub(r"\W", "_", new).casefold()) in taken:
        number += 1
        new = f"{name}_{number}"
    taken.add(key)
    return new


def _check_folder(folder: Path) -> None:
    """Refuse a folder for pictures that cannot be made or written, before any long calculation."""
    existing = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"--out {folder}: {existing} is not a folder that can be written; choose another place"
        )
