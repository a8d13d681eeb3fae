"""The network as its users see it: map a set of images into a scene memory, then query the memory
with others.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.model import kernels
from vggt3_ros.model.aggregator import Aggregator
from vggt3_ros.model.anchors import choose_anchors
from vggt3_ros.model.camera_head import CameraHead
from vggt3_ros.model.compiling import compile_inference, run_as_written
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.dense_maps import DECODED_AT_ONCE, DenseHeads, MapRows
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.fingerprint import FingerprintCache, checksum, digest
from vggt3_ros.model.global_attention import memory_sizes
from vggt3_ros.model.kernels import Operations
from vggt3_ros.model.precision import Precision, autocast_to, without_autocast
from vggt3_ros.model.prediction import Prediction, SceneMemory, UndecodedPrediction
from vggt3_ros.model.querying import Answer, Replay, answer
from vggt3_ros.model.rows import Rows
from vggt3_ros.model.streaming import MapRun, MapSettings, Reporter, Resident, chunks
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks

_LIBRARY_BYTES = {"cpu": 2**24, "cuda": 2**28}  # what the maths libraries take for themselves


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
    """VGG-T3 when `config.attn` is 'ttt', VGGT when it is 'softmax', and what lies between
    (`config.global_attention`).

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
        self.execution = Execution()
        self._replay: Replay | None = None
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

    def execute(self, execution: Execution) -> None:
        """Map and answer in this way from now on; weights and device stay as they are. Kernels that
        do not run there are left off, with a warning (Execution.parse refuses them beforehand).
        """
        operations = None
        if execution.kernels:
            operations = kernels.choose(self.device, self.config, self.precision == "bf16")
        self.use_operations(operations, frame_blocks=not execution.compiled)
        run_as_written(self)
        if execution.compiled:
            compile_inference(self)
        self._replay = Replay(self) if execution.graphs else None
        self.execution = replace(execution, kernels=operations is not None)

    def use_operations(self, operations: Operations | None, frame_blocks: bool = True) -> None:
        """Let TTT layers, and frame blocks unless they are compiled, use fused operations."""
        for block in self.aggregator.global_blocks:
            block.attn.operations = operations
        for block in self.aggregator.frame_blocks:
            block.attn.operations = operations if frame_blocks else None

    def round_weights(self) -> None:
        """Keep in bf16 what bf16 multiplies anyway: the weights of linear layers and convolutions
        of the aggregator. Results in bf16 are the same to the bit; fp32 is then no longer possible.
        """
        fingerprint = self.fingerprint()
        for module in self.aggregator.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(torch.bfloat16)
        self._fingerprint = checksum(self.state_dict()), fingerprint

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
        resident: Resident = "all",
        pointmap: bool = True,
        anchors: int | None = None,
    ) -> tuple[Prediction, SceneMemory]:
        """Reconstruct images (S, 3, H, W) in [0, 1], fit fast weights to them in `steps` TTT steps,
        and choose `anchors` of them, None for as many as the network was trained with.

        Frames pass through in groups of `chunk`; the result does not depend on it beyond rounding.
        resident: what stays on the device of every frame meanwhile, see Resident; with "none" the
        prediction's maps are in host memory. pointmap: whether the point head is run, where there
        is one. World = the first image's camera.

        ranks: processes that map together. Each gives all images, and gets the prediction of its
        share (Ranks.share) and the memory of all.
        """
        self._check(images)
        settings = MapSettings(chunk, steps, resident, pointmap, anchors=anchors)
        if resident == "stream" and "softmax" in self.config.global_kinds:
            raise InputError(
                "frames pass once more (resident 'stream') where the scene is held by fast weights"
                " and anchors, and this network has softmax layers, which attend to all frames; map"
                " with resident 'all' or 'none'"
            )
        if ranks is not None and ranks.world == 1:
            ranks = None
        if ranks is not None and len(images) < ranks.world:
            raise InputError(
                f"{ranks.world} processes share {len(images)} frames; start at most"
                f" {len(images)} processes"
            )
        run = MapRun(self, images, settings, progress, ranks)
        encoding, camera_tokens = self._poses(run)
        prediction = Prediction(encoding, **run.maps.whole())
        return prediction, SceneMemory(run.memory, camera_tokens)

    @torch.no_grad()
    def map_poses(self, images: Tensor, steps: int = 2) -> Tensor:
        """Pose encodings (S, 9) as `map` gives images (S, 3, H, W), without depth and points."""
        self._check(images)
        settings = MapSettings(len(images), steps, pointmap=False, depth=False)
        return self._poses(MapRun(self, images, settings, None, None))[0]

    def _poses(self, run: MapRun) -> tuple[Tensor, Tensor]:
        """Do the run: pose encodings of its frames, and camera tokens of the anchors of all."""
        with autocast_to(self.precision, self.device):
            run.run()
        tokens = run.camera_tokens
        if run.ranks is not None:
            tokens = run.ranks.gather(tokens, run.frames)
        chosen = choose_anchors(tokens)
        encoding = self.camera_head.forward_anchored(tokens[None], chosen)[-1, 0, run.share]
        return encoding, tokens[chosen]

    @torch.no_grad()
    def query(
        self,
        images: Tensor,
        memory: SceneMemory,
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
        memory: SceneMemory,
        chunk: int = 8,
        progress: StageProgress | None = None,
        pointmap: bool = True,
    ) -> UndecodedPrediction:
        """As `query`, but the dense heads are run only when its depth is asked for, and the point
        head only if `pointmap`.
        """
        self._check(images)
        if chunk < 1:
            raise InputError(f"chunk is {chunk}, expected at least 1 frame")
        self._check_memory(memory)
        parts = chunks(len(images), chunk)
        report = Reporter(progress, (2 + 2 * self.config.depth) * len(parts))
        heads = DenseHeads(self, self.aggregator.grid(images), pointmap)
        answered: Answer | None = None
        if len(images) == 1 and self._replay is not None:
            try:
                answered = self._replay.answer(images, memory, heads)
            except RuntimeError as error:
                warnings.warn(
                    f"queries are not recorded as a CUDA graph, and take longer: {error}",
                    stacklevel=2,
                )
                self._replay = None
                self.execution = replace(self.execution, graphs=False)
        if answered is None:
            answered = answer(self, images, memory.to(self.device), parts, heads, report)
        encoding, kept = answered

        @torch.no_grad()
        def decode() -> Prediction:
            maps = MapRows(lambda shape: Rows(len(images), shape, self.device, torch.float32))
            for part, levels in zip(parts, kept, strict=True):
                maps.write(part, heads.decode(levels))
                report("heads")
            return Prediction(encoding, **maps.whole())

        return UndecodedPrediction(encoding, (images.shape[-2], images.shape[-1]), decode)

    def map_bytes(
        self,
        frames: int,
        height: int,
        width: int,
        chunk: int = 8,
        resident: Resident = "all",
        pointmap: bool = True,
        anchors: int | None = None,
    ) -> int:
        """How much memory of its device `map` takes at most on top of the weights, in bytes: an
        estimate on the safe side.
        """
        config = self.config
        patches = height * width // config.patch_size**2
        tokens = patches + self.aggregator.special
        fused = 64 * patches * config.dpt_features  # the DPT heads' finest level, not yet resized
        full = height * width * (config.dpt_features // 2 + 32)
        layers = min(chunk, frames) * tokens * config.embed_dim * 64
        decoding = min(chunk, frames, DECODED_AT_ONCE) * (6 * fused + 4 * full)
        of_token = 20 * config.embed_dim  # keys and values of a layer
        keys = tokens * of_token if "softmax" in config.global_kinds else 0
        in_16_bits = 4 * config.embed_dim * config.depth  # of all layers, as a scene keeps them
        chosen = min(anchors or config.anchors.count, frames)
        anchored = chosen * tokens * (of_token + in_16_bits)
        kept = sum(self.kept_bytes(height, width, resident, pointmap).values()) + keys
        libraries = _LIBRARY_BYTES.get(self.device.type, 0)
        known = anchored if config.has_anchors else 0
        return frames * kept + known + 4 * max(layers, decoding) + libraries

    def kept_bytes(
        self, height: int, width: int, resident: Resident = "all", pointmap: bool = True
    ) -> dict[str, int]:
        """What stays on the device of every frame while it is mapped, in bytes: the residual
        `stream`, the `levels` that the heads wait for, and the `maps` that they make.
        """
        config = self.config
        patches = height * width // config.patch_size**2
        heads = 2 if pointmap and self.point_head is not None else 1
        of_level = 2 if self.precision == "bf16" else 4
        stream = 4 * (patches + self.aggregator.special) * config.embed_dim
        levels = of_level * heads * patches * sum(config.dpt_out_channels[:-1])
        maps = 4 * height * width * (2 if heads == 1 else 6)
        return {
            "stream": 0 if resident == "none" else stream,
            "levels": levels if resident == "all" else 0,
            "maps": 0 if resident == "none" else maps,
        }

    def _check(self, images: Tensor) -> None:
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

    def _check_memory(self, memory: SceneMemory) -> None:
        """Raise SceneError unless it is of a network of these sizes."""
        given = {layer: known.sizes for layer, known in memory.layers.items()}
        expected = {}
        for layer in range(self.config.depth):
            sizes = memory_sizes(self.aggregator.global_attention(layer))
            if sizes:
                expected[layer] = sizes
        if expected != given or memory.camera_tokens.shape[-1] != 2 * self.config.embed_dim:
            raise SceneError(
                "the scene memory has other sizes than this network; load the network that made the"
                " scene"
            )
