"""Options and outputs that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.errors import InputError

if TYPE_CHECKING:
    import torch

    from vggt3_ros.dense.settings import DenseSettings
    from vggt3_ros.geometry.drift import Drift
    from vggt3_ros.pipeline.budget import Budget

INTRINSICS_HELP = (
    "calibration: JSON with fx, fy, cx, cy in pixels of the images and, where the lens distorts,"
    " k1, k2, p1, p2, ...; or the YAML of ROS (camera_info), OpenCV or Kalibr"
)


def add_common_options(parser: argparse.ArgumentParser, json_help: str) -> None:
    """Add --device and --json, which every command that computes understands."""
    add_device_option(parser)
    add_json_option(parser, json_help)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device NAME: None, or a name for `resolve_device`."""
    parser.add_argument(
        "--device",
        default=None,
        metavar="NAME",
        help="cpu, cuda or cuda:N (default: cuda if there)",
    )


def add_json_option(parser: argparse.ArgumentParser, json_help: str) -> None:
    """Add --json FILE: None, or a path for `write_json`."""
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help=json_help)


def add_seed_option(
    parser: argparse.ArgumentParser, seed_help: str, default: int | None = None
) -> None:
    """Add --seed N to a command that draws numbers."""
    parser.add_argument("--seed", type=seed_int, default=default, metavar="N", help=seed_help)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add --model NAME: what `load_network` takes."""
    parser.add_argument(
        "--model",
        default="tiny",
        metavar="NAME",
        help=(
            "tiny (inside the package), a local file or folder, or a Hugging Face name such as"
            " nvidia/vgg-ttt"
        ),
    )


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    """Add --precision NAME: what `load_network` takes."""
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help=(
            "number format of the network (default: auto, bf16 for networks of the published size"
            " on a GPU that multiplies it, otherwise fp32)"
        ),
    )


def add_execution_option(parser: argparse.ArgumentParser) -> None:
    """Add --execution NAMES: what `load_network` takes."""
    parser.add_argument(
        "--execution",
        default="auto",
        metavar="auto|plain|NAMES",
        help=(
            "what makes the network faster on a GPU: some of kernels (fused, in Triton), compiled"
            " (by torch.compile, anew for every size and number of images that pass together) and"
            " graphs (queries of one image),"
            " with commas between, or plain for none (default: auto, graphs, and kernels for bf16"
            " where they run)"
        ),
    )


def add_chunk_option(parser: argparse.ArgumentParser) -> None:
    """Add --chunk N: of ReconstructionSettings."""
    parser.add_argument(
        "--chunk",
        type=_chunk,
        default=None,
        metavar="auto|N",
        help=(
            "frames that pass the network together (default: auto, as many as memory permits, up to"
            " 8 on a CPU and 32 on a GPU)"
        ),
    )


def add_network_options(parser: argparse.ArgumentParser, of_scene: bool = False) -> None:
    """Add --steps N, --anchors K and --redundant-views NAME: of ReconstructionSettings, or of
    RefitSettings, where steps are those of the scene unless given.
    """
    default = "as the scene was made" if of_scene else "2"
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=None if of_scene else 2,
        help=f"test-time-training steps (default: {default})",
    )
    parser.add_argument(
        "--anchors",
        type=positive_int,
        default=None,
        metavar="K",
        help=(
            "frames that layers of kind anchored attend to, and a scene keeps (default: as many as"
            " the network was trained with)"
        ),
    )
    parser.add_argument(
        "--redundant-views",
        choices=("query", "fit"),
        default="query",
        help=(
            "frames that show nothing new: localized in the map of the others, which is faster, or"
            " mapped with them (default: query)"
        ),
    )


def add_budget_option(parser: argparse.ArgumentParser) -> None:
    """Add --budget TEXT: of ReconstructionSettings."""
    parser.add_argument(
        "--budget",
        type=_budget,
        default=None,
        metavar="20s,8GB",
        help=(
            "seconds that mapping may take, from images to scene, or memory, or both: frames, TTT"
            " steps, anchors, the size of the network's images and refined depth are chosen by what"
            " they cost on this machine (default: any)"
        ),
    )


def _budget(text: str) -> Budget:
    from vggt3_ros.pipeline.budget import Budget

    try:
        return Budget.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _chunk(text: str) -> int | None:
    return None if text == "auto" else positive_int(text)


def add_dense_option(parser: argparse.ArgumentParser) -> None:
    """Add --dense NAME and --dense-seconds S, which `dense_settings` reads."""
    parser.add_argument(
        "--dense",
        choices=("off", "fast", "fine"),
        default=None,
        help=(
            "refine the depth of verified maps by what keyframes see of each other, matched at 224"
            " (fast) or 320 pixels, or not at all (default: fast)"
        ),
    )
    parser.add_argument(
        "--dense-seconds",
        type=positive_float,
        default=None,
        metavar="S",
        help=(
            "seconds a keyframe that this may take: otherwise fine becomes fast, and fast is left"
            " (default: any time)"
        ),
    )


def add_prior_poses_option(parser: argparse.ArgumentParser) -> None:
    """Add --prior-poses NAME, which `landmark_settings` takes."""
    parser.add_argument(
        "--prior-poses",
        choices=("auto", "hold", "adjust"),
        default="auto",
        help=(
            "what becomes of given poses: kept as they are, adjusted to the images, or what"
            " predicts them better (default: auto)"
        ),
    )


def dense_settings(args: argparse.Namespace, default: str = "fast") -> DenseSettings | None:
    """How depth is refined by the options of `add_dense_option`, None for not at all."""
    from vggt3_ros.pipeline.dense import DENSE

    chosen = DENSE[args.dense or default]
    if chosen is None and args.dense_seconds is not None:
        raise argparse.ArgumentTypeError(
            "--dense-seconds limits what --dense off leaves out; give one of them"
        )
    return None if chosen is None else replace(chosen, seconds=args.dense_seconds)


def add_propose_options(parser: argparse.ArgumentParser) -> None:
    """Add --propose NAME and --neighbours K: of LocalizerSettings."""
    parser.add_argument(
        "--propose",
        choices=("memory", "local", "both"),
        default="memory",
        help=(
            "what the network's pose is made of: the scene's memory, the keyframes most like the"
            " image (local: needs a scene of --keep-images), or these where landmarks have not"
            " confirmed a pose without (both; default: memory)"
        ),
    )
    parser.add_argument(
        "--neighbours",
        type=_neighbours,
        default=None,
        metavar="K",
        help=(
            "of --propose local and both: how many keyframes pass the network together with an"
            " image (default: 2)"
        ),
    )


def neighbours(args: argparse.Namespace) -> int:
    """How many keyframes by the options of `add_propose_options`."""
    from vggt3_ros.pipeline.localizer_settings import NEIGHBOURS

    if args.neighbours is not None and args.propose == "memory":
        raise argparse.ArgumentTypeError(
            f"--neighbours {args.neighbours} is about --propose local and both; give one of them"
        )
    return args.neighbours or NEIGHBOURS


def _neighbours(text: str) -> int:
    if positive_int(text) < 2:
        raise argparse.ArgumentTypeError("one keyframe tells no scale; give 2 or more")
    return int(text)


def add_bit_depth_option(parser: argparse.ArgumentParser) -> None:
    """Add --bit-depth N: 8 to 16 bits, 0 for what the images tell."""
    parser.add_argument(
        "--bit-depth",
        type=bit_depth_int,
        default=0,
        metavar="N",
        help=(
            "how many bits images of more than 8 have, 8 to 16, which says what white is (default:"
            " as their brightest pixels tell)"
        ),
    )


def bit_depth_int(text: str) -> int:
    """Type of --bit-depth: a whole number from 8 to 16."""
    if not (text.isascii() and text.isdecimal() and 8 <= int(text) <= 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 8 to 16")
    return int(text)


def positive_int(text: str) -> int:
    """Type of an option that takes a whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def positive_float(text: str) -> float:
    """Type of an option that takes a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def seed_int(text: str) -> int:
    """Type of --seed: a whole number from 0 that torch's generators take."""
    if not (text.isascii() and text.isdecimal() and int(text) < 2**64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^64 - 1")
    return int(text)


def resolve_device(name: str | None) -> str:
    """Return the torch device to use; `None` takes the GPU where there is one.

    Raises `InputError` when the device does not exist here or is neither a CPU nor a CUDA GPU.
    """
    from vggt3_ros.pipeline.device import usable_device

    try:
        return usable_device(name)
    except InputError as error:
        raise InputError(f"--{error}") from error


def shared_device(name: str | None) -> torch.device:
    """As `resolve_device`, but of processes that torchrun started each takes a GPU of its own."""
    import torch

    from vggt3_ros.ranks import local_rank

    device = torch.device(resolve_device(name))
    if device == torch.device("cuda") and local_rank() is not None:
        device = torch.device(resolve_device(f"cuda:{local_rank()}"))
    return device


def scene_files(folder: Path) -> list[Path]:
    """The files that a scene in `folder` has or will have."""
    from vggt3_ros.scene.description import FILES

    return [folder / name for name in FILES]


def check_not_input(path: Path, option: str, inputs: Iterable[Path]) -> None:
    """Refuse to write over what the command reads, or over a scene's own files.

    Raises `argparse.ArgumentTypeError`, which is a usage error, when `path` leads to one of
    `inputs`.
    """
    target = path.resolve()
    for file in inputs:
        if file.resolve() == target:
            raise argparse.ArgumentTypeError(
                f"{option} {path} would overwrite {file}, which this command needs; give another"
                " name"
            )


def print_skipped(skipped: Iterable[tuple[str, str]]) -> None:
    """Tell on stderr which images were left out, and why."""
    for name, reason in skipped:
        print(f"vggt3: skipped {name}: {reason}", file=sys.stderr)


def drift_of(text: str) -> Drift:
    """Type of an option: SCALE,ANGLE."""
    from vggt3_ros.geometry.drift import Drift

    try:
        return Drift.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
