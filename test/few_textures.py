"""Banks of few textures, kept apart from those of other tests: whole ones take many seconds to
paint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest

from vggt3_ros.worlds import shading, textures


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
        patch.setattr(textures, "_WEIGHTS", len(textures.FAMILIES))
        patch.setattr(textures, "_BANKS", {"training": (1, 1), "held_out": (1, 2)})
        bank = lru_cache(maxsize=4)(textures.texture_bank.__wrapped__)
        for module in (textures, shading):
            patch.setattr(module, "texture_bank", bank)
        yield
