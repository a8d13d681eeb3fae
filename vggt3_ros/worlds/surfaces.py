"""What every face of every primitive shows: normal, texture placement and recolouring, as rows of a
table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.worlds.plan import BARE, GLOWING, OPEN, PICTURE, RoomPlan
from vggt3_ros.worlds.textures import TEXTURE_SIZE, group_ranges

# Columns of a face row.
NORMAL = 0
MAP_U = 3
MAP_V = 7
TEXTURE = 11
LOG_DENSITY = 12
GAIN = 13
BIAS = 16
DETAIL = 19
DETAIL_SCALE = 20
DETAIL_LOG = 21
DETAIL_GAIN = 22
FACE_FIELDS = 23

_WALL = (
    "clouds",
    "marble",
    "wood",
    "tiles",
    "checker",
    "stripes",
    "cells",
    "leaves",
    "poster",
    "text",
)
_PICTURE = ("poster", "text", "leaves")
_DETAIL = ("clouds", "leaves", "cells", "text", "marble")


def paint(plan: RoomPlan, bank: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Face rows (P * 6, FACE_FIELDS) float32 of a plan, faces in the order -x +x -y +y -z +z of the
    local frame.

    NORMAL world normal towards the camera side; MAP_U and MAP_V affine maps from the world point to
    texels; LOG_DENSITY log2 of texels per metre; colour = BIAS + GAIN * texel; DETAIL a second,
    finer texture.
    """
    count = len(plan.kinds)
    table = np.zeros((count, 6, FACE_FIELDS))
    axis = np.arange(6) // 2
    sign = np.where(np.arange(6) % 2, 1.0, -1.0)
    normal = plan.rotations.swapaxes(1, 2)[:, axis] * sign[:, None]  # (P, 6, 3)
    centre = plan.centres[:, None] + normal * plan.halves[:, axis, None]
    normal[0] *= -1  # the shell is seen from inside
    table[..., NORMAL : NORMAL + 3] = normal
    materials = plan.materials.max() + 1
    own = np.repeat(plan.materials[:, None], 6, axis=1)
    own[plan.materials == 0] = materials + np.arange(6)  # the six walls of the shell differ
    total = materials + 6
    ranges = group_ranges(bank)

    picture = np.zeros(total, bool)
    picture[plan.materials[plan.styles == PICTURE]] = True
    texture = np.where(
        picture, _pick(rng, ranges, _PICTURE, total), _pick(rng, ranges, _WALL, total)
    )
    detail = _pick(rng, ranges, _DETAIL, total)
    gain = rng.uniform(0.5, 1.0, (total, 3)) * np.where(rng.random((total, 1)) < 0.3, -1, 1)
    gain[picture] = np.abs(gain[picture])
    bias = rng.uniform(0.32, 0.62, (total, 1)) + rng.uniform(-0.08, 0.08, (total, 3)) - 0.5 * gain
    table[..., TEXTURE] = texture[own]
    table[..., DETAIL] = detail[own]
    table[..., GAIN : GAIN + 3] = gain[own]
    table[..., BIAS : BIAS + 3] = bias[own]
    table[..., DETAIL_GAIN] = rng.uniform(0.1, 0.75, total)[own]

    _place(plan, table, centre, normal, own, picture[own], rng, total)
    _fade(plan, table)
    return table.reshape(count * 6, FACE_FIELDS).astype(np.float32)


def _fade(plan: RoomPlan, table: NDArray[np.float64]) -> None:
    """Bare surfaces have all but one colour; glowing ones, as an open shell's ceiling, are bright
    in any light.
    """
    bare, glowing = (
        np.repeat(plan.styles[:, None] == style, 6, axis=1) for style in (BARE, GLOWING)
    )
    glowing[:, 5] |= plan.styles == OPEN
    gain = table[..., GAIN : GAIN + 3]
    bias = table[..., BIAS : BIAS + 3]
    for faces, fraction in ((bare, 0.1), (glowing, 0.2)):
        bias[faces] += 0.5 * (1 - fraction) * gain[faces]
        gain[faces] *= fraction
        table[faces, DETAIL_GAIN] *= fraction
    table[glowing, NORMAL : NORMAL + 3] = 0  # no lamp shines on it: ambient light alone
    bias[glowing] += 0.95 / plan.ambient - 0.5


def _pick(
    rng: np.random.Generator,
    ranges: dict[str, tuple[int, int]],
    families: tuple[str, ...],
    count: int,
) -> NDArray[np.int64]:
    numbers = np.concatenate([np.arange(*ranges[family]) for family in families])
    return rng.choice(numbers, count)


def _place(
    plan: RoomPlan,
    table: NDArray[np.float64],
    centre: NDArray[np.float64],
    normal: NDArray[np.float64],
    own: NDArray[np.int64],
    picture: NDArray[np.bool_],
    rng: np.random.Generator,
    total: int,
) -> None:
    """Fill the texture maps: pictures fit their face, other textures repeat with a drawn period,
    turn and offset.
    """
    axis = np.arange(6) // 2
    # floors and table tops have no upward direction: take a side of the box
    level = np.abs(normal[..., 2:]) > 0.9
    up = np.where(
        level, plan.rotations.swapaxes(1, 2)[:, (axis + 1) % 3], np.array([0.0, 0.0, 1.0])
    )
    up = up - normal * (up * normal).sum(-1, keepdims=True)
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    right = np.cross(up, normal)
    # (P, 6, 2)
    sides = np.stack([plan.halves[:, (axis + 1) % 3], plan.halves[:, (axis + 2) % 3]], axis=-1) * 2
    extent = sides.max(-1)
    stretch = np.where(picture, 1.0, rng.uniform(0.45, 1.3, total)[own])
    period = np.clip(extent * stretch, 0.25, 5.0)
    upright = rng.integers(0, 4, total) * np.pi / 2
    any_angle = rng.uniform(0, 2 * np.pi, total)
    angle = np.where(picture, 0.0, np.where(rng.random(total) < 0.6, upright, any_angle)[own])
    c = np.cos(angle)[..., None]
    s = np.sin(angle)[..., None]
    u = c * right - s * up
    v = -s * right - c * up
    density = TEXTURE_SIZE / period
    shift = rng.uniform(0, TEXTURE_SIZE, (*own.shape, 2))
    shift[picture] = TEXTURE_SIZE / 2
    for column, direction, which in ((MAP_U, u, 0), (MAP_V, v, 1)):
        linear = direction * density[..., None]
        table[..., column : column + 3] = linear
        table[..., column + 3] = shift[..., which] - (linear * centre).sum(-1)
    table[..., LOG_DENSITY] = np.log2(density)
    finer = rng.uniform(2.5, 8.0, total)[own]
    table[..., DETAIL_SCALE] = finer
    table[..., DETAIL_LOG] = np.log2(finer)
