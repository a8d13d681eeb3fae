"""How frames stream through the network, chunk by chunk: layer after layer when it maps, for a
layer sees all of them before it answers; straight through when it is queried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.model.anchors import choose_anchors, frame_tokens
from vggt3_ros.model.dense_maps import DenseHeads, KeptLevels, Levels, MapRows
from vggt3_ros.model.prediction import LayerMemory
from vggt3_ros.model.rows import HostRows, Rows
from vggt3_ros.model.scene_views import Place, SceneView, make_view, remembered_view
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks

if TYPE_CHECKING:
    from vggt3_ros.model.network import Vggt3

Resident = Literal["all", "stream", "none"]
"""What stays on the device of every frame while it maps: the residual stream and what the heads
need of tapped layers; the residual stream alone, and frames pass once more for the heads, when the
scene is fitted; nothing, both and the results are in host memory.
"""


@dataclass(frozen=True)
class MapSettings:
    """How a network maps: frames that pass together (chunk), TTT steps, what stays on the device of
    every frame, which dense heads are run, and how many anchors there are, None for as many as the
    network was trained with.
    """

    chunk: int = 8
    steps: int = 2
    resident: Resident = "all"
    pointmap: bool = True
    depth: bool = True
    anchors: int | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise InputError(f"chunk is {self.chunk}, expected at least 1 frame")
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}, expected at least 1 TTT step")
        if self.anchors is not None and self.anchors < 1:
            raise InputError(f"anchors is {self.anchors}, expected at least 1 frame")


class Passage:
    """The layers that a chunk of frames passes. Tokens (s, P, C) are fp32."""

    def __init__(self, network: Vggt3, images: Tensor, report: Reporter) -> None:
        self.aggregator = network.aggregator
        self.device = network.device
        self.levels = {
            layer: level for level, layer in enumerate(network.config.intermediate_layers)
        }
        self.grid = self.aggregator.grid(images)
        self.rope = self.aggregator.rope(self.grid, bf16=network.precision == "bf16")
        self.report = report

    def embed(self, images: Tensor, reference: bool) -> Tensor:
        """Tokens of a chunk of images; with `reference` its first frame is that of the scene."""
        tokens = self.aggregator.embed(images.to(self.device, torch.float32), reference)
        self.report("backbone")
        return tokens

    def within(self, layer: int, tokens: Tensor) -> Tensor:
        """Tokens after the layer's frame block."""
        tokens = self.aggregator.frame_blocks[layer](tokens, self.rope)
        self.report("frame blocks")
        return tokens

    def normed(self, layer: int, within: Tensor) -> Tensor:
        """What the layer's global attention sees of them."""
        return self.aggregator.global_block(layer).norm1(within)

    def across(self, layer: int, within: Tensor, view: SceneView) -> Tensor:
        """Tokens after the layer's global block."""
        block = self.aggregator.global_block(layer)
        tokens = block.finish(within, view.attend(block.norm1(within)))
        self.report("global blocks")
        return tokens

    def views(self, memory: Mapping[int, LayerMemory]) -> list[SceneView]:
        """What the global layers know of a scene that was mapped."""
        place = Place(self.rope, self.grid)
        views = []
        for layer in range(len(self.aggregator.global_blocks)):
            attn = self.aggregator.global_attention(layer)
            views.append(remembered_view(attn, place, memory.get(layer, LayerMemory())))
        return views

    def through(self, tokens: Tensor, views: Sequence[SceneView]) -> Iterator[tuple[int, Tensor]]:
        """Tapped levels, each with its tokens [frame, global] (s, P, 2C), of embedded tokens that
        pass all layers.
        """
        for layer, view in enumerate(views):
            within = self.within(layer, tokens)
            tokens = self.across(layer, within, view)
            if layer in self.levels:
                yield self.levels[layer], torch.cat([within, tokens], dim=-1)


