"""Places beside rooms: corridors and open yards (numpy, seeded); `place_planner` mixes them for
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.worlds.furnish import add_loose, add_picture, add_rounded, add_stack, plan_room
from vggt3_ros.worlds.light import draw_light
from vggt3_ros.worlds.moved import plan_moved_room
from vggt3_ros.worlds.plan import (
    BARE,
    BOX,
    CYLINDER,
    ELLIPSOID,
    GLOWING,
    OBJECT,
    OPEN,
    PICTURE,
    WALL,
    Builder,
    RoomPlan,
    yaw_matrix,
)

Planner = Callable[[int], RoomPlan]
# streams of random numbers of a seed, beside those of plan_room and paint
_PLAN = 3
_KIND = 4


def place_planner(corridors: float, yards: float) -> Planner:
    """A planner that makes these fractions of all seeds corridors and yards, and rooms of the rest.

    The light is drawn anew in all of them, and a fifth of the rooms have bare walls. Raises
    InputError for fractions that are negative or more than 1 together.
    """
    if not (corridors >= 0 and yards >= 0 and corridors + yards <= 1):
        raise InputError(
            f"corridors {corridors} and yards {yards} must be shares of 0 or more, at most 1"
            " together"
        )

    def plan(seed: int) -> RoomPlan:
        rng = np.random.default_rng([seed, _KIND])
        draw = rng.random()
        if draw < corridors:
            return plan_corridor(seed)
        if draw < corridors + yards:
            return plan_yard(seed)
        room = plan_room(seed)
        styles = np.where((room.materials == 0) & (rng.random() < 0.2), BARE, room.styles)
        lights, ambient = draw_light(rng, room.halves[0])
        return replace(room, styles=styles, lights=lights, ambient=ambient)

    return plan


def plan_corridor(seed: int) -> RoomPlan:
    """A passage of 8 to 20 m: doors all alike, lamps and pillars at even distances, few things,
    often bare walls.
    """
    rng = np.random.default_rng([seed, _PLAN])
    half = np.array([rng.uniform(4.0, 10.0), rng.uniform(0.8, 1.5), rng.uniform(1.15, 1.6)])
    if rng.random() < 0.5:
        half[[0, 1]] = half[[1, 0]]
    build = Builder(rng, half, BARE if rng.random() < 0.5 else WALL)
    _lamps(build)
    _doors(build)
    if rng.random() < 0.5:
        _pillars(build)
    if rng.random() < 0.5:
        _bend(build)
    for _ in range(rng.integers(1, 4)):
        add_stack(build, largest=0.3)
    for _ in range(rng.integers(0, 3)):
        add_rounded(build)
    for _ in range(rng.integers(2, 8)):
        add_picture(build)
    return build.plan(*draw_light(rng, half))


def plan_yard(seed: int) -> RoomPlan:
    """An open square of 10 to 26 m between facades under a bright sky: huts, trees, cars, fences,
    poles, rocks.
    """
    rng = np.random.default_rng([seed, _PLAN])
    half = np.array([rng.uniform(5.0, 13.0), rng.uniform(5.0, 13.0), rng.uniform(2.5, 5.0)])
    build = Builder(rng, half, OPEN)
    for side in range(4):
        if rng.random() < 0.5:
            _windows(build, side)
    for _ in range(rng.integers(0, 3)):
        _hut(build)
    _trees(build)
    for _ in range(rng.integers(0, 3)):
        _car(build)
    if rng.random() < 0.6:
        _fence(build)
    for _ in range(rng.integers(1, 4)):
        add_stack(build, largest=0.8)
    for _ in range(rng.integers(0, 5)):
        _pole_or_rock(build)
    for _ in range(rng.integers(0, 3)):
        add_loose(build)
    for _ in range(rng.integers(2, 7)):
        add_picture(build, largest=2.0)
    return build.plan(*draw_light(rng, half, outside=True))


PLANNERS: dict[str, Planner] = {
    "room": plan_room,
    "corridor": plan_corridor,
    "yard": plan_yard,
    "moved": plan_moved_room,
}


@dataclass(frozen=True)
class Place:
    """A place that its kind, of PLANNERS, and its seed make."""

    kind: str
    seed: int

    @property
    def plan(self) -> Planner:
        """The planner of its kind."""
        return PLANNERS[self.kind]


def _along(build: Builder) -> tuple[int, Floats]:
    """The long axis of a corridor, and places at even distances along it."""
    axis = int(build.half[1] > build.half[0])
    every = build.rng.uniform(1.6, 3.5)
    count = max(2, int(2 * build.half[axis] / every))
    return axis, np.asarray((np.arange(count) - (count - 1) / 2) * every)


def _lamps(build: Builder) -> None:
    """Glowing panels on the ceiling."""
    axis, places = _along(build)
    build.next_material()
    size = np.array([0.0, 0.0, 0.015])
    size[axis] = build.rng.uniform(0.15, 0.6)
    size[1 - axis] = build.rng.uniform(0.06, 0.3)
    for place in places[:10]:
        centre = np.array([0.0, 0.0, 2 * build.half[2] - size[2]])
        centre[axis] = place
        build.add(BOX, GLOWING, centre, size)


def _doors(build: Builder) -> None:
    """Doors of one kind in both walls, some left out."""
    rng = build.rng
    half = build.half
    axis, places = _along(build)
    build.next_material()
    size = np.array([0.0, 0.0, min(1.02, half[2] - 0.1)])
    size[axis] = rng.uniform(0.38, 0.5)
    size[1 - axis] = rng.uniform(0.01, 0.04)
    for side in (-1.0, 1.0):
        for place in places[:7]:
            if rng.random() < 0.75:
                centre = np.array([0.0, 0.0, size[2]])
                centre[axis] = place
                centre[1 - axis] = side * (half[1 - axis] - size[1 - axis])
                build.add(BOX, PICTURE, centre, size)


def _pillars(build: Builder) -> None:
    """Pilasters on one wall or on both."""
    rng = build.rng
    half = build.half
    axis, places = _along(build)
    build.next_material()
    size = np.array([0.0, 0.0, half[2]])
    size[:2] = rng.uniform(0.08, 0.2, 2)
    for side in (-1.0, 1.0)[: int(rng.integers(1, 3))]:
        for place in places[:6] + 0.8:
            centre = np.array([0.0, 0.0, half[2]])
            centre[axis] = place
            centre[1 - axis] = side * (half[1 - axis] - size[1 - axis])
            build.add(BOX, WALL, centre, size)


def _bend(build: Builder) -> None:
    """Two blocks that leave a way through, first on one side, then on the other."""
    rng = build.rng
    half = build.half
    axis, _ = _along(build)
    gap = max(0.75, rng.uniform(0.9, 1.3) * half[1 - axis])  # metres left free
    build.next_material()
    for side, place in ((1.0, rng.uniform(0.2, 0.7)), (-1.0, rng.uniform(-0.7, -0.2))):
        size = np.array([0.0, 0.0, half[2]])
        size[axis] = rng.uniform(0.2, 0.8)
        size[1 - axis] = max(0.05, half[1 - axis] - gap / 2)
        centre = np.array([0.0, 0.0, half[2]])
        centre[axis] = place * half[axis]
        centre[1 - axis] = side * (half[1 - axis] - size[1 - axis])
        build.add(BOX, WALL, centre, size)


def _windows(build: Builder, side: int) -> None:
    """A facade's rows of windows, all alike."""
    rng = build.rng
    half = build.half
    axis = side // 2
    sign = 2.0 * (side % 2) - 1
    build.next_material()
    rows = int(rng.integers(1, 3))
    columns = int(rng.integers(2, 5))
    size = np.array([0.0, 0.0, rng.uniform(0.4, 0.8)])
    size[axis] = rng.uniform(0.02, 0.1)
    size[1 - axis] = rng.uniform(0.3, 0.9)
    for row in range(rows):
        for column in range(columns):
            centre = np.array([0.0, 0.0, 1.5 + 2.2 * row])
            centre[axis] = sign * (half[axis] - size[axis])
            centre[1 - axis] = (column - (columns - 1) / 2) * 2 * half[1 - axis] / columns
            build.add(BOX, PICTURE, centre, size)


