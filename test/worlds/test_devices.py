"""Rooms are planned, viewed, rendered and photographed on another device than the CPU, with the
same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from vggt3_ros.worlds import render as render_module
from vggt3_ros.worlds import shading, tours, viewpoints
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.jitter import lens_and_shutter, photometric_jitter
from vggt3_ros.worlds.lookalike import make_lookalike
from vggt3_ros.worlds.mapped_fraction import mapped_fractions
from vggt3_ros.worlds.motion import steady_motion
from vggt3_ros.worlds.places import place_planner
from vggt3_ros.worlds.render import render, render_depth
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.route import unseen_route
from vggt3_ros.worlds.sequence import room_sequence
from vggt3_ros.worlds.shadows import with_shadows
from vggt3_ros.worlds.trajectories import drive
from vggt3_ros.worlds.viewpoints import drawing, random_intrinsics, seeded, training_views

from ..few_textures import few_textures
from ..host_waits import places
from ..pretended_device import CPU, DEVICE, PretendedDevice, PretendedGenerator

SIZE = (32, 48)
RENDERING = {
    # which primitives a tile sees is told by nonzero, and what is done next depends on it
    "worlds/render.py:_meet",
    "worlds/shading.py:shade",  # hits on rounded primitives are gathered by nonzero
    "worlds/room.py:to",  # a plan is made by numpy, and sent once
    "worlds/textures.py:to",  # once in a process
    # A few numbers each, beside which the waits above weigh far more:
    "worlds/shadows.py:with_shadows",
    "worlds/tours.py:tours",
    "worlds/viewpoints.py:_orient",
    "worlds/viewpoints.py:_up",
    "worlds/viewpoints.py:pull_back",
}


@pytest.fixture(scope="module", autouse=True)
def quickly_painted() -> Iterator[None]:
    with few_textures():
        yield


def visit(device: torch.device, generator: torch.Generator) -> dict[str, Tensor]:
    """Two views and a tour of two stations of three places, as training renders them."""
    rooms = make_rooms(range(900_000, 900_003), device, place_planner(0.4, 0.4))
    assert rooms.device == device
    rooms = with_shadows(rooms, drawing(generator, device)(len(rooms)) < 0.7)
    world_from_cam = torch.cat(
        [training_views(rooms, 2, generator, 1.0), tours.tours(rooms, 2, generator)], dim=1
    )
    intrinsics = random_intrinsics(len(rooms), *SIZE, generator)
    views = render(rooms, world_from_cam, intrinsics, *SIZE, supersample=2)
    depth = render_depth(rooms, world_from_cam, intrinsics, *SIZE)
    made = {
        "shadows": rooms.shadow_depth,
        "poses": world_from_cam,
        "images": views.images,
        "depth": depth,
    }
    assert all(tensor.device == device for tensor in made.values())
    return {**made, "own depth": views.depth, "intrinsics": intrinsics}


def photograph(images: Tensor, generator: torch.Generator) -> Tensor:
    return photometric_jitter(lens_and_shutter(images, generator), generator)


@pytest.fixture(scope="module")
def truth(quickly_painted) -> dict[str, Tensor]:
    return visit(CPU, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "kind", [PretendedGenerator, torch.Generator], ids=["drawn there", "drawn on the CPU"]
)
def test_rooms_look_on_a_device_as_they_do_on_the_cpu(truth, kind) -> None:
    with PretendedDevice() as device:
        made = visit(DEVICE, kind().manual_seed(1))
        for name, expected in truth.items():
            assert torch.equal(made[name].cpu(), expected), name
        waits = list(device.waits)
        photo = photograph(made["images"], kind().manual_seed(2))
        assert torch.equal(
            photo.cpu(), photograph(truth["images"], torch.Generator().manual_seed(2))
        )
        if kind is PretendedGenerator:  # as on a GPU
            assert places(wait for wait in waits if wait.file != "outside the package") == RENDERING
            assert {wait.kind for wait in waits if wait.file.startswith("worlds/viewpoints")} == {
                "to device"
            }


@pytest.mark.parametrize("seeds", [range(3), range(900_000, 900_001)], ids=["training", "held out"])
def test_views_of_rooms_without_shadows_wait_for_what_is_seen_alone(seeds) -> None:
    with PretendedDevice() as device:
        rooms = make_rooms(seeds, DEVICE)
        generator = PretendedGenerator().manual_seed(1)
        world_from_cam = training_views(rooms, 2, generator, 0.0)
        render(rooms, world_from_cam, random_intrinsics(len(rooms), *SIZE, generator), *SIZE)
        with device.noting() as waits:  # textures are there now
            images = render(
                rooms, world_from_cam, random_intrinsics(len(rooms), *SIZE, generator), *SIZE
            ).images
        assert places(waits) == {"worlds/render.py:_meet", "worlds/shading.py:shade"}
        # Boxes, then rounded primitives: how many are seen, and how many by rank; then how many
        # pixels show the latter.
        assert [wait.kind for wait in waits] == ["size", "to host", "size", "to host", "size"]
        with device.noting() as waits:
            photograph(images, generator)
        assert waits == []


def test_a_sequence_rendered_on_a_device_is_the_one_of_the_cpu() -> None:
    expected = room_sequence(2, 3, 2, *SIZE, length=1.0)
    with PretendedDevice():
        found = room_sequence(2, 3, 2, *SIZE, length=1.0, device=DEVICE)
    assert torch.equal(found.world_from_cam, expected.world_from_cam)
    assert (found.images == expected.images).all() and (found.depth == expected.depth).all()


def test_a_second_drive_is_planned_and_judged_on_a_device_as_on_the_cpu() -> None:
    lens = Lens.of(48, 32, 1.2)

    def journey(device: torch.device) -> tuple[Tensor, list[float]]:
        room, generator = make_lookalike(900_002, 900_003, device), torch.Generator().manual_seed(0)
        mapped = drive(room, 4, generator, 2.0)
        route = steady_motion(unseen_route(room, mapped, 3, generator), 2.0, 1.0, 1.0)
        return route, mapped_fractions(room, mapped, route, lens)

    expected, seen = journey(CPU)
    with PretendedDevice():
        route, seen_there = journey(DEVICE)
        assert route.device == DEVICE and torch.equal(route.cpu(), expected) and seen_there == seen


def test_a_source_of_random_numbers_is_made_for_every_device() -> None:
    with PretendedDevice():
        here, there = (drawing(seeded(device, 5), device)(3) for device in (CPU, DEVICE))
        assert there.device == DEVICE and torch.equal(there.cpu(), here)


def _on_cpu(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args: function(*args).cpu()


MISPLACED = {
    "draws": (viewpoints, "drawing", lambda made: lambda generator, device: made(generator, CPU)),
    "upward direction": (viewpoints, "_up", _on_cpu),
    "way of a tour": (tours, "pull_back", _on_cpu),
    "pixels of a tile": (render_module, "_tile_offsets", lambda made: lambda device: made(CPU)),
    "shell": (render_module, "_shell_keys", _on_cpu),
    "textures": (shading, "texture_bank", lambda made: lambda name, device: made(name, "cpu")),
    "light": (shading, "_light", _on_cpu),
}


@pytest.mark.parametrize(("module", "name", "misplace"), MISPLACED.values(), ids=MISPLACED)
def test_a_misplaced_tensor_is_found(monkeypatch, module, name, misplace) -> None:
    monkeypatch.setattr(module, name, misplace(getattr(module, name)))
    with (
        PretendedDevice(),
        pytest.raises(RuntimeError, match=r"same device.*(worlds|geometry)/\w+\.py"),
    ):
        visit(DEVICE, PretendedGenerator().manual_seed(1))
