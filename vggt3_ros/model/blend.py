"""One network of two that differ in their global attention alone: a network with fast weights, and
the softmax network that it was converted from with all else frozen (arXiv 2602.23361).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from vggt3_ros.errors import CheckpointError, InputError
from vggt3_ros.model.checkpoint import check_fits, listed, stored_state, write_tensors
from vggt3_ros.model.config import AnchorConfig, ModelConfig
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.weight_files import StoredWeights, read_weights
from vggt3_ros.progress import StageProgress

BlendKind = Literal["softmax", "anchored", "frame"]
"""What a global layer with a softmax network's weights may attend to (config.GlobalAttention)."""

_OF_GLOBAL_ATTENTION = ("attn", "global_attention", "ttt", "anchors")  # entries of ModelConfig
_CONVERTED = "one has to be converted from the other with all else frozen (docs/hybrid.md)"


@dataclass(frozen=True)
class Blend:
    """What a blended file holds, in numbers of tensors: from one network alone, and alike in both.

    rounded: those alike only in the coarser type that one file has them in, which is `rounded_to`.
    """

    config: ModelConfig
    from_ttt: int
    from_softmax: int
    alike: int
    rounded: int
    rounded_to: str | None


def blend(
    ttt: str | Path,
    softmax: str | Path,
    layers: Collection[int],
    kind: BlendKind,
    out: Path,
    anchors: int | None = None,
    patch_stride: int | None = None,
    progress: StageProgress | None = None,
) -> Blend:
    """Write to `out` the network `ttt`, with the global attention of `softmax` in `layers`, as one
    of `kind`. Networks are named as load_network takes them. anchors, patch_stride: as in
    AnchorConfig, None for those of `ttt`.

    Tensors stay in their files and are compared one by one. Raises CheckpointError that names what
    differs besides, and InputError unless there are such layers and networks of these kinds.
    """
    if kind not in get_args(BlendKind):
        raise InputError(_why_not(kind))
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: weights are written as .safetensors; give it such a name")
    fast, full = read_weights(ttt), read_weights(softmax)
    for stored in (fast, full):
        if out.resolve() in [file.resolve() for file in stored.files]:
            raise InputError(f"{out} is one of the blended networks; give another name")
    _check_pair(fast, full)
    config = _blended_config(fast.config, layers, kind, anchors, patch_stride)
    for stored in (fast, full):
        _check_tensors(stored)
    attention = _prefixes(range(config.depth))
    common = sorted(fast.tensors.keys() & full.tensors.keys())
    alike = [name for name in common if not name.startswith(attention)]
    rounded = _require_alike(fast, full, alike, progress)
    tensors = {name: _finer_first(fast.tensors[name], full.tensors[name])[0] for name in alike}
    replaced = _prefixes(layers)
    from_softmax = 0
    for name in _state(config).keys() - tensors.keys():
        # softmax in all layers comes with a token that nothing reads, see DinoBackbone
        if name.startswith(replaced) or name not in fast.tensors:
            tensors[name] = full.tensors[name]
            from_softmax += 1
        else:
            tensors[name] = fast.tensors[name]
    write_tensors(tensors, config, out)
    from_ttt = len(tensors) - len(alike) - from_softmax
    coarser = rounded[0] if rounded else None
    return Blend(config, from_ttt, from_softmax, len(alike), len(rounded), coarser)


def _check_pair(fast: StoredWeights, full: StoredWeights) -> None:
    """Raise unless the second network may be what the first was converted from."""
    if not fast.config.has_fast_weights or full.config.attn != "softmax":
        raise InputError(
            f"{fast.given} has global layers of kind {_kinds(fast)}, and {full.given} of kind"
            f" {_kinds(full)}; expected ttt, then softmax, such as nvidia/vgg-ttt and"
            " facebook/VGGT-1B"
        )
    sizes = [stored.config.to_dict() for stored in (fast, full)]
    names = (sizes[0].keys() | sizes[1].keys()) - set(_OF_GLOBAL_ATTENTION)
    other = [
        f"{name} {sizes[0].get(name)} and {sizes[1].get(name)}"
        for name in sorted(names)
        if sizes[0].get(name) != sizes[1].get(name)
    ]
    if other:
        raise CheckpointError(
            f"{fast.given} and {full.given} are networks of other sizes: {', '.join(other)};"
            f" {_CONVERTED}"
        )