def _hut(build: Builder) -> None:
    """A block with a roof that juts out, and a door."""
    rng = build.rng
    size = np.array([*rng.uniform(0.8, 2.5, 2), rng.uniform(0.9, 0.45 * build.half[2] + 0.9)])
    base = build.floor_spot(2.0)
    yaw = rng.uniform(0, np.pi)
    build.group(WALL, base, yaw, [(np.array([0, 0, size[2]]), size)])
    roof = np.array([size[0] + 0.2, size[1] + 0.2, 0.08])
    build.group(OBJECT, base, yaw, [(np.array([0, 0, 2 * size[2] + 0.08]), roof)])
    build.group(PICTURE, base, yaw, [(np.array([size[0], 0, 0.95]), np.array([0.03, 0.42, 0.95]))])


def _trees(build: Builder) -> None:
    """Trees of one kind: a trunk and one or two crowns."""
    rng = build.rng
    spots = [build.floor_spot(1.0) for _ in range(rng.integers(1, 6))]
    heights = rng.uniform(0.6, 0.3 * build.half[2] + 0.6, len(spots))
    build.next_material()
    for spot, height in zip(spots, heights, strict=True):
        radius = rng.uniform(0.06, 0.2)
        build.add(CYLINDER, OBJECT, spot + [0, 0, height], np.array([radius, radius, height]))
    build.next_material()
    for spot, height in zip(spots, heights, strict=True):
        size = rng.uniform(0.5, 1.1, 3)
        build.add(ELLIPSOID, OBJECT, spot + [0, 0, 2 * height + 0.6 * size[2]], size)
        if rng.random() < 0.4:
            aside = np.array([*rng.uniform(-0.6, 0.6, 2), 2 * height + 1.5 * size[2]])
            build.add(ELLIPSOID, OBJECT, spot + aside, 0.7 * size)


