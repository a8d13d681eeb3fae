"""What a frame costs in each stage of a map, on this machine: measured once, remembered in the
user's cache, and learnt on from every map that is made by a budget.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from vggt3_ros.files import atomic_path, cache_folder
from vggt3_ros.model.network import Vggt3

_MEASURED = 4  # frames
_LEARNT = 0.5  # share of the newest map in what is remembered


@dataclass(frozen=True)
class Costs:
    """Seconds a frame. fit: mapping by the network but for the TTT steps, each of which takes
    `step`; query: localizing in a map; anchor: in both, for each anchor that layers attend to; fast
    and fine: refining depth. What no short run tells begins as it was measured on one slow core.
    """

    fit: float
    step: float
    query: float
    anchor: float = 0.0
    prepare: float = 0.003
    landmarks: float = 0.6
    fast: float = 0.45
    fine: float = 0.9
    points: float = 0.02
    scene: float = 0.01

    def dense(self, name: str) -> float:
        """Of refining depth off, fast or fine."""
        return {"off": 0.0, "fast": self.fast, "fine": self.fine}[name]

    def of_size(self, share: float) -> Costs:
        """Those of images of this share of the pixels: keys of anchors, too, are as many fewer."""
        return replace(
            self,
            fit=share * self.fit,
            step=share * self.step,
            query=share * self.query,
            anchor=share**2 * self.anchor,
        )

    def learnt(
        self, expected: Mapping[str, float], taken: Mapping[str, float], dense: str
    ) -> Costs:
        """Nearer to the seconds that stages have taken of a map, where others were expected.

        dense: how depth was refined.
        """
        parts = {
            "prepare": ("prepare",),
            "network": ("fit", "step", "query", "anchor"),
            "landmarks": ("landmarks",),
            "depth": (dense,) if dense in ("fast", "fine") else (),
            "points": ("points",),
            "scene": ("scene",),
        }
        new = {}
        for stage, names in parts.items():
            if expected.get(stage) and taken.get(stage):
                factor = 1 + _LEARNT * (taken[stage] / expected[stage] - 1)
                for name in names:
                    new[name] = getattr(self, name) * factor
        return replace(self, **new)


class CostMemory:
    """What is remembered of a network, its input's size and its device. Without a cache that can be
    read and written nothing is.
    """

    def __init__(self, network: Vggt3, size_hw: tuple[int, int]) -> None:
        what = [
            network.fingerprint(),
            network.precision,
            str(network.execution),
            str(network.device),
            torch.get_num_threads(),
            size_hw,
        ]
        name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        self._entry: Path = cache_folder() / "costs" / f"{name}.json"

    def find(self) -> Costs | None:
        """What was kept last."""
        try:
            entry = json.loads(self._entry.read_text())
            costs = Costs(**{each.name: float(entry[each.name]) for each in fields(Costs)})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return costs if all(0 <= value < 1e6 for value in asdict(costs).values()) else None

    def keep(self, costs: Costs) -> None:
        """Remember; what was kept before is replaced."""
        try:
            self._entry.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._entry) as temporary:
                temporary.write_text(json.dumps(asdict(costs), indent=1))
        except OSError:
            pass  # a home that is full or read-only costs the time of measuring again


def measured_costs(network: Vggt3, size_hw: tuple[int, int]) -> Costs:
    """By mapping a few images of noise. Of networks with softmax layers, whose cost a frame grows
    with the frames, that is too little, and maps teach it.
    """
    images = torch.rand(_MEASURED, 3, *size_hw, generator=torch.Generator().manual_seed(0))
    attends = network.config.attends_to_anchors
    most = _MEASURED if attends else None

    def seconds(steps: int, anchors: int | None) -> float:
        taken = []
        for _ in range(2):  # the differences are small, and other programs run beside it
            begin = time.perf_counter()
            network.map(images, steps, _MEASURED, pointmap=False, anchors=anchors)
            _wait(network)
            taken.append(time.perf_counter() - begin)
        return min(taken) / _MEASURED

    _, memory = network.map(images, 1, _MEASURED, pointmap=False, anchors=most)  # warm
    _wait(network)
    one, two = seconds(1, most), seconds(2, most)
    begin = time.perf_counter()
    network.query_undecoded(images, memory, _MEASURED, pointmap=False).decode()
    _wait(network)
    query = (time.perf_counter() - begin) / _MEASURED
    step = max(two - one, 0.01 * one)
    keys = 0.0
    if attends:
        keys = max(one - seconds(1, 1), 0.01 * one) * _MEASURED / (_MEASURED - 1)
    return Costs(
        fit=max(one - step - keys, 0.1 * one),
        step=step,
        query=max(query - keys, 0.1 * query),
        anchor=keys / _MEASURED,
    )


def _wait(network: Vggt3) -> None:
    if network.device.type == "cuda":
        torch.cuda.synchronize(network.device)
