"""How the depth of a keyframe's pixel is known."""

from __future__ import annotations

from enum import IntEnum


class Provenance(IntEnum):
    """How the depth of a pixel is known."""

    NONE = 0
    """It is not."""
    AGREED = 1
    """Other keyframes see the same surface there."""
    PLANE = 2
    """A plane that agreed pixels around lie on was carried on."""
    NEAR = 3
    """The network's shape, close to agreed pixels and hanging together with them."""
    FAR = 4
    """The network's shape alone, scaled to what is known elsewhere."""
