"""Which entry of what the user gave (a pose, a depth image) belongs to which image: each to one
image alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath

from vggt3_ros.errors import InputError

_MAX_TIME_DIFFERENCE_S = 0.02  # as the TUM RGB-D benchmark has it
# Digits of a whole number that is a time since 1970, and how many of its unit are a second.
_TIME_UNITS = (
    (range(18, 20), 1e9),
    (range(15, 18), 1e6),
    (range(12, 15), 1e3),
    (range(9, 12), 1.0),
)
_EXAMPLES = 3


class Matching:
    """Finds entries by image and keeps account: which images took an entry, which entries nobody
    took.

    find: the position, among the entries, of what belongs to the image of a name at a position,
    None without; it may raise InputError. names: what the entries are called; what: what one of
    them is, such as "pose"; given: the option and file that they come from, for messages.
    """

    def __init__(
        self,
        names: Sequence[str],
        find: Callable[[str, int], int | None],
        what: str,
        given: str,
        expected: str,
    ) -> None:
        self.names = names
        self._find = find
        self._what = what
        self._given = given
        self._expected = expected
        self._taken: dict[int, str] = {}
        self._images: list[tuple[str, int]] = []
        self._problem: InputError | None = None

    def take(self, image: str, position: int) -> int | None:
        """The entry of this image, by its name (a path) and position in the list; None where there
        is none.

        Raises InputError for an image that could have several entries, or one that another image
        has.
        """
        try:
            entry = self._find(image, position)
            if entry is not None and self._taken.setdefault(entry, image) != image:
                raise InputError(
                    f"{self._taken[entry]} and {image} would get the same {self._what},"
                    f" {self.names[entry]} of {self._given}; {self._expected}"
                )
        except InputError as error:
            self._problem = self._problem or error
            raise
        self._images.append((image, position))
        return entry

    @property
    def images(self) -> Sequence[tuple[str, int]]:
        """Names and positions of the images so far."""
        return self._images

    @property
    def left_over(self) -> int:
        """How many entries belong to none of the images so far."""
        return len(self.names) - len(self._taken)

    def check(self, images: int) -> None:
        """Raise InputError when an image was ambiguous, or none of the `images` used has an
        entry.
        """
        if self._problem is not None:
            raise self._problem
        if images and not self._taken:
            images_called = _examples([name for name, _ in self._images])
            raise InputError(
                f"{self._given}: none of its {len(self.names)} {self._what}s belongs to one of the"
                f" {images} images; they are called {_examples(self.names)}, the images"
                f" {images_called}; {self._expected}"
            )


def by_name(
    names: Sequence[str], what: str, endings: bool = True
) -> Callable[[str, int], int | None]:
    """Finder of the name with which an image's path ends, folders and all; without `endings`, .png
    or .jpg is one.

    It raises InputError when the path is too short to tell which of several names is meant.
    """
    stored: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        stored[_parts(name, endings)[-1]].append(index)

    def find(image: str, position: int) -> int | None:
        path = _parts(str(Path(image).absolute()), endings)
        candidates = {index: _parts(names[index], endings) for index in stored.get(path[-1], [])}
        fitting = [index for index, parts in candidates.items() if path[-len(parts) :] == parts]
        if (
            not fitting
            and len(candidates) > 1
            and len(PurePath(image).parts) < min(map(len, candidates.values()))
        ):
            raise InputError(
                f"{image} could be any of {len(candidates)} {what} that have this file name; "
                "give the image folders as they are named there"
            )
        return max(fitting, key=lambda index: len(candidates[index]), default=None)

    return find


def by_number(numbers: Sequence[int]) -> Callable[[str, int], int | None]:
    """Finder of the number that an image's name is (000007.png is 7), or else of its position in
    the list.
    """
    index_of = {number: index for index, number in enumerate(numbers)}

    def find(image: str, position: int) -> int | None:
        stem = Path(image).stem
        return index_of.get(int(stem) if stem.isdecimal() else position)

    return find


def check_positions(
    images: Sequence[tuple[str, int]], numbers: Collection[int], given: str
) -> None:
    """Raise InputError where frame_000005.png may be 5 by its name as well as 0 by its position, of
    (name, position).

    Only where all photographs that would go by their position have such a number: otherwise the
    position is meant. And where the numbers end one behind the last position: they count from 1.
    """
    by_position = [position for name, position in images if not _is_number(name)]
    if by_position and 0 not in numbers and max(by_position) + 1 == max(numbers):
        raise InputError(
            f"{given} counts from {min(numbers)} to {max(numbers)}, the positions of the images in"
            f" the list from 0 to {max(by_position)}; count from 0, or write the images' file names"
            " in the place of the numbers"
        )
    photographs = [
        (name, position) for name, position in images if Path(name).suffix and not _is_number(name)
    ]
    named = [(name, position, _number_within(name)) for name, position in photographs]
    if not all(number in numbers for _, _, number in named):
        return
    for name, position, number in named:
        if number != position:
            raise InputError(
                f"{name} is number {number} by its name and {position} by its position in the list,"
                f" and {given} has poses for such numbers; call the images"
                f" {number:06d}{Path(name).suffix} and so on, or write their file names in the"
                " place of the numbers"
            )


def _is_number(name: str) -> bool:
    return Path(name).stem.isdecimal()


def _number_within(name: str) -> int | None:
    """The last number in a file name."""
    found = re.findall(r"\d+", Path(name).stem)
    return int(found[-1]) if found else None


def by_time(times_s: Sequence[float]) -> Callable[[str, int], int | None]:
    """Finder of the time nearest to the one that an image's name is, at most 20 ms away.

    Names are seconds (1305031102.175304.png), or whole milli-, micro- or nanoseconds since 1970.
    """

    def find(image: str, position: int) -> int | None:
        time_s = _time_of(Path(image).stem)
        if time_s is None:
            return None
        nearest = min(range(len(times_s)), key=lambda index: abs(times_s[index] - time_s))
        return nearest if abs(times_s[nearest] - time_s) <= _MAX_TIME_DIFFERENCE_S else None

    return find


def _time_of(stem: str) -> float | None:
    if re.fullmatch(r"\d+\.\d+", stem):
        return float(stem)
    unit = next((unit for digits, unit in _TIME_UNITS if len(stem) in digits), None)
    return None if unit is None or not stem.isdecimal() else int(stem) / unit


def _parts(path: str, ending: bool) -> tuple[str, ...]:
    """The folders and the name of a path, "." and ".." left out; letters as one character each,
    however composed.
    """
    named = [part for part in PurePath(unicodedata.normalize("NFC", path)).parts if part != ".."]
    pure = PurePath(*named)
    return pure.parts if ending else (*pure.parts[:-1], pure.stem)


def _examples(names: Sequence[str]) -> str:
    shown = ", ".join("/".join(PurePath(name).parts[-2:]) for name in names[:_EXAMPLES])
    return shown + (", ..." if len(names) > _EXAMPLES else "")
