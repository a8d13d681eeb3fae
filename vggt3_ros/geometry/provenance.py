"""How the depth of a keyframe's pixel is known."""

from __future__ import annotations

from enum import IntEnum

from torch import Tensor


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


def fractions(provenance: Tensor) -> dict[str, float]:
    """Fraction of the pixels (S, h, w) uint8 of each provenance, by its name in small letters."""
    return {kind.name.lower(): float((provenance == kind).float().mean()) for kind in Provenance}
