"""`vggt3 train`: train a network on procedural places and posed RGB-D folders, or convert a softmax
one.

The same command again goes on where it stopped. `torchrun --nproc-per-node N -m -- vggt3_ros train
...` uses N GPUs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    add_device_option,
    add_json_option,
    add_seed_option,
    shared_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json
from vggt3_ros.interrupts import ENDING_SIGNALS, Interrupts
from vggt3_ros.training.folders import read_recording

if TYPE_CHECKING:
    import torch

    from vggt3_ros.training.config import TrainConfig
    from vggt3_ros.training.trainer import StepReport


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "train", help="train a network, or convert a softmax one", description=__doc__
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="YAML, see recipes/train_tiny.yaml",
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the run's folder; made when missing"
    )
    parser.add_argument(
        "--from", dest="start", default=None, metavar="MODEL", help="what a new run starts with"
    )
    parser.add_argument(
        "--minutes", type=_minutes, default=None, metavar="N", help="stop then, to go on later"
    )
    parser.add_argument(
        "--within",
        type=_minutes,
        default=None,
        metavar="N",
        help="fit the whole run into N minutes",
    )
    parser.add_argument(
        "--leave",
        type=Path,
        default=None,
        metavar="DIR",
        help="leave there what another machine needs to go on",
    )
    parser.add_argument(
        "--resume-from",
        type=Path,
        default=None,
        metavar="DIR",
        help="begin where a run was that left this folder",
    )
    parser.add_argument(
        "--dry",
        action="store_true",
        help="show the schedule, in a hundredth of the size and a tenth of the minutes",
    )
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp32"), default="auto",
        help="of the passes (default: bf16 where the processor multiplies it natively, as GPUs do)",
    )  # fmt: skip
    parser.add_argument(
        "--eager", action="store_true", help="do not compile the network, as is done on a GPU"
    )
    add_seed_option(parser, "instead of the configuration's seed")
    add_device_option(parser)
    add_json_option(parser, "write all validations as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, showing loss and time left; Ctrl-C and SIGTERM end it after the current step, and it
    can go on later.
    """
    from vggt3_ros.training.config import TrainConfig

    if args.json is not None:
        check_writable(args.json, "--json")
    if args.start is not None and args.resume_from is not None:
        raise argparse.ArgumentTypeError(
            "--from begins a run anew, --resume-from goes on with one: give one of them"
        )
    config = TrainConfig.read(args.config)
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    if not args.dry:
        _train(args, config, args.run, args.leave, 1)
        return 0
    if args.start is not None or args.resume_from is not None or config.student is not None:
        raise argparse.ArgumentTypeError(
            "--dry trains a network of its own small size; leave --from, --resume-from and"
            " `student` out"
        )
    print(
        "dry run: a hundredth of the size and of the steps, a tenth of the minutes; nothing of it"
        " is kept"
    )
    with TemporaryDirectory() as folder:
        _train(
            args,
            config.hundredth(),
            Path(folder) / "run",
            Path(folder) / "left" if args.leave else None,
            10,
        )
    return 0


def _train(
    args: argparse.Namespace, config: TrainConfig, folder: Path, left: Path | None, parts: int
) -> None:
    """A run of `parts`-th of the minutes given, and what is said about it."""
    from vggt3_ros.training.parallel import TrainingRanks
    from vggt3_ros.training.trainer import Trainer

    recordings = [read_recording(folder) for folder in config.folders]
    device = shared_device(args.device)
    bf16 = _multiplies_bf16(device) if args.precision == "auto" else args.precision == "bf16"
    minutes, within = (
        None if given is None else given / parts for given in (args.minutes, args.within)
    )
    ending = Interrupts(ENDING_SIGNALS)
    with TrainingRanks(device) as ranks, ending, ProgressBar("train") as progress:
        trainer = Trainer(
            config, folder, device, args.start, bf16, recordings, ranks, within,
            resume_from=args.resume_from, handover=left, eager=args.eager,
        )  # fmt: skip
        watch = _Watch(progress, trainer.step, trainer.table.seconds, shown=ranks.first)
        trainer.run(watch, minutes, ending.came)
        if not ranks.first:
            return
        figures = RunFigures(
            step=trainer.step,
            seconds=trainer.table.seconds,
            phases=watch.phases,
            rendering_s=trainer.pool.rendering.seconds(),
            rendered_views=trainer.pool.rendered,
            validations=trainer.validations.entries,
        )
        write_json(args.json, asdict(figures))
        _print_summary(figures)
        if left is not None:
            sizes = [file.stat().st_size for file in left.rglob("*") if file.is_file()]
            print(
                f"to go on elsewhere: {len(sizes)} files, {sum(sizes) / 2**20:.1f} MiB, in"
                f" {args.leave}"
            )
        if not args.dry:
            print(
                f"step {trainer.step} of {watch.total} ({trainer.phase}), weights in"
                f" {folder / 'network.safetensors'}"
            )


@dataclass
class PhaseFigures:
    """Steps of one phase, and the seconds that they took."""

    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RunFigures:
    """The JSON of `vggt3 train`. step, seconds: of the run so far; the others: of this command.
    validations: as the run's logs have them.
    """

    step: int
    seconds: float
    phases: dict[str, PhaseFigures]
    rendering_s: float
    rendered_views: int
    validations: list[dict[str, Any]]


class _Watch:
    """Called after every step: adds up `phases`, and shows progress and validations where `shown`.

    total: steps of the run, as estimated last. step, seconds: of the run before the first call.
    """

    def __init__(self, progress: ProgressBar, step: int, seconds: float, shown: bool) -> None:
        self.phases: dict[str, PhaseFigures] = {}
        self.total = step
        self._progress = progress
        self._shown = shown
        self._seconds = seconds
        self._loss = ""

    def __call__(self, step: StepReport) -> None:
        spent = self.phases.setdefault(step.phase, PhaseFigures())
        spent.steps += 1
        spent.seconds += step.seconds - self._seconds
        self._seconds = step.seconds
        self.total = step.total
        if not self._shown:
            return
        if step.losses is not None:
            self._loss = f", loss {step.losses['loss']:.3f}"
        self._progress(f"{step.phase} step {step.step} of {step.total}{self._loss}", step.done)
        if step.validation is not None:
            line = _validation_line(step.step, step.phase, step.validation)
            print(line, file=sys.stderr, flush=True)


def _print_summary(figures: RunFigures) -> None:
    for phase, spent in figures.phases.items():
        pace = spent.steps / max(1e-9, spent.seconds)
        print(f"{phase}: {spent.steps} steps in {spent.seconds:.1f} s, {pace:.2f} a second")
    took = sum(float(entry.get("took_s", 0.0)) for entry in figures.validations)
    print(
        f"rendering {figures.rendered_views} views took {figures.rendering_s:.1f} s, "
        f"{len(figures.validations)} validations {took:.1f} s"
    )


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has units for it. A step took 3.4 s in bf16 and 4.8 s in fp32 on an EPYC
    with avx512_bf16 (72 views of 96x72, hybrid network, eager, one thread); without such units
    fp32 is faster: bf16 took up to nine times as long, with plain AVX-512 up to a third longer.
    """
    import torch

    if device.type != "cpu":
        return True
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(unit) for unit in ("amx_bf16", "avx512_bf16", "bf16"))


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return value


def _validation_line(step: int, phase: str, figures: dict[str, float]) -> str:
    return f"step {step} ({phase}): " + ", ".join(
        f"{name} {value:.3g}" for name, value in figures.items()
    )
