"""A bank of mip-mapped textures shared by all rooms of a process, packed so that one gather fetches
a texel.

A texel is an int64 of four 16-bit lanes: red, green, blue and one empty, each 0..255. Bilinear
weights are integers that sum to 128, hence a weighted sum of four texels stays below 2**15 in every
lane: one multiplication weighs all channels of a texel. A second, finer layer is grey and small
(uint8) and looked up without interpolation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.worlds.patterns import FAMILIES, fractal_noise

TEXTURE_SIZE = 256
LEVELS = 8  # 256 to 2 texels
HELD_OUT_SEED = 900_000  # rooms from this seed on are drawn with textures that no training room has
LANE_MAX = 128 * 255
_BANKS = {"training": (6, 1), "held_out": (2, 2)}  # textures per weight of 1 (of 40), seed
_LEVEL_SIZES = [TEXTURE_SIZE >> level for level in range(LEVELS)]
TEXELS = sum(size * size for size in _LEVEL_SIZES)  # of one texture with its levels


@dataclass(frozen=True)
class TextureBank:
    """texels (count * TEXELS,) int64 packed colours; detail (count * TEXELS,) uint8 grey of equal
    mean and contrast; level_offsets (LEVELS,) int32 first texel of a level; level_scales (LEVELS,)
    float32 1, 1/2, 1/4 ...
    """

    texels: Tensor
    detail: Tensor
    level_offsets: Tensor
    level_scales: Tensor

    def to(self, device: torch.device | str) -> TextureBank:
        """The same bank on another device."""
        return TextureBank(*(getattr(self, field.name).to(device) for field in fields(self)))


def bank_name(seed: int) -> str:
    """Name of the bank that the room of this seed uses: "training" or "held_out"."""
    return "held_out" if seed >= HELD_OUT_SEED else "training"


def texture_bank(name: str, device: str = "cpu", shown: Tensor | None = None) -> TextureBank:
    """The bank `name` ("training": 240 textures, "held_out": 80) on a device.

    On the CPU only those textures are painted whose numbers are `shown` (None: all), each once in a
    process; what others hold is undefined. Any other device has all of them (seconds).
    """
    if device != "cpu":
        return _copied(name, device)
    canvas = _canvas(name)
    canvas.paint(range(canvas.count) if shown is None else shown.unique().int().tolist())
    return canvas.bank


@lru_cache(maxsize=4)
def _canvas(name: str) -> _Canvas:
    return _Canvas(*_BANKS[name])


@lru_cache(maxsize=4)
def _copied(name: str, device: str) -> TextureBank:
    return texture_bank(name).to(device)


def group_ranges(name: str) -> dict[str, tuple[int, int]]:
    """Texture numbers [first, end) of every pattern family in the bank `name`, without generating
    it.
    """
    groups = {}
    first = 0
    for family, (_, weight) in FAMILIES.items():
        groups[family] = (first, first + weight * _BANKS[name][0])
        first += weight * _BANKS[name][0]
    return groups


class _Canvas:
    """A bank on the CPU whose textures are painted when they are first asked for."""

    def __init__(self, repeats: int, seed: int) -> None:
        self._seed = seed
        self._kinds = [  # of every texture: family, and number within it
            (family, index)
            for family, (_, weight) in FAMILIES.items()
            for index in range(weight * repeats)
        ]
        self.count = len(self._kinds)
        self._missing = set(range(self.count))
        self._packed = np.empty((self.count, TEXELS), np.int64)
        self._detail = np.empty((self.count, TEXELS), np.uint8)
        offsets = np.cumsum([0] + [size * size for size in _LEVEL_SIZES[:-1]])
        self.bank = TextureBank(
            torch.from_numpy(self._packed.reshape(-1)),
            torch.from_numpy(self._detail.reshape(-1)),
            torch.from_numpy(offsets.astype(np.int32)),
            torch.tensor([size / TEXTURE_SIZE for size in _LEVEL_SIZES]),
        )

    def paint(self, numbers: Iterable[int]) -> None:
        """Paint those of the textures that are not there yet."""
        for number in sorted(self._missing.intersection(numbers)):
            self._packed[number], self._detail[number] = _pack(self._painted(number))
            self._missing.discard(number)  # last: another thread may be painting the same one

    def _painted(self, number: int) -> NDArray[np.float32]:
        family, index = self._kinds[number]
        rng = np.random.default_rng([self._seed, number, index, len(family)])
        colour = FAMILIES[family][0](rng, TEXTURE_SIZE)
        colour = colour * (0.8 + 0.4 * fractal_noise(rng, TEXTURE_SIZE, 16, gain=0.9))[..., None]
        grey = colour.mean(axis=-1, keepdims=True)
        # real surfaces are seldom saturated
        colour = grey + (colour - grey) * rng.uniform(0.1, 0.9)
        return np.clip(colour, 0, 1)


def _pack(colour: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """All levels of one texture (size, size, 3): packed colours (TEXELS,) and grey (TEXELS,)."""
    grey = colour.mean(axis=-1, keepdims=True)
    grey = np.clip(0.5 + (grey - grey.mean()) * (0.22 / max(float(grey.std()), 1e-3)), 0, 1)
    image = np.concatenate([colour, grey], axis=-1)
    packed = []
    detail = []
    for size in _LEVEL_SIZES:
        if size < image.shape[0]:
            upper = image[0::2, 0::2] + image[0::2, 1::2]
            image = (upper + image[1::2, 0::2] + image[1::2, 1::2]) / 4
        lanes = np.rint(image * 255).astype(np.int16)
        detail.append(lanes[..., 3].astype(np.uint8).reshape(-1))
        lanes[..., 3] = 0
        packed.append(np.ascontiguousarray(lanes).view(np.int64).reshape(-1))
    return np.concatenate(packed), np.concatenate(detail)


def sample(bank: TextureBank, texture: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """Bilinear colour lookup, repeating at the borders; returns packed sums (N,) int64 (see
    `lane`).

    texture (N,) int32 number in the bank; u, v (N,) texels of level 0; level (N,) float, rounded to
    the nearest.
    """
    shrink, size, base = _level(bank, texture, level)
    x = (u * shrink).sub_(0.5)
    y = (v * shrink).sub_(0.5)
    column = x.floor()
    row = y.floor()
    a = x.sub_(column).mul_(128)
    b = y.sub_(row).mul_(128)
    both = (a * b).mul_(1 / 128).long()
    a = a.long().sub_(both)
    b = b.long().sub_(both)
    left = column.int()
    top = row.int()
    mask = size - 1
    right = (left + 1).bitwise_and_(mask)
    bottom = (top + 1).bitwise_and_(mask).mul_(size).add_(base)
    left = left.bitwise_and_(mask)
    top = top.bitwise_and_(mask).mul_(size).add_(base)
    out = bank.texels.index_select(0, top + left).mul_((128 - a).sub_(b).sub_(both))
    out.add_(bank.texels.index_select(0, top.add_(right)).mul_(a))
    out.add_(bank.texels.index_select(0, bottom + left).mul_(b))
    return out.add_(bank.texels.index_select(0, bottom.add_(right)).mul_(both))


def sample_detail(
    bank: TextureBank, texture: Tensor, u: Tensor, v: Tensor, level: Tensor
) -> Tensor:
    """Nearest texel (N,) of the grey version of textures, float32 0..255; arguments as `sample`
    takes them.
    """
    shrink, size, base = _level(bank, texture, level)
    mask = size - 1
    column = (u * shrink).floor_().int().bitwise_and_(mask)
    row = (v * shrink).floor_().int().bitwise_and_(mask)
    return bank.detail.index_select(0, row.mul_(size).add_(base).add_(column)).float()


def _level(bank: TextureBank, texture: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per lookup (N,): scale of its level, side of its level in texels int32, first texel int32."""
    number = level.clamp(0, LEVELS - 1).round_().int()
    shrink = bank.level_scales.index_select(0, number)
    base = (texture * TEXELS).add_(bank.level_offsets.index_select(0, number))
    return shrink, (shrink * TEXTURE_SIZE).int(), base


def lane(packed: Tensor, number: int) -> Tensor:
    """One channel (N,) float32, 0..LANE_MAX, of packed sums (N,): 0 red, 1 green, 2 blue."""
    return packed.view(torch.int16)[number::4].float()
