"""Procedural rooms, corridors and yards as sequences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import vggt3_ros.worlds.sequence
from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Split
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.challenges import challenges


def test_a_room_is_a_sequence_with_queries_off_its_mapped_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = partial(
        vggt3_ros.worlds.sequence.room_sequence, map_frames=3, query_frames=2, height=24, width=32
    )
    monkeypatch.setattr(vggt3_ros.worlds.sequence, "room_sequence", small)
    sequence = load_sequence("room:7")
    assert (sequence.name, len(sequence)) == ("room:7", 5)
    assert sequence.split() == sequence.split("standard") == Split((0, 1, 2), (3, 4))
    assert sequence.split("interleaved") == Split((0, 2, 4), (1, 3))
    assert sequence.up is not None and torch.equal(
        sequence.up, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    )
    frame = sequence.frame(4, with_prior=True, with_depth=True)
    assert (
        frame.image.shape == (24, 32, 3)
        and frame.depth is not None
        and bool(np.all(frame.depth > 0))
    )


@pytest.mark.parametrize("kind", ["corridor", "yard"])
def test_corridors_and_yards_are_sequences_challenged_with_their_like(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    small = partial(vggt3_ros.worlds.sequence.room_sequence, query_frames=2, height=24, width=32)
    monkeypatch.setattr(vggt3_ros.worlds.sequence, "room_sequence", small)
    sequence, room = load_sequence(f"{kind}:7:3"), load_sequence("room:7:3")
    assert len(sequence) == 5 and not torch.equal(sequence.world_from_cam, room.world_from_cam)
    assert not np.array_equal(sequence.read_image(0), room.read_image(0))
    posed = list(challenges(sequence, sequence.split(), (), 0))
    assert {"other place", "look-alike place"} <= {each.kind for each in posed}
    assert posed[0].frame.name == f"{kind} 8, 0"


@pytest.mark.parametrize(
    "spec", ["room:", "room:seven", "room:-1", "room:1.5", "corridor:one", "yard:"]
)
def test_a_procedural_place_needs_a_seed(spec: str) -> None:
    with pytest.raises(InputError, match=f"after {spec.split(':')[0]}: comes the seed"):
        load_sequence(spec)


def test_more_frames_of_the_same_drive_can_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(vggt3_ros.worlds.sequence.room_sequence, query_frames=1, height=24, width=32)
    monkeypatch.setattr(vggt3_ros.worlds.sequence, "room_sequence", small)
    few, many = load_sequence("room:7:3"), load_sequence("room:7:5")
    assert (len(few), len(many)) == (4, 6)
    torch.testing.assert_close(
        few.world_from_cam[:3, :3, 3], many.world_from_cam[[0, 2, 4], :3, 3], atol=0.1, rtol=0
    )


@pytest.mark.parametrize(
    "spec",
    [
        "room:7:",
        "room:7:1",
        "room:7:1025",
        "room:7:2:3",
        "room:7:many",
        "room:7:0000000100",
        f"room:7:{10**12}",
    ],
)
def test_an_impossible_number_of_frames_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="comes the number of map frames, 2 to 1024"):
        load_sequence(spec)


@pytest.mark.parametrize("seed", ["18446744073709551616", "9" * 5000])
def test_an_absurd_seed_is_refused(seed: str) -> None:
    with pytest.raises(InputError, match="room:SEED takes a seed from 0 to"):
        load_sequence(f"room:{seed}")