def _kinds(stored: StoredWeights) -> str:
    return ", ".join(dict.fromkeys(stored.config.global_kinds))


def _blended_config(
    old: ModelConfig,
    layers: Collection[int],
    kind: BlendKind,
    anchors: int | None,
    patch_stride: int | None,
) -> ModelConfig:
    beyond = sorted(layer for layer in layers if not 0 <= layer < old.depth)
    if beyond:
        raise InputError(f"there are no layers {beyond}: the networks have 0 to {old.depth - 1}")
    kinds = tuple(kind if i in layers else before for i, before in enumerate(old.global_kinds))
    known = old.anchors
    config = replace(
        old,
        attn=None,
        global_attention=kinds,
        ttt=old.ttt if any("ttt" in each for each in kinds) else None,
        anchors=AnchorConfig(
            known.count if anchors is None else anchors,
            known.patch_stride if patch_stride is None else patch_stride,
        ),
    )
    if not config.has_anchors and (anchors is not None or patch_stride is not None):
        raise InputError("anchors are chosen, but no layer attends to any; leave that out")
    return config


def _why_not(kind: str) -> str:
    expected = f"expected one of {', '.join(get_args(BlendKind))}"
    if kind != "ttt+anchored":
        return f"kind is {kind!r}, {expected}"
    return (
        f"{expected}: 'ttt+anchored' adds to what anchors say what fast weights say, and both say"
        " the whole; the gate between them is in neither file and has to be trained (vggt3 train,"
        " convert_to)"
    )


def _check_tensors(stored: StoredWeights) -> None:
    """Raise CheckpointError unless these are the weights of the network that the file says."""
    check_fits(_state(stored.config), stored.tensors, stored.given)
    other = [name for name, tensor in stored.tensors.items() if not tensor.is_floating_point()]
    if other:
        raise CheckpointError(
            f"{stored.given} has {listed('that are not of floating-point numbers', other)}"
        )


def _prefixes(layers: Collection[int]) -> tuple[str, ...]:
    """What the names of global attention begin with."""
    return tuple(f"aggregator.global_blocks.{layer}.attn." for layer in layers)


def _state(config: ModelConfig) -> dict[str, Tensor]:
    """Names and shapes of a network's tensors, without their data."""
    with torch.device("meta"):
        return stored_state(Vggt3(config))


def _require_alike(
    fast: StoredWeights, full: StoredWeights, names: list[str], progress: StageProgress | None
) -> list[str]:
    """The coarser types of those tensors that both have alike after rounding to them; the others
    are to be alike to the bit. Raises CheckpointError with the names of those that are not.
    """
    rounded = []
    differing: dict[str, tuple[float, float]] = {}
    for index, name in enumerate(names):
        finer, coarser = _finer_first(fast.tensors[name], full.tensors[name])
        if not torch.equal(_bits(finer.to(coarser.dtype)), _bits(coarser)):
            apart = (finer.float() - coarser.float()).abs().max()
            differing[name] = float(apart), float(finer.abs().max())
        elif finer.dtype != coarser.dtype:
            rounded.append(str(coarser.dtype).removeprefix("torch."))
        if progress is not None:
            progress("comparing", (index + 1) / len(names))
    if differing:
        most = sorted(differing.items(), key=lambda entry: entry[1], reverse=True)
        named = [f"{name} {apart:.2g} / {largest:.2g}" for name, (apart, largest) in most]
        raise CheckpointError(
            f"{fast.given} and {full.given} differ in more than their global attention, by largest"
            f" difference / largest value in {listed(f'of {len(names)} other tensors', named)};"
            f" {_CONVERTED}"
        )
    return rounded


def _finer_first(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both, the one with more digits first."""
    if torch.finfo(other.dtype).eps < torch.finfo(one.dtype).eps:
        return other, one
    return one, other


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
