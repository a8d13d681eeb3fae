"""`vggt3 bench`: what the network costs (mapping, localize), what the running nodes do (graph),
what a GPU can (gpu), and how far poses can be trusted: beside COLMAP (colmap), in maps that are
hard to make (maps), that were joined (halves), that grow (growth) or age (changes), in many places
(soak); and what grids of places are worth (grid).

The network's seconds and peak memory are measured over the number of frames, with random weights.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

from vggt3_ros.cli.bench import (
    anchors_command,
    changes_command,
    colmap_command,
    gpu_command,
    graph_command,
    grid_command,
    growth_command,
    halves_command,
    loops_command,
    maps_command,
    memories_command,
    soak_command,
)
from vggt3_ros.cli.bench.machine import device_name
from vggt3_ros.cli.common import (
    add_common_options,
    add_seed_option,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.progress import track
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.cli.bench.network import Attention, Case, Failed, Measured

_QUERIES = 15  # timed by default, each within milliseconds
_PLOT_SUFFIXES = (".png", ".jpg", ".pdf", ".svg")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "bench", help="measure speed, memory and trust", description=__doc__
    )
    tasks = parser.add_subparsers(
        dest="task",
        required=True,
        metavar=(
            "{mapping,localize,graph,gpu,colmap,loops,maps,halves,growth,memories,changes,grid,soak}"
        ),
    )
    alone = {
        "mapping": "the network maps all frames",
        "localize": "it localizes one in their scene",
    }
    for task, help_text in alone.items():
        network = tasks.add_parser(
            task, help=help_text, description=f"Measure the network alone: {help_text}."
        )
        _add_options(network)
        if task == "mapping":
            _add_mapping_options(network)
        else:
            network.set_defaults(resident="all", plot=None, repeats=_QUERIES)
    graph_command.add_parser(tasks)
    gpu_command.add_parser(tasks)
    joined = (halves_command, growth_command, memories_command, changes_command)
    trust = (colmap_command, loops_command, maps_command, *joined)
    for further in (anchors_command, *trust, grid_command, soak_command):
        further.add_parser(tasks)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="tiny",
        metavar="NAME",
        help="sizes of tiny, of full (the published model) or of a file",
    )
    parser.add_argument(
        "--global",
        dest="attention",
        type=_attentions,
        default=None,
        metavar="KINDS",
        help=(
            "global layers to compare, with commas between: ttt, softmax, anchored, own as the"
            " model has them (default: own,softmax for mapping, own for localize)"
        ),
    )
    parser.add_argument(
        "--frames",
        type=_counts,
        default=[8, 16, 32],
        metavar="N,N",
        help="numbers of mapped frames (default: 8,16,32)",
    )
    parser.add_argument(
        "--image-size",
        type=_size,
        default=None,
        metavar="HxW",
        help="pixels (default: the model's, 3:4)",
    )
    parser.add_argument(
        "--steps", type=positive_int, default=2, help="test-time-training steps (default: 2)"
    )
    parser.add_argument(
        "--chunk", type=positive_int, default=8, help="frames processed at a time (default: 8)"
    )
    parser.add_argument(
        "--repeats", type=positive_int, default=3, help="timed runs per row (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    add_seed_option(parser, "seed of weights and images (default: 0)", 0)
    add_common_options(parser, "write rows, growth exponents and the machine as JSON")


def _add_mapping_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resident",
        choices=("all", "stream", "none"),
        default="all",
        help=(
            "what stays on the device of every frame: all that is needed again; the residual stream"
            " alone, and frames pass once more for the heads; none, all is in host memory (default:"
            " all)"
        ),
    )
    parser.add_argument(
        "--plot",
        type=Path,
        default=None,
        metavar="FILE",
        help="draw seconds and peak memory over the frames, as .png, .jpg, .pdf or .svg",
    )


def run(args: argparse.Namespace) -> int:
    """Measure one task; the exit code is 1 when it failed."""
    others = {
        "anchors": anchors_command.run,
        "graph": graph_command.run,
        "gpu": gpu_command.run,
        "colmap": colmap_command.run,
        "loops": loops_command.run,
        "maps": maps_command.run,
        "halves": halves_command.run,
        "changes": changes_command.run,
        "grid": grid_command.run,
        "growth": growth_command.run,
        "memories": memories_command.run,
        "soak": soak_command.run,
    }
    return others.get(args.task, _run_network)(args)


def _run_network(args: argparse.Namespace) -> int:
    """Measure row by row. A row that runs out of memory is reported; the exit code is 1 when no row
    succeeded.
    """
    import torch

    from vggt3_ros.cli.bench.network import Case, Measured, config_of
    from vggt3_ros.evaluation.blocks import to_json

    _check_outputs(args)
    device = resolve_device(args.device)
    kinds = args.attention or (["own", "softmax"] if args.task == "mapping" else ["own"])
    if args.resident == "stream" and "softmax" in kinds:
        raise argparse.ArgumentTypeError(
            "--resident stream goes without --global softmax: such a network cannot let frames"
            " pass once more"
        )
    config = config_of(args.model, kinds[0])
    image_size = args.image_size or _default_size(config.image_size, config.patch_size)
    if any(side % config.patch_size for side in image_size):
        raise argparse.ArgumentTypeError(
            f"--image-size {image_size[0]}x{image_size[1]}: both must be multiples of"
            f" {config.patch_size} for the model {args.model}"
        )
    cases = [
        Case(
            task=args.task,
            model=args.model,
            attention=kind,
            frames=frames,
            image_size=image_size,
            steps=args.steps,
            chunk=args.chunk,
            repeats=args.repeats,
            precision=args.precision,
            device=device,
            seed=args.seed,
            resident=args.resident,
        )
        for kind, frames in product(kinds, args.frames)
    ]
    measure_row = _measure_here if torch.device(device).type == "cuda" else _measure_in_child
    rows = [measure_row(case) for case in track(cases, "bench", len(cases))]
    measured = [row for row in rows if isinstance(row, Measured)]
    growth: dict[Attention, float | None] = {}
    for kind in kinds:
        growth[kind] = growth_exponent([row for row in measured if row.attention == kind])
    data = {**_conditions(args, device, image_size), "rows": rows, "growth_exponent": growth}
    write_json(args.json, to_json(data))
    _print(rows, growth)
    if args.plot is not None and measured:
        from vggt3_ros.cli.bench.draw_growth import draw_growth

        draw_growth(measured, growth, args.plot)
        print(f"drawn in {args.plot}")
    return 0 if measured else 1


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse files that could not be written, before anything is measured."""
    if args.json is not None:
        check_writable(args.json, "--json")
    if args.plot is not None:
        import matplotlib  # noqa: F401

        check_writable(args.plot, "--plot")
        if args.plot.suffix.lower() not in _PLOT_SUFFIXES:
            raise argparse.ArgumentTypeError(
                f"--plot {args.plot} must end with {', '.join(_PLOT_SUFFIXES)}"
            )


