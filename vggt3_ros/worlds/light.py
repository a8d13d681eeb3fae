"""Light of several kinds for a place: lamps, one strong lamp, an overcast sky, the sun (numpy)."""

from __future__ import annotations

import numpy as np

from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.worlds.plan import LIGHTS

_FAR = 60.0  # metres to the sun: its rays are all but parallel


def draw_light(
    rng: np.random.Generator, half: Floats, outside: bool = False
) -> tuple[Floats, Floats]:
    """Lights (LIGHTS, 6) position and colour, and ambient light (3,), for a shell of half size (3,)
    on z = 0.

    Outside the sun shines or the sky is overcast; inside there are lamps, one strong lamp in a
    darker place, light from everywhere, or, as through a glass roof, the sun.
    """
    kinds = {"lamps": 0.0, "lamp": 0.0, "sun": 0.6, "overcast": 0.4} if outside else {
        "lamps": 0.5, "lamp": 0.2, "sun": 0.1, "overcast": 0.2
    }  # fmt: skip
    kind = rng.choice(list(kinds), p=list(kinds.values()))
    place = rng.uniform(-0.7, 0.7, (LIGHTS, 3)) * half
    place[:, 2] = half[2] * rng.uniform(1.2, 1.9, LIGHTS)
    strength = rng.uniform(0.35, 1.0, (LIGHTS, 1)) * min(1.6, float(np.linalg.norm(half[:2])) / 3)
    ambient = rng.uniform(0.35, 0.6)
    if kind == "sun":
        height = np.radians(rng.uniform(25, 75))
        heading = rng.uniform(0, 2 * np.pi)
        place[0] = _FAR * np.array(
            [np.cos(height) * np.cos(heading), np.cos(height) * np.sin(heading), np.sin(height)]
        )
        fading = 1 + _FAR**2 / 8  # what the renderer takes off by distance
        strength = np.array([[rng.uniform(0.4, 0.8) * fading], [0.0]])
    elif kind == "lamp":
        strength = strength * [[1.4], [0.0]]
        ambient = 0.7 * ambient
    elif kind == "overcast":
        strength = 0.2 * strength
        ambient = rng.uniform(0.65, 0.95)
    colour = strength * (1 + rng.uniform(-0.12, 0.12, (LIGHTS, 1)) * [1.0, 0.1, -1.0])
    return np.concatenate([place, colour], axis=1), ambient * (1 + rng.uniform(-0.06, 0.06, 3))
