"""The dense heads of a network together: what they need of tapped layers, and what they make of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.precision import without_autocast
from vggt3_ros.model.rows import Rows

if TYPE_CHECKING:
    from vggt3_ros.model.network import Vggt3

Levels = dict[str, Tensor]
"""One tapped layer of some frames as each head needs it: by head, (s, width of the level, gh,
gw)."""
Maps = dict[str, Tensor]
"""By field of Prediction: depth and confidence (s, H, W), pointmap (s, H, W, 3) and its
confidence."""


DECODED_AT_ONCE = 8
"""Frames whose images the heads hold together: they take more memory than tokens in any layer."""


class DenseHeads:
    """Depth and points, each where it is wanted and the network has a head for it; computed in
    fp32.
    """

    def __init__(
        self, network: Vggt3, grid: tuple[int, int], pointmap: bool, depth: bool = True
    ) -> None:
        heads = {
            "depth": network.depth_head if depth else None,
            "pointmap": network.point_head if pointmap else None,
        }
        self.heads: dict[str, DptHead] = {n: head for n, head in heads.items() if head is not None}
        self.grid = grid
        self.widths = network.config.dpt_out_channels
        self._special = network.aggregator.special
        self._device = network.device

    def project(self, tapped: Tensor, level: int) -> Levels:
        """What the heads need of tapped tokens (s, P, 2C)."""
        patches = tapped[:, self._special :]
        with without_autocast(self._device):
            return {
                name: head.project(patches, level, self.grid) for name, head in self.heads.items()
            }

    def decode(self, levels: Sequence[Levels]) -> Maps:
        """From four levels of the same frames."""
        maps: Maps = {}
        with without_autocast(self._device):
            for name, head in self.heads.items():
                values = []
                confidences = []
                split = [level[name].split(DECODED_AT_ONCE) for level in levels]
                for group in zip(*split, strict=True):
                    value, confidence = head.decode([level.float() for level in group])
                    values.append(value)
                    confidences.append(confidence)
                maps[name] = torch.cat(values)
                maps[f"{name}_confidence"] = torch.cat(confidences)
        return maps


class KeptLevels:
    """The levels of all frames that wait for the last one; make_rows makes rows of a shape."""

    def __init__(self, heads: DenseHeads, make_rows: Callable[[Sequence[int]], Rows]) -> None:
        self._widths = heads.widths[:-1]
        self._rows: dict[tuple[int, str], Rows] = {}
        for level, width in enumerate(self._widths):
            for name in heads.heads:
                self._rows[level, name] = make_rows((width, *heads.grid))

    def write(self, level: int, part: slice, projected: Levels) -> None:
        """Keep a level of a chunk."""
        for name, values in projected.items():
            self._rows[level, name].write(part, values)

    def passing(self, parts: Sequence[slice]) -> Iterator[list[Levels]]:
        """What is kept of one chunk after another."""
        passing = {key: rows.passing(parts) for key, rows in self._rows.items()}
        for _ in parts:
            levels: list[Levels] = [{} for _ in self._widths]
            for (level, name), chunks in passing.items():
                levels[level][name] = next(chunks)
            yield levels


class MapRows:
    """The maps of all frames, written chunk by chunk."""

    def __init__(self, make_rows: Callable[[Sequence[int]], Rows]) -> None:
        self._make_rows = make_rows
        self._rows: dict[str, Rows] = {}

    def write(self, part: slice, maps: Maps) -> None:
        """Keep those of a chunk."""
        for name, values in maps.items():
            if name not in self._rows:
                self._rows[name] = self._make_rows(values.shape[1:])
            self._rows[name].write(part, values)

    def whole(self) -> Maps:
        """Those of all frames."""
        return {name: rows.whole() for name, rows in self._rows.items()}
