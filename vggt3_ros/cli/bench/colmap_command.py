"""`vggt3 bench colmap SEQUENCE...`: plain COLMAP and this package on the same sequences, both with
true map poses.

Needs pycolmap 4 (extra `sfm`). Every other frame is mapped, the others are localized. Both run on
one thread.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import atomic_path, check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.side_by_side import Row

MARK = "vggt3 bench colmap"


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "colmap", help="accuracy and time beside plain COLMAP", description=__doc__
    )
    parser.add_argument(
        "sequences", nargs="+", metavar="SEQUENCE", help="as `vggt3 evaluate` takes them"
    )
    parser.add_argument(
        "--document",
        type=Path,
        default=None,
        metavar="FILE",
        help=(
            f"put the table into this text, between the lines <!-- begin {MARK} --> and <!-- end"
            f" {MARK} -->"
        ),
    )
    parser.add_argument(
        "--limit",
        type=positive_int,
        default=None,
        metavar="N",
        help="at most so many map frames and queries each",
    )
    add_model_option(parser)
    add_common_options(parser, "write all rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare sequence by sequence; what is done before Ctrl-C is printed."""
    # Read when numpy and torch are loaded, which is now. Threads that wait for each other count as
    # work.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import cv2

    # missing, it should be missed now and not when half of the work is done
    import pycolmap  # noqa: F401

    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.evaluate import EvaluationSettings
    from vggt3_ros.evaluation.marked_text import with_marked
    from vggt3_ros.evaluation.side_by_side import compare, markdown
    from vggt3_ros.files import read_text
    from vggt3_ros.model.checkpoint import load_network

    cv2.setNumThreads(1)
    if args.json is not None:
        check_writable(args.json, "--json")
    if args.document is not None:
        with_marked(read_text(args.document), MARK, "")  # what is wrong with it is reported now
        check_writable(args.document, "--document")
    sequences = [load_sequence(spec) for spec in args.sequences]
    network = load_network(args.model, resolve_device(args.device))
    settings = EvaluationSettings(max_map_frames=args.limit, max_query_frames=args.limit)
    rows: list[Row] = []
    try:
        for sequence in sequences:
            with ProgressBar(sequence.name) as progress:
                rows += compare(sequence, network, progress, settings)
    finally:
        print(markdown(rows))
    write_json(args.json, to_json({"rows": rows, "model": network.model_id}))
    if args.document is not None:
        text = with_marked(read_text(args.document), MARK, markdown(rows))
        with atomic_path(args.document) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0