class MapRun:
    """One call of `Vggt3.map`, but for the camera head.

    A chunk that arrives at a layer leaves the one before, so that the residual stream is read and
    written once a layer, and read once more for every further TTT step.
    """

    def __init__(
        self,
        network: Vggt3,
        images: Tensor,
        settings: MapSettings,
        progress: StageProgress | None,
        ranks: Ranks | None,
    ) -> None:
        config = network.config
        self.share = slice(0, len(images)) if ranks is None else ranks.share(len(images))
        self.frames = len(images)
        self.images = images[self.share]
        self.parts = chunks(len(self.images), settings.chunk)
        self.ranks = ranks
        self.again = settings.resident == "stream"
        passes = 2 if self.again else 1
        report = Reporter(progress, (passes * (1 + 2 * config.depth) + 1) * len(self.parts))
        self.passage = Passage(network, images, report)
        self.heads = DenseHeads(network, self.passage.grid, settings.pointmap, settings.depth)
        self.place = Place(self.passage.rope, self.passage.grid, ranks, self.frames)
        self.config = config
        self.steps = settings.steps
        self.anchor_count = settings.anchors or config.anchors.count
        self.in_host = settings.resident == "none"
        tokens_per_frame = self.passage.grid[0] * self.passage.grid[1] + network.aggregator.special
        self.stream = self._rows((tokens_per_frame, config.embed_dim))
        rounded = torch.bfloat16 if network.precision == "bf16" else torch.float32
        self.kept = None if self.again else KeptLevels(self.heads, lambda s: self._rows(s, rounded))
        count = len(self.images)
        self.camera_tokens = torch.empty(count, 2 * config.embed_dim, device=network.device)
        self.maps = MapRows(self._rows)
        self.memory: dict[int, LayerMemory] = {}
        self._anchors: Tensor | None = None  # (K,) among all frames
        self._view: SceneView | None = None  # of the last layer that has seen all frames
        self._views: list[SceneView] = []  # of all layers, for frames that pass once more
        self._waiting: Iterator[list[Levels]] | None = None

    def run(self) -> None:
        """Fit the scene and decode the frames: afterwards `camera_tokens`, `maps` and `memory` are
        there.
        """
        for layer in range(self.config.depth):
            self._fit(layer)
        if self.again:
            del self.stream
            self._decode_again()
        else:
            for part, within in zip(self.parts, self.stream.passing(self.parts), strict=True):
                self._leave(self.config.depth - 1, part, within)
            del self.stream, self.kept, self._waiting

    def _fit(self, layer: int) -> None:
        """Bring all frames to a layer, and let it see them as often as it has steps."""
        passage = self.passage
        view = make_view(passage.aggregator.global_attention(layer), self.place)
        told_apart = []
        for part, tokens in self._arriving(layer):
            within = passage.within(layer, tokens)
            self.stream.write(part, within)
            normed = passage.normed(layer, within)
            view.see(normed)
            if layer == 0 and self.config.has_anchors:
                told_apart.append(frame_tokens(normed))
        self._view = None
        if told_apart:
            self._anchors = self._choose(torch.cat(told_apart))
        view.seen_all()
        if self._anchors is not None:
            view.choose(self._anchors, partial(self._normed_anchors, layer))
        more_steps = self.steps - 1 if "ttt" in self.config.global_kinds[layer] else 0
        for _ in range(more_steps):
            for within in self.stream.passing(self.parts):
                view.see(passage.normed(layer, within))
            view.seen_all()
        self._view = view
        if self.again:
            self._views.append(view)
        kept = view.memory()
        if kept.tensors():
            self.memory[layer] = kept

    def _choose(self, told_apart: Tensor) -> Tensor:
        """Anchors (K,) among all frames, from what tells the frames of this share apart."""
        if self.ranks is not None:
            told_apart = self.ranks.gather(told_apart, self.frames)
        return choose_anchors(told_apart, self.anchor_count)

    def _normed_anchors(self, layer: int) -> Tensor:
        """What a layer's global attention sees of the anchors, (K, P, C)."""
        anchors = self._anchors
        assert anchors is not None
        if self.ranks is None:
            return self.passage.normed(layer, self.stream.of(anchors))
        here = (anchors >= self.share.start) & (anchors < self.share.stop)
        own = self.stream.of(anchors[here] - self.share.start)
        rows = own.new_zeros(len(anchors), *own.shape[1:])
        rows[here] = own
        return self.passage.normed(layer, self.ranks.sum([rows])[0])

    def _arriving(self, layer: int) -> Iterator[tuple[slice, Tensor]]:
        """Chunks as the layer before leaves them, or as they are embedded."""
        if layer == 0:
            for part in self.parts:
                yield part, self._embedded(part)
        else:
            for part, within in zip(self.parts, self.stream.passing(self.parts), strict=True):
                yield part, self._leave(layer - 1, part, within)

    def _embedded(self, part: slice) -> Tensor:
        first = self.ranks is None or self.ranks.first
        return self.passage.embed(self.images[part], first and part.start == 0)

    def _leave(self, layer: int, part: slice, within: Tensor) -> Tensor:
        """Pass the layer's global block, and keep what the heads need; decode once all is there."""
        assert self._view is not None
        tokens = self.passage.across(layer, within, self._view)
        level = self.passage.levels.get(layer)
        if level is not None and self.kept is not None:
            tapped = torch.cat([within, tokens], dim=-1)
            projected = self.heads.project(tapped, level)
            if level < len(self.passage.levels) - 1:
                self.kept.write(level, part, projected)
            else:
                self._waiting = self._waiting or self.kept.passing(self.parts)
                self._decode(part, [*next(self._waiting), projected], tapped)
        return tokens

    def _decode_again(self) -> None:
        """Let frames pass all layers with the fitted views, and decode each chunk at once."""
        for part in self.parts:
            levels = []
            for level, tapped in self.passage.through(self._embedded(part), self._views):
                levels.append(self.heads.project(tapped, level))
            self._decode(part, levels, tapped)

    def _decode(self, part: slice, levels: Sequence[Levels], tapped: Tensor) -> None:
        """Maps of a chunk, and its camera tokens from the last level's tokens (s, P, 2C)."""
        self.camera_tokens[part] = tapped[:, 0]
        self.maps.write(part, self.heads.decode(levels))
        self.passage.report("heads")

    def _rows(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Rows:
        kind = HostRows if self.in_host else Rows
        return kind(len(self.images), shape, self.passage.device, dtype)


class Reporter:
    """Counts chunks of work and reports the fraction done. A progress may raise to cancel."""

    def __init__(self, progress: StageProgress | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0

    def __call__(self, stage: str) -> None:
        """Say that a chunk has passed a stage."""
        self.done += 1
        if self.progress is not None:
            self.progress(stage, self.done / self.total)


def chunks(count: int, size: int) -> list[slice]:
    """Frames in groups of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
