"""`vggt3 bench gpu`: everything worth knowing of a GPU that is at hand for some minutes, the most
important first.
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from vggt3_ros.cli.bench.gpu.results import TABLE, Results, Row, StepRecord
from vggt3_ros.cli.bench.gpu.worker import Worker
from vggt3_ros.cli.common import positive_float
from vggt3_ros.errors import InputError
from vggt3_ros.interrupts import Interrupts

STEPS = {
    "card": 4.0,
    "correctness": 14.0,
    "mapping": 54.0,
    "paths": 11.0,
    "training": 9.0,
    "layers": 8.0,
}
"""In order of worth, with their parts of the minutes; what one leaves over goes to the others."""
_MINUTES = 9.0
_DRY_MINUTES = 5.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = subparsers.add_parser(
        "gpu",
        help="a GPU's ceilings, correctness, mapping, paths, training, layers, within some minutes",
        description=(
            "Measures, in this order, the card's ceilings, whether what it computes is right,"
            " mapping and localizing with the full network (random weights) beside the reference"
            " flow, each fast path, training, and layers alone. Every row is written when it"
            " exists. It runs from a bare checkout with torch, numpy and safetensors; training"
            " needs PyYAML too."
        ),
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"a JSON file a step, and {TABLE}"
    )
    parser.add_argument(
        "--minutes",
        type=positive_float,
        default=None,
        metavar="N",
        help=f"for everything (default: {_MINUTES:.0f})",
    )
    parser.add_argument(
        "--only",
        type=_steps,
        default=list(STEPS),
        metavar="STEPS",
        help=f"some of {','.join(STEPS)} (default: all)",
    )
    parser.add_argument(
        "--device", default=None, metavar="NAME", help="cuda or cuda:N; with --dry also cpu"
    )
    parser.add_argument(
        "--dry", action="store_true", help="go through all steps with a tiny stand-in, on a CPU too"
    )


def run(args: argparse.Namespace) -> int:
    """Measure step by step; the exit code is 1 when a step failed, or something computed was not
    right.
    """
    end = time.monotonic() + 60 * (args.minutes or (_DRY_MINUTES if args.dry else _MINUTES))
    device = _device(args.device, args.dry)
    results = Results(args.out)
    worker = Worker(device, args.dry)
    fine = True
    # SIGTERM ends this like Ctrl-C: what was measured is tabled
    with Interrupts((signal.SIGTERM,), may_wait=False):
        try:
            for number, step in enumerate(args.only):
                left = end - time.monotonic()
                fraction = STEPS[step] / sum(STEPS[later] for later in args.only[number:])
                fine = _measure(results, worker, step, left, fraction) and fine
        finally:
            worker.end()
            table = results.write_table(list(STEPS))
    print(f"\n{table}\nin {args.out}: {TABLE}, {', '.join(f'{step}.json' for step in args.only)}")
    return 0 if fine else 1


def _measure(results: Results, worker: Worker, step: str, left: float, fraction: float) -> bool:
    """One step within its fraction of the time left. Returns whether all was as it should be."""
    if left <= 0:
        results.write(StepRecord(step, "left out", 0.0))
        print(f"{step}: left out, the time is up", flush=True)
        return True
    rows: list[Row] = []
    began = time.monotonic()

    def keep(row: Row) -> None:
        rows.append(row)
        results.write(StepRecord(step, "running", time.monotonic() - began, rows))
        print(f"  {row['name']}: {row['text']}", flush=True)

    state = "interrupted"
    error = None
    try:
        worker.start(left)
        seconds = max(0.0, left - (time.monotonic() - began)) * fraction
        print(f"{step}: at most {seconds:.0f} s", flush=True)
        results.write(StepRecord(step, "running", 0.0))
        state, error = worker.do(step, seconds, results.ceilings(), keep)
    except RuntimeError as caught:
        state = "failed"
        error = str(caught)
    finally:
        results.write(StepRecord(step, state, time.monotonic() - began, rows, error))
    if state != "done":
        print(f"{step}: {state}" + (f"\n{error}" if error else ""), flush=True)
    return state != "failed" and all(row.get("ok", True) for row in rows)


def _device(name: str | None, dry: bool) -> str:
    import torch

    from vggt3_ros.cli.common import resolve_device

    device = resolve_device(name)
    if torch.device(device).type != "cuda" and not dry:
        raise InputError(
            f"bench gpu measures a CUDA GPU, and this would be {device}; run it on a machine with"
            " one, or give --dry"
        )
    return device


def _steps(text: str) -> list[str]:
    wanted = text.split(",")
    unknown = [step for step in wanted if step not in STEPS]
    if unknown or len(set(wanted)) < len(wanted):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of {', '.join(STEPS)} with commas between"
        )
    return [step for step in STEPS if step in wanted]
