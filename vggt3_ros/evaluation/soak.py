"""Many procedural places, mapped and asked: nothing may end in an error that nobody foresaw,
nothing wrong be accepted.

Rooms, corridors and yards with 8, 16 or 40 frames; true, noisy or no prior poses; among the frames
a few black ones, doubled ones, or ones of another room. A place's number decides all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vggt3_ros.datasets.sequence import Sequence, Split, evenly
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.photographs import photographs
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.trials import Outcome, Trial, examine, summary
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.places import PLANNERS
from vggt3_ros.worlds.room import make_room, make_rooms
from vggt3_ros.worlds.route import unseen_route
from vggt3_ros.worlds.trajectories import drive

_FIRST_SEED = 920_000  # places of number 0
_FRAMES = (8, 16, 40)
_PRIORS = tuple(Priors.parse(text) for text in ("given", "noisy:10cm,3deg", "none"))
_DAMAGES = ("none", "black", "doubled", "foreign")
_DAMAGED = 0.15  # fraction of the map frames
_METRES = 0.4  # of a drive per frame, at most
_MAX_METRES = 8.0
_QUERIES = 6  # beside the drive
_STRANGERS = 2  # queries from another room
_BLACK = 2  # grey level
_SIZE = (320, 240)
_ELSEWHERE = 1_000_000  # between the seeds of a place and of the other room

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """What the place of a number is."""

    number: int

    @property
    def seed(self) -> int:
        """Seed of its plan, its drive and the noise of its priors."""
        return _FIRST_SEED + self.number

    @property
    def kind(self) -> str:
        """What is mapped: a room, a corridor or a yard."""
        return list(PLANNERS)[self.number % 3]

    @property
    def frames(self) -> int:
        """How many map frames are taken, before a few of them are damaged."""
        return _FRAMES[self.number // 3 % 3]

    @property
    def priors(self) -> Priors:
        """What poses its map frames are given as priors."""
        return _PRIORS[self.number // 9 % 3]

    @property
    def damage(self) -> str:
        """What is wrong with a few of its map frames: none, black, doubled or foreign."""
        return _DAMAGES[self.number // 27 % 4]

    @property
    def name(self) -> str:
        """Number, kind, frames, priors and damage in one word, as tables show it."""
        return f"{self.number}/{self.kind}-{self.frames}/{self.priors.kind}/{self.damage}"


def soak(number: int, network: Any) -> Outcome:
    """What becomes of the place of a number (from 0). Raises InputError below 0."""
    if number < 0:
        raise InputError(f"places are numbered from 0, got {number}")
    place = Place(number)
    return examine(make_trial(place), network)


def report(outcomes: Items[Outcome]) -> str:
    """Every traceback, every wrong pose, and the totals."""
    crashed = [f"{each.name}\n{each.traceback}" for each in outcomes if each.traceback]
    wrong = [f"wrong in {each.name}: {'; '.join(each.failures)}" for each in outcomes if each.wrong]
    return "\n".join([*crashed, *wrong, summary(outcomes)])


def make_trial(place: Place) -> Trial:
    """The trial of a place; its images are painted at once."""
    room = make_rooms([place.seed], plan=PLANNERS[place.kind])
    generator = torch.Generator().manual_seed(place.seed)
    lens = Lens.of(*_SIZE, math.radians(60 + 25 * float(torch.rand(1, generator=generator))))
    path = drive(room, place.frames, generator, min(_MAX_METRES, _METRES * place.frames))
    poses = torch.cat([path, unseen_route(room, path, _QUERIES, generator)])
    images = photographs(room, poses, lens, supersample=1)
    strangers = _strangers(place, lens)
    priors = place.priors.poses(path, place.seed)
    mapped = damaged(place.damage, images[: place.frames], strangers)
    shown = [image for _, image in mapped] + list(images[place.frames :])
    frames = [index for index, _ in mapped] + list(range(place.frames, len(poses)))
    split = Split(tuple(range(len(mapped))), tuple(range(len(mapped), len(shown))))
    sequence = Sequence(
        name=place.name,
        names=tuple(f"{row:03d}, frame {index}" for row, index in enumerate(frames)),
        stamps_ns=tuple(row * 1_000_000_000 for row in range(len(shown))),
        world_from_cam=poses[frames],
        intrinsics=lens.intrinsics,
        splits={"standard": split},
        read_image=lambda row: shown[row],
        read_depth=lambda row: None,
    )
    foreign = tuple(
        Frame(image, intrinsics=lens.intrinsics, name=f"stranger {number}")
        for number, image in enumerate(strangers[-_STRANGERS:])
    )
    return Trial(
        place.name,
        sequence,
        split,
        tuple(priors[index] for index, _ in mapped),
        place.priors,
        foreign,
    )


def damaged(damage: str, images: Images, strangers: Images) -> list[tuple[int, Image]]:
    """The map frames, each its number and what it shows, of images (N, H, W, 3): some are black,
    twice there, or show one of the strangers (n, H, W, 3) instead.
    """
    chosen = evenly(tuple(range(len(images))), _damaged_of(len(images)))
    frames = []
    for index, image in enumerate(images):
        shown = image
        if index in chosen and damage == "black":
            shown = np.full_like(image, _BLACK)
        elif index in chosen and damage == "foreign":
            shown = strangers[chosen.index(index)]
        frames += [(index, shown)] * (2 if index in chosen and damage == "doubled" else 1)
    return frames


def _damaged_of(frames: int) -> int:
    return max(1, round(_DAMAGED * frames))


def _strangers(place: Place, lens: Lens) -> Images:
    """Images (n, H, W, 3) of another room: what may replace map frames, and two to ask for."""
    count = _damaged_of(place.frames) + _STRANGERS
    room = make_room(place.seed + _ELSEWHERE)
    return photographs(
        room, drive(room, count, torch.Generator().manual_seed(place.seed)), lens, supersample=1
    )
