"""The network as its users see it: map a set of images into a scene memory, then query the memory
with others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.model.aggregator import Aggregator
from vggt3_ros.model.block import Block
from vggt3_ros.model.camera_head import CameraHead, choose_anchors
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.fingerprint import FingerprintCache, checksum, digest
from vggt3_ros.model.precision import Precision, without_autocast
from vggt3_ros.model.prediction import Prediction, SceneMemory, UndecodedPrediction
from vggt3_ros.model.rope import RopeTable
from vggt3_ros.model.ttt_attention import TttAttention
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks

_LIBRARY_BYTES = 2**24  # what the maths libraries take for themselves

"""Called with the stage worked on and the fraction done so far, 0 to 1. It may raise to cancel."""


@dataclass(frozen=True, eq=False)
class TrainingOutput:
    """Differentiable outputs for a batch of B scenes of S frames, D of which the dense heads
    decoded.
    """

    pose_encodings: Tensor  # (iterations, B, S, 9)
    depth: Tensor  # (B, D, H, W)
    depth_confidence: Tensor  # (B, D, H, W)
    pointmap: Tensor | None  # (B, D, H, W, 3)
    pointmap_confidence: Tensor | None  # (B, D, H, W)
    tapped: list[Tensor]  # four of (B, S, P, 2C)


class Vggt3(nn.Module):
    """VGG-T3 when `config.attn` is 'ttt', VGGT when it is 'softmax'.

    precision 'fp32' is the truth; 'bf16' runs the aggregator under autocast as the published
    weights were trained (RoPE rounding included) and the heads in fp32.
    """

    def __init__(self, config: ModelConfig, precision: Precision = "fp32") -> None:
        super().__init__()
        if precision not in ("fp32", "bf16"):
            raise InputError(f"precision is {precision!r}, expected 'fp32' or 'bf16'")
        self.config = config
        self.precision: Precision = precision
        self.model_id = "unnamed"
        self.fingerprint_cache: FingerprintCache | None = None  # of the files it was loaded from
        self._fingerprint: tuple[str, str] | None = None  # with the checksum of the weights then
        self.aggregator = Aggregator(config)
        dim = 2 * config.embed_dim
        self.camera_head = CameraHead(
            dim, config.camera_num_heads, config.camera_trunk_depth, config.camera_iterations
        )
        sizes = (dim, config.patch_size, config.dpt_features, config.dpt_out_channels)
        self.depth_head = DptHead(*sizes, kind="depth")
        self.point_head = DptHead(*sizes, kind="points") if config.point_head else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.aggregator.camera_token.device

    def fingerprint(self) -> str:
        """16 hex digits that identify configuration and weights: a scene belongs to the network
        that made it. Computed once, and again when weights have changed.
        """
        state = self.state_dict()
        bits = checksum(state)
        if self._fingerprint is None or self._fingerprint[0] != bits:
            cache = self.fingerprint_cache
            known = cache.find(bits) if cache is not None else None
            if known is None:
                known = digest(self.config.to_dict(), state)
                if cache is not None:
                    cache.keep(bits, known)
            self._fingerprint = bits, known
        return self._fingerprint[1]

    def forward(
        self, images: Tensor, map_frames: int | None = None, steps: int = 1, dense_stride: int = 1
    ) -> TrainingOutput:
        """Train on a batch of scenes (B, S, 3, H, W); see Aggregator.forward for `map_frames` and
        `steps`.

        The dense heads, which cost as much as the rest in small networks, decode every
        `dense_stride`-th frame.
        """
        tapped = self.aggregator(images, map_frames, steps)
        grid = self.aggregator.grid(images)
        special = self.aggregator.special
        chosen = [level[:, ::dense_stride, special:] for level in tapped]

        def dense(head: DptHead) -> list[Tensor]:
            maps = head.decode(
                [head.project(level.flatten(0, 1), i, grid) for i, level in enumerate(chosen)]
            )
            return [value.unflatten(0, chosen[0].shape[:2]) for value in maps]

        depth, depth_confidence = dense(self.depth_head)
        points, point_confidence = (
            dense(self.point_head) if self.point_head is not None else (None, None)
        )
        with without_autocast(images.device):  # eight bits are too few for a pose
            encodings = self.camera_head(tapped[-1][:, :, 0])
        return TrainingOutput(encodings, depth, depth_confidence, points, point_confidence, tapped)

    @torch.no_grad()
    def map(
        self,
        images: Tensor,
        steps: int = 2,
        chunk: int = 8,
        progress: StageProgress | None = None,
        ranks: Ranks | None = None,
    ) -> tuple[Prediction, SceneMemory | None]:
        """Reconstruct images (S, 3, H, W) in [0, 1] and fit the scene MLP to them in `steps` TTT
        steps.

        Frames pass through in groups of `chunk`; the result does not depend on it beyond rounding.
        Per frame, only the residual tokens and what the heads need of the four tapped layers are
        kept. The memory is None for a softmax network. World = the first image's camera.

        ranks: processes that map together. Each gives all images, and gets the prediction of its
        share (Ranks.share) and the memory of all.
        """
        self._check(images, chunk)
        if steps < 1:
            raise InputError(f"steps is {steps}, expected at least 1 TTT step")
        share = slice(None)
        if ranks is not None and ranks.world > 1:
            self._check_ranks(ranks, len(images))
            share = ranks.share(len(images))
        tapped, weights = self._encode(images[share], chunk, None, steps, progress, ranks)
        tokens = tapped.camera_tokens
        if ranks is not None:
            tokens = ranks.gather(tokens, len(images))
        anchors = choose_anchors(tokens)
        encoding = self.camera_head.forward_anchored(tokens[None], anchors)[-1, 0, share]
        prediction = self._predict(encoding, tapped, chunk, progress)
        memory = None
        if self.config.attn == "ttt":
            memory = SceneMemory(tuple(weights), tokens[anchors])
        return prediction, memory

    @torch.no_grad()
    def query(
        self,
        images: Tensor,
        memory: SceneMemory | None,
        chunk: int = 8,
        progress: StageProgress | None = None,
    ) -> Prediction:
        """Localize images (S, 3, H, W) in [0, 1] in the mapped scene: poses, depth and points in
        its world frame.

        Images of one call see each other in the camera head alone. Raises SceneError without a
        fitting memory.
        """
        return self.query_undecoded(images, memory, chunk, progress).decode()

    @torch.no_grad()
    def query_undecoded(
        self,
        images: Tensor,
        memory: SceneMemory | None,
        chunk: int = 8,
        progress: StageProgress | None = None,
    ) -> UndecodedPrediction:
        """As `query`, but the dense heads are run only when its depth is asked for."""
        self._check(images, chunk)
        if self.config.attn == "softmax" or memory is None:
            raise SceneError(
                "a softmax network keeps no scene memory, so there is nothing to query; map with a"
                " 'ttt' network, or map the new images together with the old ones"
            )
        expected = []
        for block in self.aggregator.global_blocks:
            expected += [tuple(part.shape) for part in block.attn.initial]
        given = []
        for weights in memory.fast_weights:
            given += [tuple(part.shape[-3:]) for part in weights]
        if expected != given or memory.camera_tokens.shape[-1] != 2 * self.config.embed_dim:
            raise SceneError(
                "the scene memory has other sizes than this network; load the network that made the"
                " scene"
            )
        memory = memory.to(self.device)
        tapped, _ = self._encode(images, chunk, memory, 0, progress)
        anchors = memory.camera_tokens[choose_anchors(memory.camera_tokens)]
        tokens = torch.cat([anchors, tapped.camera_tokens])
        encoding = self.camera_head(tokens[None], wanted=len(images))[-1, 0]
        size_hw = images.shape[-2], images.shape[-1]
        return UndecodedPrediction(
            encoding, size_hw, lambda: self._predict(encoding, tapped, chunk, progress)
        )

    def map_bytes(self, frames: int, height: int, width: int, chunk: int = 8) -> int:
        """How much memory `map` takes at most on top of the weights, in bytes of fp32: an estimate
        on the safe side.
        """
        config = self.config
        patches = height * width // config.patch_size**2
        tokens = patches + self.aggregator.special
        heads = [head for head in (self.depth_head, self.point_head) if head is not None]
        kept = tokens * config.embed_dim + len(heads) * patches * sum(config.dpt_out_channels)
        outputs = height * width * (3 + 2 + (4 if self.point_head is not None else 0))
        # the DPT heads' finest level before it is resized to the image
        fused = 64 * patches * config.dpt_features
        full = height * width * (config.dpt_features // 2 + 32)
        working = max(tokens * config.embed_dim * 64, 6 * fused + 4 * full)
        if config.attn == "softmax":
            kept += 5 * tokens * config.embed_dim
        return 4 * (frames * (kept + outputs) + min(chunk, frames) * working) + _LIBRARY_BYTES

    def _check(self, images: Tensor, chunk: int) -> None:
        patch = self.config.patch_size
        if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
            raise InputError(
                f"images must be (S, 3, H, W) with S of at least 1, got {tuple(images.shape)}"
            )
        if images.shape[2] % patch or images.shape[3] % patch:
            raise InputError(
                f"image height and width must be multiples of {patch}, got"
                f" {tuple(images.shape[2:])}"
            )
        if chunk < 1:
            raise InputError(f"chunk is {chunk}, expected at least 1 frame")

    def _check_ranks(self, ranks: Ranks, frames: int) -> None:
        if self.config.attn == "softmax":
            raise InputError(
                f"{ranks.world} processes share the frames of fast weights alone, and this is a"
                " softmax network; start one process"
            )
        if frames < ranks.world:
            raise InputError(
                f"{ranks.world} processes share {frames} frames; start at most {frames} processes"
            )

    def _encode(
        self,
        images: Tensor,
        chunk: int,
        memory: SceneMemory | None,
        steps: int,
        progress: StageProgress | None,
        ranks: Ranks | None = None,
    ) -> tuple[_Tapped, list[FastWeights]]:
        """Run the aggregator over frames in chunks; with a memory its fast weights are used, else
        they are fitted, to those of all ranks.
        """
        has_reference = memory is None and (ranks is None or ranks.first)
        aggregator = self.aggregator
        config = self.config
        parts = [slice(start, start + chunk) for start in range(0, len(images), chunk)]
        grid = aggregator.grid(images)
        rope = aggregator.rope(grid, bf16=self.precision == "bf16")
        tapped = _Tapped(len(images), self, grid)
        report = _Reporter(progress, layers=config.depth, parts=len(parts))
        all_weights: list[FastWeights] = []
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            tokens_per_frame = grid[0] * grid[1] + aggregator.special
            tokens = torch.empty(
                len(images), tokens_per_frame, config.embed_dim, device=self.device
            )
            for part in parts:
                reference = has_reference and part.start == 0
                tokens[part] = aggregator.embed(
                    images[part].to(self.device, torch.float32), reference
                )
                report("backbone")
            for layer in range(config.depth):
                for part in parts:
                    tokens[part] = aggregator.frame_blocks[layer](tokens[part], rope)
                    report("frame blocks")
                level = (
                    config.intermediate_layers.index(layer)
                    if layer in config.intermediate_layers
                    else None
                )
                attend, weights = self._global(
                    layer, tokens, parts, rope, grid, memory, steps, ranks
                )
                all_weights += weights
                global_block = aggregator.global_block(layer)
                for part in parts:
                    within = tokens[part]
                    mixed = global_block.finish(within, attend(global_block.norm1(within)))
                    if level is not None:
                        tapped.keep(level, part, torch.cat([within, mixed], dim=-1))
                    tokens[part] = mixed
                    report("global blocks")
        return tapped, all_weights

    def _global(
        self,
        layer: int,
        tokens: Tensor,
        parts: list[slice],
        rope: RopeTable,
        grid: tuple[int, int],
        memory: SceneMemory | None,
        steps: int,
        ranks: Ranks | None,
    ) -> tuple[Callable[[Tensor], Tensor], list[FastWeights]]:
        """The layer's view of the whole scene, as a function from normed tokens (s, P, C) to
        attention output.
        """
        block = self.aggregator.global_block(layer)
        attn = block.attn
        if isinstance(attn, TttAttention):
            chunks = _NormedChunks(block, tokens, parts)
            weights = (
                attn.fit(chunks, rope, grid, steps, ranks)
                if memory is None
                else memory.fast_weights[layer]
            )
            return lambda x: attn.retrieve(x[None], weights, rope, grid)[0], [
                _without_batch(weights)
            ]
        projected = [attn.project(block.norm1(tokens[part]), rope) for part in parts]
        # (h, N, d)
        k = torch.cat([chunk[1] for chunk in projected]).transpose(0, 1).flatten(1, 2)
        v = torch.cat([chunk[2] for chunk in projected]).transpose(0, 1).flatten(1, 2)
        del projected

        def attend(x: Tensor) -> Tensor:
            q = attn.project(x, rope)[0].transpose(0, 1).flatten(1, 2)
            return attn.attend(q[None], k[None], v[None])[0].view_as(x)

        return attend, []

    @torch.no_grad()
    def _predict(
        self, encoding: Tensor, tapped: _Tapped, chunk: int, progress: StageProgress | None
    ) -> Prediction:
        """Decode the dense heads in chunks of frames."""
        values: dict[str, list[Tensor]] = {name: [] for name in tapped.projected}
        confidences: dict[str, list[Tensor]] = {name: [] for name in tapped.projected}
        for start in range(0, len(encoding), chunk):
            for name, levels in tapped.projected.items():
                value, confidence = getattr(self, name).decode(
                    [level[start : start + chunk] for level in levels]
                )
                values[name].append(value)
                confidences[name].append(confidence)
            if progress is not None:
                progress("heads", 0.9 + 0.1 * min(1.0, (start + chunk) / len(encoding)))
        depth = torch.cat(values["depth_head"])
        depth_confidence = torch.cat(confidences["depth_head"])
        if self.point_head is None:
            return Prediction(encoding, depth, depth_confidence, None, None)
        points = torch.cat(values["point_head"])
        point_confidence = torch.cat(confidences["point_head"])
        return Prediction(encoding, depth, depth_confidence, points, point_confidence)


class _NormedChunks:
    """The layer-normed tokens of a block, chunk by chunk, as often as they are iterated; nothing is
    stored.
    """

    def __init__(self, block: Block, tokens: Tensor, parts: list[slice]) -> None:
        self.block = block
        self.tokens = tokens
        self.parts = parts

    def __iter__(self) -> Iterator[Tensor]:
        return (self.block.norm1(self.tokens[part])[None] for part in self.parts)


class _Tapped:
    """What the heads need of the tapped layers: camera tokens, and patch tokens already reduced by
    each dense head.
    """

    def __init__(self, frames: int, network: Vggt3, grid: tuple[int, int]) -> None:
        self.network = network
        self.grid = grid
        config = network.config
        device = network.device
        self.camera_tokens = torch.empty(frames, 2 * config.embed_dim, device=device)
        names = ["depth_head"] + (["point_head"] if network.point_head is not None else [])
        widths = config.dpt_out_channels
        self.projected: dict[str, list[Tensor]] = {}
        for name in names:
            levels = [torch.empty(frames, width, *grid, device=device) for width in widths]
            self.projected[name] = levels

    def keep(self, level: int, part: slice, tokens: Tensor) -> None:
        """Take what is needed of one chunk's tapped tokens (s, P, 2C)."""
        if level == 3:
            self.camera_tokens[part] = tokens[:, 0]
        patches = tokens[:, self.network.aggregator.special :]
        with without_autocast(tokens.device):
            for name, levels in self.projected.items():
                levels[level][part] = getattr(self.network, name).project(patches, level, self.grid)


class _Reporter:
    """Counts chunks of work and reports the fraction done; the heads' work comes after it."""

    def __init__(self, progress: StageProgress | None, layers: int, parts: int) -> None:
        self.progress = progress
        self.total = (2 * layers + 1) * parts
        self.done = 0

    def __call__(self, stage: str) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(stage, 0.9 * self.done / self.total)


def _without_batch(weights: FastWeights) -> FastWeights:
    """Drop the batch axis that fitting one scene leaves: (1, h, d, m) to (h, d, m)."""
    return FastWeights(*(w[0] if w.ndim == 4 else w for w in weights))
