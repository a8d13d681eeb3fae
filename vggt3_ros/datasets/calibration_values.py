"""Numbers and lists of numbers in the forms that calibration files give them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known


def numbers_of(value: Any, count: int | None, name: str, meaning: str, path: Path) -> list[float]:
    """Finite numbers of a list, nested or not, or of OpenCV's {rows, cols, data}; `count` of them
    unless None.

    Raises InputError saying that the entry `name` of the file should be `meaning`.
    """
    raw = value
    expected = count
    if isinstance(value, dict):
        check_known(value, ("rows", "cols", "dt", "data"), f"{path}, {name}")
        raw = value.get("data")
        shape = [side for side in (value.get("rows"), value.get("cols")) if isinstance(side, int)]
        if len(shape) == 2:
            expected = shape[0] * shape[1]
    numbers = [number(entry) for entry in _flattened(raw)] if isinstance(raw, list) else [None]
    finite = [entry for entry in numbers if entry is not None]
    if len(finite) < len(numbers) or any(
        wanted not in (None, len(finite)) for wanted in (count, expected)
    ):
        raise InputError(f"{path}: {name} must be {meaning}, got {value!r}")
    return finite


def _flattened(value: list[Any]) -> list[Any]:
    leaves = []
    for part in value:
        leaves += _flattened(part) if isinstance(part, list) else [part]
    return leaves


def number(value: Any) -> float | None:
    """The finite number that a value is; YAML reads 1e-3 as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def unpadded(coefficients: tuple[float, ...], least: int = 0) -> tuple[float, ...]:
    """Without the zeros at the end, as far as `least` are left."""
    count = len(coefficients)
    while count > least and not coefficients[count - 1]:
        count -= 1
    return coefficients[:count]
