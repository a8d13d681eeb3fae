"""Banks of few textures, kept apart from those of other tests: whole ones take many seconds to
paint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest

from vggt3_ros.worlds import textures


@contextmanager
def few_textures() -> Iterator[None]:
    """Within it rooms are painted with one texture of every family, and held-out rooms with another
    one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            textures,
            "FAMILIES",
            {name: (pattern, 1) for name, (pattern, _) in textures.FAMILIES.items()},
        )
        patch.setattr(textures, "_BANKS", {"training": (1, 1), "held_out": (1, 2)})
        for name in ("_canvas", "_copied"):
            patch.setattr(textures, name, lru_cache(getattr(textures, name).__wrapped__))
        yield
