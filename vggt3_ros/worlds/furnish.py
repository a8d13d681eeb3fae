"""Plans of rooms: where inner walls, furniture, clutter, pictures and lights stand (numpy,
seeded).
"""

from __future__ import annotations

import numpy as np

from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.worlds.plan import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    LIGHTS,
    OBJECT,
    PICTURE,
    WALL,
    Builder,
    RoomPlan,
    yaw_matrix,
)


def _any_rotation(rng: np.random.Generator) -> Floats:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    out: Floats = rotation * np.sign(np.linalg.det(rotation))
    return out


def plan_room(seed: int) -> RoomPlan:
    """The plan of room `seed`: every draw comes from that seed alone."""
    rng = np.random.default_rng([seed, 0])
    half = np.array([rng.uniform(1.8, 4.2), rng.uniform(1.8, 4.2), rng.uniform(1.15, 1.8)])
    build = Builder(rng, half)
    _walls(build)
    for _ in range(rng.integers(0, 3)):
        build.piece(_table)
    for _ in range(rng.integers(0, 3)):
        build.piece(_shelf)
    for _ in range(rng.integers(2, 6)):
        build.piece(add_stack)
    for _ in range(rng.integers(1, 4)):
        build.piece(add_loose)
    for _ in range(rng.integers(1, 5)):
        build.piece(add_rounded)
    for _ in range(rng.integers(4, 10)):
        add_picture(build)
    if rng.random() < 0.6:
        build.next_material()
        size = build.half[:2] * rng.uniform(0.25, 0.6, 2)
        spot = rng.uniform(-0.3, 0.3, 2) * build.half[:2]
        build.add(BOX, PICTURE, np.array([*spot, 0.006]), np.array([*size, 0.006]))
    position = rng.uniform(-0.7, 0.7, (LIGHTS, 3)) * build.half + [0, 0, build.half[2]]
    position[:, 2] = build.half[2] * rng.uniform(1.2, 1.9, LIGHTS)
    warmth = rng.uniform(-0.12, 0.12, (LIGHTS, 1)) * [1.0, 0.1, -1.0]
    colour = (1 + warmth) * rng.uniform(0.35, 1.0, (LIGHTS, 1)) * np.linalg.norm(build.half[:2]) / 3
    ambient = rng.uniform(0.35, 0.6) * (1 + rng.uniform(-0.06, 0.06, 3))
    return build.plan(np.concatenate([position, colour], axis=1), ambient)


def _walls(build: Builder) -> None:
    """A filled corner (L-shaped room), a partition wall, pillars."""
    rng = build.rng
    half = build.half
    corner = np.sign(rng.uniform(-1, 1, 2))
    if rng.random() < 0.4:
        build.next_material()
        size = half[:2] * rng.uniform(0.25, 0.45, 2)
        build.add(
            BOX,
            WALL,
            np.array([*(corner * (half[:2] - size)), half[2]]),
            np.array([*size, half[2]]),
        )
    if rng.random() < 0.4:
        build.next_material()
        axis = int(rng.integers(2))
        long = half[axis] * rng.uniform(0.25, 0.5)
        height = half[2] * rng.choice([1.0, rng.uniform(0.35, 0.7)])
        centre = np.zeros(3)
        size = np.array([0.0, 0.0, height])
        centre[axis] = -corner[axis] * (half[axis] - long)
        size[axis] = long
        centre[1 - axis] = rng.uniform(-0.4, 0.4) * half[1 - axis]
        size[1 - axis] = rng.uniform(0.04, 0.1)
        centre[2] = height
        build.add(BOX, WALL, centre, size)
    for _ in range(rng.integers(0, 3)):
        build.next_material()
        radius = rng.uniform(0.1, 0.25)
        spot = build.floor_spot(0.8) + [0, 0, half[2]]
        build.add(
            int(rng.integers(2)),
            WALL,
            spot,
            np.array([radius, radius, half[2]]),
            yaw_matrix(rng.uniform(0, 3)),
        )


