"""What a network remembers of a place that was mapped in two halves, by how it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.geometry.sim3 import Sim3, fit_poses
from vggt3_ros.model import fast_weights
from vggt3_ros.model.anchors import AnchorKeys, choose_anchors, frame_tokens
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import LayerMemory, SceneMemory
from vggt3_ros.model.scene_views import (
    AnchorsView,
    FastWeightsView,
    Place,
    SceneView,
    make_view,
    remembered_view,
)
from vggt3_ros.model.streaming import Passage, Reporter
from vggt3_ros.model.ttt_attention import TttAttention
from vggt3_ros.training.validate import ValidationRoom

_SHARED = 0.1  # of the map frames, in both halves
_KINDS = ({"ttt"}, {"ttt", "anchored"}, {"ttt", "anchored", "frame"})

Layers = Mapping[int, LayerMemory]


@dataclass(frozen=True, eq=False)
class Errors:
    """Of queries (Q,) beside one half of a drive: position in percent of its extent, rotation in
    degrees.
    """

    position_percent: Tensor
    rotation_deg: Tensor


def check_kinds(network: Vggt3) -> None:
    """Raise InputError for a network whose memories cannot be compared."""
    if set(network.config.global_kinds) not in _KINDS:
        raise InputError(
            f"memories of halves are compared for networks of the layers ttt, anchored and frame,"
            f" one of them ttt; this one has {', '.join(network.config.global_kinds)}"
        )


def memories(network: Vggt3, drive: ValidationRoom) -> dict[str, SceneMemory]:
    """Memories of a drive's map frames, of which the first half was mapped before the second.

    `first`: of the first half alone. `anew`: fitted to all frames; `anew, more`: with twice as many
    anchors, where it has any. `step on all`, `step on new`: from the fast weights of the first half
    one full-batch step on all frames, or on those of the second half; its anchors beside those of
    the first. `sums`: each half was mapped by itself in one step, and the gradients of that step,
    which are sums over tokens, are added up. That is exact in the first global layer, but for the
    token that marks a scene's first frame; tokens of the layers after it depend on the memory of
    those before.
    """
    count = drive.map_views
    shared = max(1, round(_SHARED * count / 2))
    images = drive.images[:count]
    half = count // 2
    old = images[: half + shared]
    new = images[half - shared :]
    first = network.map(old)[1]
    anew = network.map(images)[1]
    config = network.config
    more = network.map(images, anchors=2 * config.anchors.count)[1] if config.has_anchors else anew
    step_of_old, sum_of_old = _one_step(network, old, None)
    step_of_new, sum_of_new = _one_step(network, new, None)
    sums = {}
    for layer, memory in step_of_old.items():
        attn = network.aggregator.global_attention(layer)
        if isinstance(attn, TttAttention):
            norms = fast_weights.column_norms(attn.initial)
            total = sum_of_old[layer] + sum_of_new[layer]
            sums[layer] = LayerMemory(attn.updated(attn.initial, total, norms))
        else:
            sums[layer] = LayerMemory(anchors=_beside(memory, step_of_new[layer]))
    tokens = first.camera_tokens
    return {
        "first": first,
        "anew": anew,
        "anew, more": more,
        "step on all": SceneMemory(_one_step(network, images, first.layers)[0], tokens),
        "step on new": SceneMemory(_one_step(network, new, first.layers)[0], tokens),
        "sums": SceneMemory(sums, tokens),
    }


def errors(network: Vggt3, drive: ValidationRoom, memory: SceneMemory) -> tuple[Errors, Errors]:
    """Of the queries nearest to a frame of the first half, and of the second, when all map frames
    and queries are localized by the memory alone, after the similarity of the map frames.
    """
    count = drive.map_views
    true = drive.world_from_cam
    answers = [network.query_undecoded(image[None], memory) for image in drive.images]
    poses = torch.cat([answer.cameras.world_from_cam.cpu() for answer in answers])
    try:
        true_from_scene = fit_poses(poses[:count], true[:count])
    except InputError:  # they do not move alike: every camera at the mean position
        middle = true[:count, :3, 3].mean(0)
        true_from_scene = Sim3(1e-6, Sim3.identity().rotation, middle)
    placed = true_from_scene.poses(poses)[count:]
    queries = true[count:]
    where = true[:count, :3, 3]
    extent = float((where.amax(0) - where.amin(0)).norm())
    off = 100 * (placed - queries)[:, :3, 3].norm(dim=-1) / extent
    turned = rotation_angle(placed[:, :3, :3].transpose(-1, -2) @ queries[:, :3, :3]).rad2deg()
    of_old = torch.cdist(queries[:, :3, 3], where).argmin(1) < count // 2
    return Errors(off[of_old], turned[of_old]), Errors(off[~of_old], turned[~of_old])


class _OneStep(FastWeightsView):
    """Fast weights that keep the gradient of their last step."""

    gradient: FastWeights

    def seen_all(self) -> None:
        """Take one TTT step."""
        assert self._total is not None
        self.gradient = self._total
        super().seen_all()


@torch.no_grad()
def _one_step(
    network: Vggt3, images: Tensor, known: Layers | None
) -> tuple[dict[int, LayerMemory], dict[int, FastWeights]]:
    """What layers keep of images (S, 3, H, W) after one step from what they keep of a known scene,
    or anew; and the gradients of the layers with fast weights.
    """
    passage = Passage(network, images, Reporter(None, 1))
    place = Place(passage.rope, passage.grid)
    tokens = passage.embed(images, reference=known is None)
    anchors: Tensor | None = None
    layers = {}
    gradients = {}
    for layer in range(network.config.depth):
        attn = network.aggregator.global_attention(layer)
        within = passage.within(layer, tokens)
        normed = passage.normed(layer, within)
        before = LayerMemory() if known is None else known.get(layer, LayerMemory())
        if anchors is None and network.config.has_anchors:
            anchors = choose_anchors(frame_tokens(normed), network.config.anchors.count)
        view: SceneView
        if isinstance(attn, TttAttention):
            fitted = _OneStep(attn, place, before.fast_weights)
            fitted.see(normed)
            fitted.seen_all()
            gradients[layer] = fitted.gradient
            view = fitted
        else:
            view = make_view(attn, place)
            if isinstance(view, AnchorsView):
                assert anchors is not None
                view.choose(anchors, partial(normed.__getitem__, anchors))
            if before.anchors is not None:
                both = LayerMemory(anchors=_beside(before, view.memory()))
                view = remembered_view(attn, place, both)
        layers[layer] = view.memory()
        tokens = passage.across(layer, within, view)
    return {layer: memory for layer, memory in layers.items() if memory.tensors()}, gradients


def _beside(a: LayerMemory, b: LayerMemory) -> AnchorKeys | None:
    """Keys and values of the anchors of both."""
    if a.anchors is None or b.anchors is None:
        return None
    return AnchorKeys(
        *(torch.cat(parts, dim=-2) for parts in zip(a.anchors, b.anchors, strict=True))
    )
