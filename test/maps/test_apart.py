"""A map that is refused because it falls into parts, and what becomes of these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.maps import apart
from vggt3_ros.maps.apart import parts_of_drive
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct

from ..two_rooms import FIRST, HERE, two_rooms

HOW = ReconstructionSettings(dense=None, steps=1)
NAMES = tuple(f"{place:06d}.png" for place in FIRST)


def blank(count: int) -> list[Frame]:
    """Images that show nothing, each another one."""
    size = two_rooms().images[FIRST[0]].shape
    return [
        Frame(np.full(size, 60 + 20 * i, np.uint8), i, two_rooms().intrinsics, name=f"blank {i}")
        for i in range(count)
    ]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six frames are enough, to be quick."""
    monkeypatch.setattr(apart, "_MIN_FRAMES", HERE)


@pytest.fixture(scope="module")
def network() -> Vggt3:
    return load_network("tiny")


@pytest.fixture(scope="module")
def refused(network: Vggt3) -> Reconstruction:
    """Of fewer than half of whose frames landmarks tie together."""
    return reconstruct([*two_rooms().frames(FIRST[:HERE]), *blank(HERE + 1)], network, HOW)


def test_the_largest_part_of_a_map_that_is_refused_for_its_parts_is_verified(
    refused: Reconstruction, network: Vggt3, small_parts: None
) -> None:
    assert not refused.scene.is_verified and "falls into parts" in refused.scene.verdict.reason
    stages = []
    drive = parts_of_drive(refused, network, HOW, lambda stage, _: stages.append(stage))
    scene = drive.largest.scene
    assert scene.is_verified and scene.own_frames == NAMES[:HERE] == scene.keyframes.names
    assert drive.others == () and drive.in_none == tuple(f"blank {i}" for i in range(HERE + 1))
    assert [name for name, _ in drive.largest.skipped] == list(drive.in_none)
    assert drive.largest.seconds["parts"] > 0 and "a part: prepare" in stages


def test_a_few_frames_are_no_part(refused: Reconstruction, network: Vggt3) -> None:
    drive = parts_of_drive(refused, network, HOW)
    assert not drive.largest.scene.is_verified and drive.others == () and drive.in_none == ()


def test_who_gave_a_time_gets_no_parts(
    refused: Reconstruction, network: Vggt3, small_parts: None
) -> None:
    drive = parts_of_drive(refused, network, replace(HOW, budget=Budget(seconds=60.0)))
    assert drive.largest is refused and drive.in_none == ()


def test_making_parts_can_be_cancelled(
    refused: Reconstruction, network: Vggt3, small_parts: None
) -> None:
    def cancel(stage: str, fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts_of_drive(refused, network, HOW, cancel)
