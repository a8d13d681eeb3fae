from __future__ import annotations

import torch

from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.mapped_fraction import mapped_fractions
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import make_room
from vggt3_ros.worlds.sequence import seen_fraction
from vggt3_ros.worlds.trajectories import drive

ROOM = make_room(900_002)
PATH = drive(ROOM, 8, torch.Generator().manual_seed(0), 2.5)
LENS = Lens.of(320, 240, 1.2)
# half a turn about the vertical
ABOUT = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))


def test_a_mapped_view_was_seen_and_its_back_was_not() -> None:
    ahead, behind = mapped_fractions(ROOM, PATH[:1], torch.stack([PATH[0], PATH[0] @ ABOUT]), LENS)
    assert ahead > 0.95
    assert behind == 0.0


def test_shares_are_those_of_rendered_depth() -> None:
    queries = torch.cat([PATH[1::2], PATH[::3] @ ABOUT])
    small = Lens.of(64, 48, 1.2)
    depth = render(ROOM, PATH[None, ::2], small.intrinsics, *small.size_hw).depth[0]
    expected = seen_fraction(ROOM, queries, PATH[::2], depth, small.intrinsics)
    shares = torch.tensor(mapped_fractions(ROOM, PATH[::2], queries, LENS), dtype=torch.float64)
    assert (shares - expected).abs().max() <= 0.04 + 1e-9  # one ray of 25
