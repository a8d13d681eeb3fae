"""A network that knows the truth, and the sequence it knows: so the right figures are known too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.geometry.camera import encode_camera, intrinsics_matrix
from vggt3_ros.geometry.se3 import look_at, se3_inverse
from vggt3_ros.model.prediction import UndecodedPrediction

METRES_PER_UNIT = 2.0
SIZE_HW = (56, 70)
SPLIT = Split((0, 2, 4, 6), (1, 3, 5))


def arc_sequence(with_depth: bool = True, black: tuple[int, ...] = ()) -> Sequence:
    """Seven noise images of 56x70 from an arc of radius 2 m around a point of interest; world Z up,
    depth 2 m.
    """
    angle = torch.linspace(0, 1.2, 7, dtype=torch.float64)
    position = torch.stack(
        [2 * angle.cos(), 2 * angle.sin(), 1.5 + 0.2 * (4 * angle).sin()], dim=-1
    )
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (7, *SIZE_HW, 3), dtype=np.uint8)
    images[list(black)] = 0
    depth = np.full(SIZE_HW, 2.0, dtype=np.float32)
    return Sequence(
        name="arc",
        names=tuple(f"{i:06d}" for i in range(7)),
        stamps_ns=tuple(range(7)),
        world_from_cam=look_at(position, torch.zeros(3, dtype=torch.float64), up),
        intrinsics=intrinsics_matrix(60, 60, 34.5, 27.5),
        splits={"sparse": SPLIT},
        read_image=lambda i: images[i],
        read_depth=lambda i: depth if with_depth else None,
        up=up,
    )


class Oracle:
    """Wraps a network and replaces its cameras and depths by the truth, in units of two metres.

    Map frames and queries must come in the order given here. `query_shift_m` moves every answer
    sideways.
    """

    def __init__(
        self, network: Any, sequence: Sequence, split: Split, query_shift_m: float = 0.0
    ) -> None:
        self._network = network
        self._sequence = sequence
        self._map = split.map
        self._queries = iter(split.query)
        self._shift = query_shift_m
        self._scene_from_world = se3_inverse(sequence.world_from_cam[split.map[0]])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def map(self, images: Tensor, *args: Any, **others: Any) -> Any:
        prediction, memory = self._network.map(images, *args, **others)
        return self._with_truth(prediction, self._sequence.world_from_cam[list(self._map)]), memory

    def query_undecoded(self, images: Tensor, memory: Any, pointmap: bool) -> Any:
        pose = self._sequence.world_from_cam[next(self._queries)].clone()
        pose[:3, 3] += self._shift * pose[:3, 0]
        true = self._with_truth(self._network.query(images, memory), pose[None])
        return UndecodedPrediction(true.pose_encoding, true.size_hw, lambda: true)

    def _with_truth(self, prediction: Any, world_from_cam: Tensor) -> Any:
        scene_from_cam = self._scene_from_world @ world_from_cam
        scene_from_cam[:, :3, 3] /= METRES_PER_UNIT
        intrinsics = self._sequence.intrinsics.expand(len(world_from_cam), 3, 3)
        encoding = encode_camera(se3_inverse(scene_from_cam), intrinsics, SIZE_HW)
        return replace(
            prediction,
            pose_encoding=encoding,
            depth=torch.full_like(prediction.depth, 2 / METRES_PER_UNIT),
        )
