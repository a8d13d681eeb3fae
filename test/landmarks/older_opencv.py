"""SIFT as OpenCV before 4.8 has it, whichever is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import pytest


@contextmanager
def older_opencv() -> Iterator[None]:
    """Within it, SIFT knows no precise upscaling; what it finds is the same then in all versions
    from 4.5.5 to 5.0.
    """
    create = cv2.SIFT_create

    def create_without(*arguments: Any, **named: Any) -> Any:
        if "enable_precise_upscale" in named:
            raise TypeError(
                "'enable_precise_upscale' is an invalid keyword argument for SIFT_create()"
            )
        return create(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "SIFT_create", create_without)
        yield


def upscales_precisely() -> bool:
    """Whether the installed OpenCV does."""
    try:
        cv2.SIFT_create(1, enable_precise_upscale=True)
    except (TypeError, cv2.error):
        return False
    return True