def _table(build: Builder) -> None:
    rng = build.rng
    a = rng.uniform(0.4, 0.9)
    b = rng.uniform(0.3, 0.5)
    height = rng.uniform(0.4, 0.9)
    base = build.floor_spot(0.9)
    yaw = rng.uniform(0, np.pi)
    leg = rng.uniform(0.02, 0.05)
    legs = [
        (np.array([x * (a - leg), y * (b - leg), height / 2]), np.array([leg, leg, height / 2]))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    build.group(OBJECT, base, yaw, [(np.array([0, 0, height]), np.array([a, b, 0.025])), *legs])
    for _ in range(rng.integers(1, 4)):
        build.next_material()
        size = rng.uniform(0.06, 0.22, 3)
        at = base + yaw_matrix(yaw) @ [
            rng.uniform(-0.7, 0.7) * a,
            rng.uniform(-0.7, 0.7) * b,
            height + 0.025 + size[2],
        ]
        build.add(
            int(rng.choice([BOX, BOX, CYLINDER, ELLIPSOID])),
            OBJECT,
            at,
            size,
            yaw_matrix(rng.uniform(0, np.pi)),
        )


def _shelf(build: Builder) -> None:
    """Two sides, boards, things on the boards; stands at a wall."""
    rng = build.rng
    half = build.half
    axis = int(rng.integers(2))
    side = rng.choice([-1.0, 1.0])
    width = rng.uniform(0.4, 0.8)
    depth = rng.uniform(0.14, 0.22)
    height = rng.uniform(0.5, 0.9) * half[2]
    base = np.zeros(3)
    base[axis] = side * (half[axis] - depth)
    base[1 - axis] = rng.uniform(-0.6, 0.6) * half[1 - axis]
    yaw = np.pi / 2 if axis == 0 else 0.0
    boards = int(rng.integers(3, 5))
    parts = [(np.array([x * width, 0, height]), np.array([0.02, depth, height])) for x in (-1, 1)]
    levels = np.linspace(0.1, 2 * height - 0.02, boards)
    parts += [(np.array([0, 0, z]), np.array([width, depth, 0.015])) for z in levels]
    build.group(OBJECT, base, yaw, parts)
    for z in levels[:-1]:
        build.next_material()
        size = np.array([rng.uniform(0.08, 0.3), rng.uniform(0.06, 0.12), rng.uniform(0.06, 0.15)])
        at = base + yaw_matrix(yaw) @ [rng.uniform(-0.5, 0.5) * width, 0, z + 0.015 + size[2]]
        kind = int(rng.choice([BOX, BOX, BOX, CYLINDER]))
        build.add(kind, OBJECT, at, size, yaw_matrix(yaw + rng.uniform(-0.3, 0.3)))


def add_stack(build: Builder, largest: float = 0.5) -> None:
    """One to three boxes on top of each other, each turned a little, of half sizes up to `largest`
    metres.
    """
    rng = build.rng
    size = rng.uniform(0.15, largest, 3)
    base = build.floor_spot(float(size[:2].max()))
    yaw = rng.uniform(0, np.pi)
    z = 0.0
    for _ in range(rng.integers(1, 4)):
        build.next_material()
        if z + 2 * size[2] > 2 * build.half[2] - 0.3:
            break
        build.add(BOX, OBJECT, base + [0, 0, z + size[2]], size, yaw_matrix(yaw))
        z += 2 * size[2]
        size = size * rng.uniform(0.5, 0.95, 3)
        yaw += rng.uniform(-0.7, 0.7)


def add_loose(build: Builder) -> None:
    """A box in any attitude, leaning on the floor or hanging in the air."""
    rng = build.rng
    build.next_material()
    size = rng.uniform(0.1, 0.4, 3)
    z = rng.choice([0.6 * float(size.max()), rng.uniform(0.3, 1.9) * build.half[2]])
    build.add(BOX, OBJECT, build.floor_spot(0.5) + [0, 0, z], size, _any_rotation(rng))


def add_rounded(build: Builder) -> None:
    """A drum, a ball, a hanging lamp or a lying cylinder."""
    rng = build.rng
    build.next_material()
    radius = rng.uniform(0.12, 0.4)
    what = int(rng.integers(4))
    spot = build.floor_spot(0.45)
    if what == 0:
        height = rng.uniform(0.2, 0.6)
        build.add(CYLINDER, OBJECT, spot + [0, 0, height], np.array([radius, radius, height]))
    elif what == 1:
        build.add(ELLIPSOID, OBJECT, spot + [0, 0, radius], np.full(3, radius), _any_rotation(rng))
    elif what == 2:
        size = np.array([radius, radius, radius * rng.uniform(0.5, 1.5)])
        build.add(
            ELLIPSOID,
            OBJECT,
            spot + [0, 0, 2 * build.half[2] - size[2] - rng.uniform(0, 0.5)],
            size,
        )
    else:
        rotation = yaw_matrix(rng.uniform(0, np.pi)) @ np.array(
            [[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]
        )
        build.add(
            CYLINDER,
            OBJECT,
            spot + [0, 0, radius],
            np.array([radius, radius, rng.uniform(0.2, 0.6)]),
            rotation,
        )


def add_picture(build: Builder, largest: float = 0.8) -> None:
    """A thin box on a wall or the ceiling: poster, board, window, door; of half sizes up to
    `largest` metres.
    """
    rng = build.rng
    half = build.half
    build.next_material()
    axis = int(rng.choice([0, 1], p=half[1::-1] / half[:2].sum()))
    side = rng.choice([-1.0, 1.0])
    size = rng.uniform(0.2, largest, 3)
    centre = rng.uniform(-0.8, 0.8, 3) * half
    size[2] = min(size[2], half[2] * 0.6)
    centre[2] = rng.uniform(size[2] + 0.1, 2 * half[2] - size[2] - 0.1)
    if rng.random() < 0.12:  # on the ceiling
        axis = 2
        side = 1.0
        centre[2] = 2 * half[2]
        size[2] = 0.3
    size[axis] = rng.uniform(0.006, 0.03)
    centre[axis] = side * half[axis] if axis < 2 else centre[2]
    centre[axis] -= side * size[axis]
    build.add(BOX, PICTURE, centre, size)
