"""How much `vggt3 bench gpu` measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vggt3_ros.model.config import ModelConfig, TttConfig


@dataclass(frozen=True)
class Sizes:
    """The published network on a GPU, or a stand-in that a CPU goes through in a minute.

    Numbers of frames: `compared` are mapped our way and by the reference flow, one after the other;
    `queried` are maps in which images are localized; then ours alone, `further`, and the reference
    flow, `further_compared`. The exponent is that of ours from `exponent_from` on. Targets speak of
    `goal` frames.
    """

    ttt: ModelConfig
    softmax: ModelConfig
    image_hw: tuple[int, int]
    goal: int
    compared: tuple[int, ...]
    queried: tuple[int, ...]
    further: tuple[int, ...]
    further_compared: tuple[int, ...]
    exponent_from: int
    softmax_mapped: tuple[int, ...]
    window: int  # tokens that pass a global block of the reference flow together
    paths: int  # frames of a map that fast paths are tried with
    scenes: int  # random ones in which fast paths are compared with the plain one
    bounded: int  # frames of these that are left in host memory one by one: copies have to wait
    resident: tuple[int, ...]  # of maps that are kept on the device, or not
    chunks: tuple[int, ...]  # frames at a time that are tried
    layer: int  # frames that a layer alone is given
    copied_bytes: int
    product: int  # rows, columns and depth of the matrix product
    moment_s: float  # how long something small is repeated
    training_s: float  # how long training of one kind is measured

    @staticmethod
    def full() -> Sizes:
        """The published network at 518 x 392 pixels, with the depth head alone: targets are for
        that.
        """
        return Sizes(
            ttt=replace(ModelConfig.full("ttt"), point_head=False),
            softmax=replace(ModelConfig.full("softmax"), point_head=False),
            image_hw=(392, 518),
            goal=1000,
            compared=(100, 1000),
            queried=(50, 1000),
            further=(250, 500, 2000),
            further_compared=(250, 500),
            exponent_from=250,
            softmax_mapped=(100, 300),
            window=20 * 37 * 37,
            paths=96,
            scenes=3,
            bounded=8,
            resident=(500, 2000),
            chunks=(8, 16, 32, 64),
            layer=32,
            copied_bytes=4 * 2**30,
            product=8192,
            moment_s=1.0,
            training_s=20.0,
        )

    @staticmethod
    def dry() -> Sizes:
        """A stand-in of the same kinds of layers, narrow, shallow and of few frames."""
        full = Sizes.full()
        sizes = {"embed_dim": 64, "num_heads": 2, "depth": 4, "dino_depth": 2, "dino_num_heads": 2}
        heads = {"camera_num_heads": 2, "camera_trunk_depth": 1, "dpt_features": 16}
        levels = {"intermediate_layers": (0, 1, 2, 3), "dpt_out_channels": (16, 16, 16, 16)}
        small: dict[str, Any] = {**sizes, **heads, **levels}
        return replace(
            full,
            ttt=replace(full.ttt, **small, ttt=TttConfig(newton_schulz_steps=2)),
            softmax=replace(full.softmax, **small),
            image_hw=(56, 70),
            goal=8,
            compared=(2, 8),
            queried=(3, 8),
            further=(4, 16),
            further_compared=(4,),
            exponent_from=4,
            softmax_mapped=(4, 6),
            window=60,
            paths=6,
            scenes=2,
            bounded=3,
            resident=(4, 8),
            chunks=(2, 4),
            layer=4,
            copied_bytes=2**24,
            product=256,
            moment_s=0.1,
            training_s=0.5,
        )