def _car(build: Builder) -> None:
    """Body, cabin and two axles."""
    rng = build.rng
    base = build.floor_spot(1.5)
    yaw = rng.uniform(0, np.pi)
    long = rng.uniform(1.6, 2.3)
    wide = rng.uniform(0.75, 0.95)
    low = rng.uniform(0.3, 0.4)
    cabin = rng.uniform(0.2, 0.3)
    body = (np.array([0, 0, 0.25 + low]), np.array([long, wide, low]))
    build.group(OBJECT, base, yaw, [body])
    build.group(
        OBJECT,
        base,
        yaw,
        [(np.array([-0.2, 0, 0.25 + 2 * low + cabin]), np.array([0.55 * long, 0.9 * wide, cabin]))],
    )
    build.next_material()
    rotation = yaw_matrix(yaw) @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # axles lie across
    for at in (-0.6, 0.6):
        centre = base + yaw_matrix(yaw) @ np.array([at * long, 0, 0.3])
        build.add(CYLINDER, OBJECT, centre, np.array([0.3, 0.3, wide + 0.02]), rotation)


def _fence(build: Builder) -> None:
    """Posts at even distances and two rails."""
    rng = build.rng
    posts = int(rng.integers(4, 9))
    every = rng.uniform(0.7, 1.6)
    height = rng.uniform(0.4, 0.8)
    reach = every * (posts - 1) / 2
    parts = [
        (np.array([(i - (posts - 1) / 2) * every, 0, height]), np.array([0.05, 0.05, height]))
        for i in range(posts)
    ]
    parts += [(np.array([0, 0.05, z * height]), np.array([reach, 0.02, 0.05])) for z in (0.9, 1.7)]
    build.group(
        OBJECT, build.floor_spot(2.5), rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]), parts
    )


def _pole_or_rock(build: Builder) -> None:
    rng = build.rng
    build.next_material()
    if rng.random() < 0.5:
        radius = rng.uniform(0.04, 0.12)
        height = rng.uniform(0.8, 0.8 * build.half[2])
        build.add(
            CYLINDER,
            OBJECT,
            build.floor_spot(0.5) + [0, 0, height],
            np.array([radius, radius, height]),
        )
    else:
        build.add(
            ELLIPSOID,
            OBJECT,
            build.floor_spot(0.8),
            rng.uniform(0.3, 1.0, 3),
            yaw_matrix(rng.uniform(0, np.pi)),
        )
