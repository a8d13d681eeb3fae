"""Rooms follow from their seeds, differ from each other, and are known inside and out."""

from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.worlds import textures
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.plan import CYLINDER, ELLIPSOID
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.room import MAX_PRIMITIVES, make_room, make_rooms
from vggt3_ros.worlds.textures import LANE_MAX, TEXELS, lane, sample, texture_bank
from vggt3_ros.worlds.viewpoints import training_views


def test_a_seed_gives_the_same_room_alone_and_in_a_batch() -> None:
    batch, alone = make_rooms([5, 6, 7]), make_room(6)
    count = alone.half_sizes.shape[1]
    assert torch.equal(batch.half_sizes[1, :count], alone.half_sizes[0])
    assert torch.equal(batch.faces[1, : count * 6], alone.faces[0])
    assert torch.equal(batch.lights[1], alone.lights[0])
    assert not torch.equal(batch.lights[0], batch.lights[1])


def test_rooms_are_of_many_sizes_and_furnished_with_all_kinds_of_things() -> None:
    rooms = make_rooms(range(60))
    size = rooms.bounds[:, 1] - rooms.bounds[:, 0]
    assert size[:, :2].min() > 3.5 and size[:, :2].max() < 8.5 and size[:, :2].std() > 0.8
    assert size[:, 2].min() > 2.2 and size[:, 2].max() < 3.7
    kinds = [plan_room(seed).kinds for seed in range(60)]
    assert all(8 <= len(k) <= MAX_PRIMITIVES for k in kinds)
    assert (
        sum((k == CYLINDER).any() for k in kinds) > 30
        and sum((k == ELLIPSOID).any() for k in kinds) > 30
    )
    tilted = (rooms.rotations[..., 2, 2].abs() < 0.98) & (rooms.rotations[..., 2, 2].abs() > 0.02)
    assert tilted.any(1).float().mean() > 0.8


def test_training_and_held_out_rooms_have_different_textures_and_are_not_mixed() -> None:
    assert make_room(899_999).bank == "training" and make_room(900_000).bank == "held_out"
    with pytest.raises(InputError, match="two batches"):
        make_rooms([1, 900_001])
    for seeds in ([], [-1], [2**63]):
        with pytest.raises(InputError, match="one or more seeds from 0 to"):
            make_rooms(seeds)


def test_clearance_is_never_more_than_a_ray_travels() -> None:
    rooms = make_rooms([900_003, 900_004])
    generator = torch.Generator().manual_seed(0)
    low, high = rooms.bounds[:, :1], rooms.bounds[:, 1:]
    points = low + torch.rand(2, 200, 3, generator=generator) * (high - low)
    gap = clearance(rooms, points)
    rays = torch.nn.functional.normalize(torch.randn(2, 200, 3, generator=generator), dim=-1)
    reach = cast(rooms, points, rays)
    free = gap > 0
    assert free.float().mean() > 0.5 and (~free).any()
    assert (reach >= gap - 1e-4)[free].all()
    assert (clearance(rooms, high + 0.1) < 0).all()  # outside the shell
    # in obstacles
    assert (clearance(rooms, rooms.centres[:, 1:9]) < 0)[rooms.half_sizes[:, 1:9, 0] > 0].all()


def test_filtered_colours_equal_plain_bilinear_interpolation() -> None:
    bank = texture_bank("held_out")
    u, v = torch.tensor([3.25, 255.9, 128.0]), torch.tensor([7.75, 0.2, 64.5])
    texture = torch.tensor([0, 17, 79], dtype=torch.int32)
    found = (
        torch.stack([lane(sample(bank, texture, u, v, torch.zeros(3)), c) for c in range(3)], -1)
        / LANE_MAX
    )
    for index in range(3):
        start = int(texture[index]) * TEXELS
        image = (
            bank.texels[start : start + 256 * 256]
            .view(torch.int16)
            .view(256, 256, 4)[..., :3]
            .float()
            / 255
        )
        around = torch.nn.functional.pad(
            image.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="circular"
        )
        place = torch.stack([u[index] + 1, v[index] + 1])[None, None, None] / 258 * 2 - 1
        expected = torch.nn.functional.grid_sample(around, place, align_corners=False).flatten()
        torch.testing.assert_close(found[index], expected, atol=0.02, rtol=0)


def test_textures_are_rich_at_every_level() -> None:
    bank = texture_bank("held_out")
    images = bank.texels.view(-1, TEXELS)
    for first, size in ((0, 256), (256 * 256, 128), (256 * 256 + 128 * 128, 64)):
        level = images[:, first : first + size * size].contiguous().view(torch.int16)
        level = level.view(-1, size, size, 4)[..., :3].float().mean(-1) / 255
        assert (level.flatten(1).std(1) > 0.03).float().mean() > 0.95
        assert (level.diff(dim=2).abs().mean((1, 2)) > 0.01).float().mean() > 0.9


def test_what_a_room_shows_is_painted_and_nothing_else(monkeypatch) -> None:
    room = make_rooms([900_003])
    poses = training_views(room, 2, torch.Generator().manual_seed(0), 1.0)
    camera = intrinsics_matrix(50.0, 50.0, 40.0, 30.0)
    texture_bank("held_out")  # all of it
    expected = render(room, poses, camera, 60, 80).images
    canvas = textures._Canvas(*textures._BANKS["held_out"])
    monkeypatch.setattr(textures, "_canvas", lambda name: canvas)
    assert torch.equal(render(room, poses, camera, 60, 80).images, expected)
    assert 0 < len(canvas._missing) < canvas.count
