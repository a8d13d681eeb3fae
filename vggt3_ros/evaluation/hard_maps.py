"""Maps that are easy to get wrong: sparse, turning on the spot, through a door, half told, weakly
tied.

Each in procedural rooms, with true, noisy and no prior poses where that makes sense.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split, evenly
from vggt3_ros.evaluation.photographs import photographs
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.trials import Trial
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.room import RoomBatch, make_room, make_rooms
from vggt3_ros.worlds.route import unseen_route
from vggt3_ros.worlds.trajectories import drive
from vggt3_ros.worlds.turning import look_away, rotate_on_the_spot
from vggt3_ros.worlds.two_rooms import plan_two_rooms, walk_through_door

NOISE = Priors.parse("noisy:10cm,3deg")
_GIVEN = Priors("given")
_NONE = Priors("none")
_LENS = (320, 240, 1.2)  # width, height, rad
# frames and length of a drive
_PATH = 36
_METRES = 9.0
# queries on the path and off it
_BETWEEN = 12
_BESIDE = 12
# frames that look away, and the fraction of what they show that others saw
_GROUP = 5
_FRACTION = 0.12
_NEAR = 8  # queries that look away too
_AROUND = 48  # frames of a full rotation, every other one mapped
_WALK = 33  # frames through a door
_UNSEEN = 6  # of these, before the door and behind it, where they are not mapped
_WOBBLES = (0.0, 0.03, 0.1)  # rms metres
_WEAK = (
    ("given", _GIVEN, _GIVEN),
    ("group-noisy", _GIVEN, NOISE),
    ("noisy", NOISE, NOISE),
    ("none", _NONE, _NONE),
)


@dataclass(frozen=True, eq=False)
class Album:
    """Images of one place at poses (N, 4, 4), painted when the first is asked for; kept_in: see
    photographs.
    """

    room: RoomBatch
    poses: Tensor
    kept_in: Path | None

    @cached_property
    def images(self) -> np.ndarray:
        """All of them (N, H, W, 3) uint8."""
        return photographs(self.room, self.poses, Lens.of(*_LENS), self.kept_in)

    def sequence(self, name: str, split: Split) -> Sequence:
        """The album as a sequence with this one split."""
        count = len(self.poses)
        return Sequence(
            name=name,
            names=tuple(f"{i:06d}" for i in range(count)),
            stamps_ns=tuple(i * 1_000_000_000 for i in range(count)),
            world_from_cam=self.poses,
            intrinsics=Lens.of(*_LENS).intrinsics,
            splits={"standard": split},
            read_image=lambda i: np.asarray(self.images[i]),
            read_depth=lambda i: None,
        )


@dataclass(frozen=True, eq=False)
class _Plan:
    """What a trial is made of: frames of an album, and the prior of each map frame."""

    album: Album
    split: Split
    priors: list[Tensor | None]
    judged: Priors


@dataclass(frozen=True)
class Case:
    """A trial that is made when it is needed."""

    name: str
    make: Callable[[], Trial]


class HardMaps:
    """The cases of one room: `seed` is the room's, and draws the noise; kept_in: folder for images,
    None for none.
    """

    def __init__(self, seed: int, kept_in: Path | None = None) -> None:
        self.seed = seed
        self.kept_in = kept_in
        self._rotations: dict[float, Album] = {}

    def cases(self) -> list[Case]:
        """All cases; nothing is painted yet."""
        every: dict[str, Callable[[], _Plan]] = {}
        for priors in (_GIVEN, NOISE, _NONE):
            for step in (2, 3, 4, 6):
                every[f"every-{step}/{priors.kind}"] = partial(self._sparse, step, priors)
            for wobble in _WOBBLES:
                every[f"turning-{100 * wobble:g}cm/{priors.kind}"] = partial(
                    self._turning, wobble, priors
                )
            for step in (2, 4):
                every[f"door-every-{step}/{priors.kind}"] = partial(
                    self._through_door, step, priors
                )
            every[f"door-unseen/{priors.kind}"] = partial(self._past_door, priors)
        for priors in (_GIVEN, NOISE):
            every[f"half-told-alternate/{priors.kind}"] = partial(
                self._half_given, priors, lambda i, n: i % 2 == 0
            )
            every[f"half-told-first/{priors.kind}"] = partial(
                self._half_given, priors, lambda i, n: i < n // 2
            )
        for kind, main, group in _WEAK:
            every[f"weak-group/{kind}"] = partial(self._weakly_tied, main, group)
        return [
            Case(name := f"{self.seed}/{kind}", partial(self._trial, name, make))
            for kind, make in every.items()
        ]

    def _trial(self, name: str, make: Callable[[], _Plan]) -> Trial:
        case = make()
        return Trial(
            name, case.album.sequence(name, case.split), case.split, tuple(case.priors), case.judged
        )

    def _sparse(self, step: int, priors: Priors) -> _Plan:
        """Every `step`-th frame of a drive; asked: frames between, and views beside the drive."""
        mapped = tuple(range(0, _PATH, step))
        between = evenly(tuple(i for i in range(_PATH) if i not in mapped), _BETWEEN)
        split = Split(mapped, (*between, *range(_PATH, _PATH + _BESIDE)))
        return _Plan(self._drive, split, self._priors(self._drive, mapped, priors), priors)

    def _half_given(self, priors: Priors, which: Callable[[int, int], bool]) -> _Plan:
        """Every other frame of a drive, of which half have a prior: every other one again, or the
        first ones.
        """
        case = self._sparse(2, priors)
        kept = list(case.priors)
        for index in range(len(kept)):
            if not which(index, len(kept)):
                kept[index] = None
        return replace(case, priors=kept)

    def _weakly_tied(self, main: Priors, group: Priors) -> _Plan:
        """A drive, and a group of frames that shares little with it; asked: views between, beside,
        and of the group.
        """
        path = tuple(range(0, _PATH, 2))
        away = tuple(range(_PATH + _BESIDE, _PATH + _BESIDE + _GROUP))
        between = evenly(tuple(range(1, _PATH, 2)), _NEAR)
        beside = evenly(tuple(range(_PATH, _PATH + _BESIDE)), _NEAR)
        near = tuple(range(away[-1] + 1, away[-1] + 1 + _NEAR))
        priors = self._priors(self._drive, path, main) + self._priors(self._drive, away, group)
        return _Plan(self._drive, Split(path + away, between + beside + near), priors, main)

    def _turning(self, wobble: float, priors: Priors) -> _Plan:
        """Every other frame of a full turn; asked: the frames between."""
        album = self._rotation_of(wobble)
        split = Split(tuple(range(0, _AROUND, 2)), tuple(range(1, _AROUND, 2)))
        return _Plan(album, split, self._priors(album, split.map, priors), priors)

    def _through_door(self, step: int, priors: Priors) -> _Plan:
        """Every `step`-th frame of a walk through a door; asked: frames between, and views beside
        the walk.
        """
        mapped = tuple(range(0, _WALK, step))
        between = evenly(tuple(i for i in range(_WALK) if i not in mapped), _BETWEEN)
        split = Split(mapped, (*between, *range(_WALK, _WALK + _BESIDE)))
        return _Plan(self._door, split, self._priors(self._door, mapped, priors), priors)

    def _past_door(self, priors: Priors) -> _Plan:
        """A walk through a door without the frames about it; asked: views beside the walk, and of
        the door.
        """
        door = range(_WALK // 2 - _UNSEEN, _WALK // 2 + _UNSEEN)
        mapped = tuple(index for index in range(_WALK) if index not in door)
        split = Split(mapped, (*door, *range(_WALK, _WALK + _BESIDE)))
        return _Plan(self._door, split, self._priors(self._door, mapped, priors), priors)

    def _priors(
        self, album: Album, indices: tuple[int, ...], priors: Priors
    ) -> list[Tensor | None]:
        return priors.poses(album.poses[list(indices)], self.seed + indices[0])

    def _rotation_of(self, wobble: float) -> Album:
        """A full turn on the spot."""
        if wobble not in self._rotations:
            room = make_room(self.seed)
            self._rotations[wobble] = Album(
                room, rotate_on_the_spot(room, _AROUND, self._generator(), wobble), self.kept_in
            )
        return self._rotations[wobble]

    @cached_property
    def _drive(self) -> Album:
        """A drive, views beside it, a group that looks away from its end, and views around that
        group.
        """
        room = make_room(self.seed)
        generator = self._generator()
        path = drive(room, _PATH, generator, _METRES)
        beside = unseen_route(room, path, _BESIDE, generator)
        away = look_away(room, path[::2], Lens.of(*_LENS), _GROUP, _FRACTION)
        near = unseen_route(room, away, _NEAR, generator, aside=0.15)
        return Album(room, torch.cat([path, beside, away, near]), self.kept_in)

    @cached_property
    def _door(self) -> Album:
        """A walk through a door, and views beside it."""
        room = make_rooms([self.seed], plan=plan_two_rooms)
        generator = self._generator()
        walk = walk_through_door(room, _WALK, generator)
        return Album(
            room, torch.cat([walk, unseen_route(room, walk, _BESIDE, generator)]), self.kept_in
        )

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)
