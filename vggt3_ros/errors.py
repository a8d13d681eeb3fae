"""What can go wrong for a user, each with a message that says what was given, what was expected,
and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Vggt3Error(Exception):
    """Base of every error that vggt3_ros raises on purpose; its text is complete and needs no
    traceback.
    """


class InputError(Vggt3Error):
    """Images, poses, settings or arguments that cannot be used."""


class CheckpointError(Vggt3Error):
    """Network weights that are missing, foreign, misshapen or unreadable."""


class SceneError(Vggt3Error):
    """A stored scene that is damaged, foreign, of another version or made by another network."""


def nearest_name(given: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was probably meant by a name that nobody knows; whether letters are large
    does not matter.

    None if nothing is as near as cutoff, from 0 (anything) to 1 (the same).
    """
    by_lower_case = {each.lower(): each for each in known}
    near = difflib.get_close_matches(given.lower(), by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[near[0]] if near else None


def did_you_mean(given: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The part of a message that names what was probably meant, as `nearest_name` has it; empty if
    there is nothing.
    """
    near = nearest_name(given, known, cutoff)
    return f" (did you mean {near!r}?)" if near is not None else ""
