"""How frames stream through the network, chunk by chunk: layer after layer when it maps, for a
layer sees all of them before it answers; straight through when it is queried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vggt3_ros.model.dense_maps import DenseHeads, KeptLevels, Levels, MapRows
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.rows import HostRows, Rows
from vggt3_ros.model.scene_views import FastWeightsView, KeysView, SceneView
from vggt3_ros.model.ttt_attention import TttAttention
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks

if TYPE_CHECKING:
    from vggt3_ros.model.network import Vggt3

Resident = Literal["all", "stream", "none"]
"""What stays on the device of every frame while it maps: the residual stream and what the heads
need of tapped layers; the residual stream alone, and frames pass once more for the heads, when the
scene is fitted; nothing, both and the results are in host memory.
"""


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

    def views(self, weights: Sequence[FastWeights]) -> list[FastWeightsView]:
        """What the global layers know of a scene that is fitted."""
        views = []
        for layer, of_layer in enumerate(weights):
            attn = self.aggregator.global_block(layer).attn
            assert isinstance(attn, TttAttention)
            views.append(FastWeightsView(attn, self.rope, self.grid, of_layer))
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
        chunk: int,
        steps: int,
        resident: Resident,
        progress: StageProgress | None,
        ranks: Ranks | None,
        pointmap: bool,
    ) -> None:
        config = network.config
        self.images = images
        self.parts = chunks(len(images), chunk)
        self.ranks = ranks
        again = resident == "stream"
        passes = 2 if again else 1
        report = Reporter(progress, (passes * (1 + 2 * config.depth) + 1) * len(self.parts))
        self.passage = Passage(network, images, report)
        self.heads = DenseHeads(network, self.passage.grid, pointmap)
        self.depth = config.depth
        self.again = again
        self.steps = steps if config.attn == "ttt" else 1
        self.in_host = resident == "none"
        tokens_per_frame = self.passage.grid[0] * self.passage.grid[1] + network.aggregator.special
        self.stream = self._rows((tokens_per_frame, config.embed_dim))
        rounded = torch.bfloat16 if network.precision == "bf16" else torch.float32
        self.kept = None if again else KeptLevels(self.heads, lambda s: self._rows(s, rounded))
        self.camera_tokens = torch.empty(len(images), 2 * config.embed_dim, device=network.device)
        self.maps = MapRows(self._rows)
        self.weights: list[FastWeights] = []  # of every layer, where it has them
        self._view: SceneView | None = None  # of the last layer that has seen all frames
        self._waiting: Iterator[list[Levels]] | None = None

    def run(self) -> None:
        """Fit the scene and decode the frames: afterwards `camera_tokens`, `maps` and `weights` are
        there.
        """
        for layer in range(self.depth):
            self._fit(layer)
        if self.again:
            del self.stream
            self._decode_again()
        else:
            for part, within in zip(self.parts, self.stream.passing(self.parts), strict=True):
                self._leave(self.depth - 1, part, within)
            del self.stream, self.kept, self._waiting

    def _fit(self, layer: int) -> None:
        """Bring all frames to a layer, and let it see them as often as it has steps."""
        attn = self.passage.aggregator.global_block(layer).attn
        passage = self.passage
        view: SceneView
        if isinstance(attn, TttAttention):
            view = FastWeightsView(attn, passage.rope, passage.grid, ranks=self.ranks)
        else:
            view = KeysView(attn, passage.rope)
        for part, tokens in self._arriving(layer):
            within = passage.within(layer, tokens)
            self.stream.write(part, within)
            view.see(passage.normed(layer, within))
        self._view = None
        view.seen_all()
        for _ in range(self.steps - 1):
            for within in self.stream.passing(self.parts):
                view.see(passage.normed(layer, within))
            view.seen_all()
        self._view = view
        if isinstance(view, FastWeightsView):
            self.weights.append(view.weights)

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
        views = self.passage.views(self.weights)
        for part in self.parts:
            levels = []
            for level, tapped in self.passage.through(self._embedded(part), views):
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
