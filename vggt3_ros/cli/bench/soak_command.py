"""`vggt3 bench soak FILE`: hundreds of procedural places, mapped and asked, with damaged frames
among them.

Every place appends a line of JSON to FILE; places that have one are skipped, so that a run can be
interrupted and continued. Ends with 1 where a place ended in an error that nobody foresaw.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    positive_int,
    resolve_device,
    seed_int,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, read_text, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.trials import Outcome


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "soak", help="errors and wrong poses in hundreds of places", description=__doc__
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="JSON lines, one per place; continued if it exists"
    )
    parser.add_argument(
        "--places",
        type=positive_int,
        default=300,
        metavar="N",
        help="how many places (default: 300)",
    )
    parser.add_argument(
        "--first",
        type=seed_int,
        default=0,
        metavar="N",
        help="number of the first one (default: 0)",
    )
    add_model_option(parser)
    add_common_options(parser, "write the totals over all places of FILE as JSON")


def run(args: argparse.Namespace) -> int:
    """Work through the places that have no line yet, then tell about all of the file; also after
    Ctrl-C.
    """
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.soak import report, soak
    from vggt3_ros.evaluation.trials import line, totals
    from vggt3_ros.model.checkpoint import load_network

    for path, option in ((args.file, "FILE"), (args.json, "--json")):
        if path is not None:
            check_writable(path, option)
    done = read_places(args.file)
    numbers = [
        number for number in range(args.first, args.first + args.places) if number not in done
    ]
    network = load_network(args.model, resolve_device(args.device))
    try:
        with ProgressBar("bench soak") as progress:
            for index, number in enumerate(numbers):
                progress(f"place {number}", index / len(numbers))
                done[number] = soak(number, network)
                _append(args.file, {"place": number, **to_json(done[number])})
                print(line(done[number]), flush=True)
    finally:
        outcomes = list(done.values())
        print(report(outcomes))
        write_json(args.json, to_json(totals(outcomes)))
    return 1 if any(each.traceback for each in outcomes) else 0


def read_places(path: Path) -> dict[int, Outcome]:
    """The places of a file of JSON lines by their number, without the torn last line of a run that
    was killed; none where the file is missing. Raises InputError for a line that is no place.
    """
    from vggt3_ros.evaluation.trials import Outcome

    if not path.exists():
        return {}
    places = {}
    for number, text in enumerate(read_text(path).split("\n")[:-1], start=1):
        try:
            row = json.loads(text)
            place = int(row.pop("place"))
            places[place] = Outcome(**{**row, "failures": tuple(row["failures"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, line {number}: not a place of a soak; give another file"
            ) from error
    return places


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a line, in place of one that was not finished."""
    before = path.read_bytes() if path.exists() else b""
    with path.open("ab") as file:
        file.truncate(before.rfind(b"\n") + 1)
        file.write(json.dumps(row).encode() + b"\n")