class Timed(Protocol):
    """What took so long for so many frames."""

    @property
    def frames(self) -> int:
        """How many frames were mapped."""

    @property
    def seconds(self) -> float:
        """How long that took."""


def growth_exponent(rows: Sequence[Timed]) -> float | None:
    """Slope of log(seconds) over log(frames) by least squares; None with fewer than two numbers of
    frames.
    """
    points = [(math.log(row.frames), math.log(row.seconds)) for row in rows]
    if len({x for x, _ in points}) < 2:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )


def _measure_here(case: Case) -> Measured | Failed:
    from vggt3_ros.cli.bench.network import measure

    return _or_error(case, lambda: measure(case))


def _measure_in_child(case: Case) -> Measured | Failed:
    """In a fresh process: the peak of a resident set would otherwise be that of the largest row so
    far.
    """
    from vggt3_ros.cli.bench.network import measure

    with ProcessPoolExecutor(
        max_workers=1, mp_context=multiprocessing.get_context("spawn")
    ) as executor:
        return _or_error(case, lambda: executor.submit(measure, case).result())


def _or_error(case: Case, measure_case: Callable[[], Measured]) -> Measured | Failed:
    """The row, or why there is none where memory did not suffice."""
    from vggt3_ros.cli.bench.network import Failed
    from vggt3_ros.cli.main import is_out_of_memory

    try:
        return measure_case()
    except BrokenProcessPool:
        error = "the process was killed, most likely for lack of memory"
    except (MemoryError, RuntimeError) as caught:
        if not is_out_of_memory(caught):
            raise
        error = "out of memory"
    return Failed(case.attention, case.frames, error)


def _conditions(
    args: argparse.Namespace, device: str, image_size: tuple[int, int]
) -> dict[str, Any]:
    import torch

    on_gpu = torch.device(device).type == "cuda"
    return {
        "task": args.task,
        "model": args.model,
        "weights": f"random, seed {args.seed}",
        "image_size": list(image_size),
        "steps": args.steps,
        "chunk": args.chunk,
        "repeats": args.repeats,
        "precision": args.precision,
        "resident": args.resident,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peak_is": (
            "allocated on the GPU, weights included"
            if on_gpu
            else "growth of the process, without weights"
        ),
    }


def _print(rows: Sequence[Measured | Failed], growth: Mapping[Attention, float | None]) -> None:
    from vggt3_ros.cli.bench.network import Failed

    of_frames = any(not isinstance(row, Failed) and row.of_frames for row in rows)
    above = f" {'above stream':>12} {'above all':>9}" if of_frames else ""
    print(f"{'global':<8} {'frames':>6} {'seconds':>9} {'peak MB':>9}{above}  stages (seconds)")
    for row in rows:
        start = f"{row.attention:<8} {row.frames:>6} "
        if isinstance(row, Failed):
            print(start + row.error)
            continue
        if row.of_frames is not None:
            stream, everything = row.of_frames.peak_above_stream, row.of_frames.peak_above_all
            above = f" {stream / 1e6:>12.1f} {everything / 1e6:>9.1f}"
        stages = ", ".join(f"{name} {seconds:.3f}" for name, seconds in row.stages.items())
        print(start + f"{row.seconds:>9.4f} {row.peak_bytes / 1e6:>9.1f}{above}  {stages or '-'}")
    if of_frames:
        print(
            "above stream, above all: MB of the peak, without weights, beyond the frames' residual"
            " stream, and beyond all that is kept of them"
        )
    for kind, exponent in growth.items():
        if exponent is not None:
            print(f"{kind}: seconds grow as frames^{exponent:.2f}")


def _attentions(text: str) -> list[Attention]:
    from vggt3_ros.cli.bench.network import Attention

    named: dict[str, Attention] = {kind: kind for kind in get_args(Attention)}
    kinds = text.split(",")
    if not set(kinds) <= set(named) or len(set(kinds)) != len(kinds):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not some of {', '.join(named)} with commas between"
        )
    return [named[kind] for kind in kinds]


def _counts(text: str) -> list[int]:
    return [positive_int(part) for part in text.split(",")]


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return positive_int(height), positive_int(width)


def _default_size(long_side: int, patch: int) -> tuple[int, int]:
    return patch * round(0.75 * long_side / patch), long_side
