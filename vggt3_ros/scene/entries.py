"""The JSON of a scene, read entry by entry: what is missing, unknown, double or of another kind is
named.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.files import unique

# of anything with a unit; far beyond a map, far below what single precision holds
MAX_NUMBER = 1e12
MAX_COUNT = 2**53  # whole numbers up to here are exact in every program
_SHOWN = 60  # letters of a wrong value


def parse_json(data: bytes, name: str) -> Any:
    """What the file `name` with these bytes holds. Raises SceneError unless it is JSON, numbers
    finite, keys once.
    """
    try:
        value = json.loads(
            data,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=lambda pairs: unique(pairs, name),
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be shown
    except InputError as error:
        raise SceneError(str(error)) from error
    # also wrong encodings, numbers of thousands of digits
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{name} is damaged or truncated: {error}") from error
    return value


@dataclass(frozen=True)
class Entries:
    """An object of JSON and where it is, for messages. Every method raises SceneError naming the
    entry.
    """

    values: dict[str, Any]
    where: str

    @staticmethod
    def of(value: Any, where: str) -> Entries:
        """The entries of a value that must be an object."""
        if not isinstance(value, dict):
            raise SceneError(f"{where} must be an object with named entries, got {_shown(value)}")
        return Entries(value, where)

    def require(self, names: Collection[str], optional: Collection[str] = ()) -> None:
        """Check that the named entries are there, and no other but the optional ones."""
        for name in names:
            if name not in self.values:
                raise SceneError(f"{self.where} lacks the entry {name!r}")
        for name in self.values:
            if name not in names and name not in optional:
                raise SceneError(f"{self.where} has the unknown entry {_shown(name)}")

    def part(self, name: str) -> Entries:
        """An entry that is an object itself."""
        return Entries.of(self._value(name), f"{self.where}: {name}")

    def parts(self, name: str) -> list[Entries]:
        """An entry that is a list of objects, one at least."""
        value = self._value(name)
        if not isinstance(value, list) or not value:
            self._refuse(name, "a list of objects with named entries")
        where = f"{self.where}: {name}"
        return [Entries.of(part, f"{where} {index}") for index, part in enumerate(value)]

    def text(self, name: str, pattern: str = r"(?s).*", what: str = "text") -> str:
        """A text that matches a regular expression as a whole; what: how messages call such a
        text.
        """
        value = self._value(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self._refuse(name, what)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, one at least."""
        value = self._value(name)
        if not isinstance(value, list) or not value or not all(isinstance(t, str) for t in value):
            self._refuse(name, "a list of texts")
        return tuple(value)

    def flag(self, name: str) -> bool:
        """Either true or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            self._refuse(name, "true or false")
        return value

    def count(self, name: str, low: int = 0, high: int = MAX_COUNT) -> int:
        """A whole number from low to high."""
        value = self._value(name)
        if not _is_whole(value) or not low <= value <= high:
            self._refuse(name, f"a whole number from {low} to {high}")
        return int(value)

    def counts(self, name: str, shape: tuple[int, ...]) -> list[int]:
        """All whole numbers, from 1 on, of lists in lists of the given lengths, one after the
        other.
        """
        return [
            int(value) for value in self._list(name, shape, _is_positive, "whole numbers above 0")
        ]

    def number(self, name: str) -> float:
        """A number of at most MAX_NUMBER either way."""
        value = self._value(name)
        if not _is_number(value):
            self._refuse(name, f"a number from {-MAX_NUMBER:g} to {MAX_NUMBER:g}")
        return float(value)

    def numbers(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A float64 tensor of the given shape, from lists in lists of numbers of at most
        MAX_NUMBER either way.
        """
        what = f"numbers from {-MAX_NUMBER:g} to {MAX_NUMBER:g}"
        values = [float(value) for value in self._list(name, shape, _is_number, what)]
        return torch.tensor(values, dtype=torch.float64).reshape(shape)

    def _list(self, name: str, shape: tuple[int, ...], is_right: Any, what: str) -> list[Any]:
        values = list(_flat(self._value(name), shape))
        if len(values) != math.prod(shape) or not all(is_right(value) for value in values):
            self._refuse(name, f"{' x '.join(map(str, shape))} {what}")
        return values

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise SceneError(f"{self.where} lacks the entry {name!r}")
        return self.values[name]

    def _refuse(self, name: str, expected: str) -> NoReturn:
        got = _shown(self.values[name])
        raise SceneError(
            f"{self.where} has an entry of the wrong kind: {name!r} must be {expected}, got {got}"
        )


def _flat(value: Any, shape: tuple[int, ...]) -> Iterator[Any]:
    """What is in lists in lists; nothing of a list that has not the length that the shape says."""
    if not shape:
        yield value
    elif isinstance(value, list) and len(value) == shape[0]:
        for inner in value:
            yield from _flat(inner, shape[1:])


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and -MAX_NUMBER <= value <= MAX_NUMBER


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_whole(value) and 0 < value <= MAX_COUNT


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:_SHOWN]} is too large for a number")
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
