"""`vggt3 blend --ttt A --softmax B --layers 20-23 --out FILE`: weights of a network whose global
attention is that of B in some layers and that of A in the others. Everything else has to be the
same in both, as in the published networks, and is checked.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import add_json_option, check_not_input, positive_int
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.model.blend import Blend

_NETWORK = "tiny, a local file or folder, or a Hugging Face name"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "blend",
        help="join layers of a fast-weight and of a softmax network",
        description=__doc__,
    )
    parser.add_argument(
        "--ttt",
        required=True,
        metavar="NAME",
        help=f"network with fast weights, such as nvidia/vgg-ttt: {_NETWORK}",
    )
    parser.add_argument(
        "--softmax",
        required=True,
        metavar="NAME",
        help="softmax network that it was converted from, such as facebook/VGGT-1B",
    )
    parser.add_argument(
        "--layers",
        type=layer_numbers,
        required=True,
        metavar="LIST",
        help="layers that are the softmax network's, from 0: 20-23 or 0,1,20-23",
    )
    parser.add_argument(
        "--kind",
        choices=("anchored", "softmax", "frame", "ttt+anchored"),
        default="anchored",
        help=(
            "what these layers attend to: keys of the scene's anchors, of all frames, or of the"
            " frame itself (default: anchored); ttt+anchored is refused, it needs training"
        ),
    )
    parser.add_argument(
        "--anchors",
        type=positive_int,
        default=None,
        metavar="K",
        help="how many frames of a map are anchors (default: as the --ttt network, or else 8)",
    )
    parser.add_argument(
        "--patch-stride",
        type=_stride,
        default=None,
        metavar="N",
        help=(
            "of an anchor's patches keep each N-th row and column, 0 for camera and register"
            " tokens alone (default: as the --ttt network, or else 1)"
        ),
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="weights to write, .safetensors, for --model",
    )
    add_json_option(parser, "write the configuration and the counts as JSON")


def layer_numbers(text: str) -> tuple[int, ...]:
    """Type of --layers: numbers and ranges with commas between, ascending and each once."""
    layers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a list of layers and ascending ranges, such as 0,1,20-23"
            )
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def _stride(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Compare both networks, write the blend, and say what it is made of. Raises `CheckpointError`
    and `InputError`.
    """
    from vggt3_ros.cli.progress import ProgressBar
    from vggt3_ros.model.blend import blend

    check_writable(args.out, "--out")
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", [args.out, Path(args.ttt), Path(args.softmax)])
    with ProgressBar("blend") as progress:
        made = blend(
            args.ttt,
            args.softmax,
            args.layers,
            args.kind,
            args.out,
            args.anchors,
            args.patch_stride,
            progress,
        )
    data = _figures(args, made)
    write_json(args.json, data)
    _print(data)
    return 0


def _figures(args: argparse.Namespace, made: Blend) -> dict[str, Any]:
    return {
        "out": str(args.out),
        "bytes": args.out.stat().st_size,
        "ttt": args.ttt,
        "softmax": args.softmax,
        "layers": list(args.layers),
        "kind": args.kind,
        "config": made.config.to_dict(),
        "tensors": {
            "ttt": made.from_ttt,
            "softmax": made.from_softmax,
            "alike": made.alike,
            "rounded": made.rounded,
        },
        "rounded_to": made.rounded_to,
    }


def _print(data: dict[str, Any]) -> None:
    tensors = data["tensors"]
    layers = ", ".join(map(str, data["layers"]))
    how = "to the bit"
    if tensors["rounded"]:
        how = f"{tensors['rounded']} of them rounded to {data['rounded_to']}, which one file is in"
    print(f"blend     {data['out']}: {data['bytes'] / 1e6:.1f} MB")
    print(f"layers    {layers}: {data['kind']}, {tensors['softmax']} tensors of {data['softmax']}")
    print(f"others    {tensors['ttt']} tensors of {data['ttt']}")
    print(f"the same  {tensors['alike']} tensors, in both files: {how}")
