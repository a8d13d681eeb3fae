"""`vggt3 train`: train a small network on procedural rooms; the same command again goes on where it stopped."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from vggt3_ros.cli.common import add_json_option, check_writable, resolve_device, write_json
from vggt3_ros.cli.progress import Progress


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser("train", help="train a small network on procedural rooms", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML, see configs/train_tiny.yaml")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder; made when missing")
    parser.add_argument("--from", dest="start", default=None, metavar="MODEL", help="what a new run starts with")
    parser.add_argument("--minutes", type=float, default=None, metavar="N", help="stop after so long, to go on later")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of the passes (default: bf16)")
    parser.add_argument("--device", default=None, metavar="NAME", help="cpu, cuda or cuda:N (default: cuda if there)")
    add_json_option(parser, "write all validations as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, showing loss and time left; Ctrl-C and SIGTERM stop after the current step and keep everything."""
    import torch

    from vggt3_ros.training.config import TrainConfig
    from vggt3_ros.training.trainer import StepReport, Trainer

    if args.json is not None:
        check_writable(args.json, "--json")
    config = TrainConfig.read(args.config)
    trainer = Trainer(
        config, args.run, torch.device(resolve_device(args.device)), args.start, bf16=args.precision == "bf16"
    )
    signal.signal(signal.SIGTERM, _interrupt)
    with Progress("train") as progress:
        loss = ""

        def report(step: StepReport) -> None:
            nonlocal loss
            if step.losses is not None:
                loss = f", loss {step.losses['loss']:.3f}"
            progress(f"{step.phase} step {step.step} of {step.total}{loss}", step.step / step.total)
            if step.validation is not None:
                print(_validation_line(step.step, step.phase, step.validation), file=sys.stderr, flush=True)

        trainer.run(report, args.minutes)
    write_json(args.json, {"step": trainer.step, "seconds": trainer.seconds, "validations": trainer.validations})
    where = args.run / "network.safetensors"
    print(f"step {trainer.step} of {config.total_steps} ({trainer.phase}), weights in {where}")
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _validation_line(step: int, phase: str, figures: dict[str, float]) -> str:
    return f"step {step} ({phase}): " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
