"""Images are localized in a mapped scene: they pass all layers, and the camera head sees them
beside the scene's anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vggt3_ros.model.anchors import choose_anchors
from vggt3_ros.model.dense_maps import DenseHeads, Levels
from vggt3_ros.model.precision import autocast_to
from vggt3_ros.model.prediction import SceneMemory
from vggt3_ros.model.recorded import Recorded
from vggt3_ros.model.streaming import Passage, Reporter

if TYPE_CHECKING:
    from vggt3_ros.model.network import Vggt3

_RECORDED = 4  # sizes of images

Answer = tuple[Tensor, list[list[Levels]]]
"""Pose encodings (S, 9), and for each part of the images what the dense heads need."""


def answer(
    network: Vggt3,
    images: Tensor,
    memory: SceneMemory,
    parts: Sequence[slice],
    heads: DenseHeads,
    report: Reporter,
) -> Answer:
    """What the network says of images (S, 3, H, W); the memory is on its device."""
    passage = Passage(network, images, report)
    views = passage.views(memory.layers)
    kept = []
    camera_tokens = [memory.camera_tokens[choose_anchors(memory.camera_tokens)]]
    with autocast_to(network.precision, network.device):
        for part in parts:
            levels = []
            for level, tapped in passage.through(passage.embed(images[part], False), views):
                levels.append(heads.project(tapped, level))
            kept.append(levels)
            camera_tokens.append(tapped[:, 0])
    tokens = torch.cat(camera_tokens)[None]
    return network.camera_head(tokens, wanted=len(images))[-1, 0], kept


class Replay:
    """Queries of one image, recorded as CUDA graphs: in the last scene, for the last few sizes of
    image, each when it is asked for the second time.
    """

    def __init__(self, network: Vggt3) -> None:
        self._network = network
        self._memory: SceneMemory | None = None
        self._recorded: dict[tuple[Any, ...], Recorded | None] = {}

    def answer(self, image: Tensor, memory: SceneMemory, heads: DenseHeads) -> Answer | None:
        """As `answer`, of an image (1, 3, H, W); None where it is not recorded yet. Raises
        RuntimeError where it cannot be recorded.
        """
        image = image.to(self._network.device, torch.float32)
        if memory is not self._memory:
            self._recorded.clear()
            self._memory = memory
        asked = image.shape, *heads.heads
        if asked not in self._recorded:
            if len(self._recorded) == _RECORDED:
                self._recorded.pop(next(iter(self._recorded)))
            self._recorded[asked] = None
            return None
        recorded = self._recorded[asked]
        if recorded is None:
            there = memory.to(self._network.device)

            def work(given: Tensor) -> Answer:
                whole = [slice(0, 1)]
                return answer(self._network, given, there, whole, heads, Reporter(None, 1))

            recorded = self._recorded[asked] = Recorded(work, image)
        return recorded(image)
