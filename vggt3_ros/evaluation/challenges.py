"""Queries that a careful localizer refuses: of other places, of places that look alike, of what
hardly can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split, evenly
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.worlds.places import Place
from vggt3_ros.worlds.room import MAX_SEED
from vggt3_ros.worlds.sequence import room_sequence, unmapped_views

OTHER_SEQUENCE = "other sequence"
OTHER_PLACE = "other place"
LOOKALIKE = "look-alike place"
UNMAPPED = "unmapped part"
HALF_COPY = "half a copy"
MIRRORED = "mirrored"
_MAX_QUERIES = 16  # queries of a kind
_PLACES = 2  # that the foreign queries come from


@dataclass(frozen=True, eq=False)
class Challenge:
    """A query of some kind; its true pose (4, 4), or None when it shows no place of the map and
    every pose is wrong.
    """

    kind: str
    frame: Frame
    true_world_from_cam: Tensor | None


def challenges(
    sequence: Sequence,
    split: Split,
    answerable: Items[int],
    seed: int,
    elsewhere: Items[Sequence] = (),
) -> Iterator[Challenge]:
    """Challenges for a map of split.map, made one after the other: up to 16 of every kind.

    The first are frames of the sequences `elsewhere`. Those of other places are of the rooms,
    corridors or yards of the next seeds, whatever the sequence is (of the first rooms where it is
    none of these). Of a procedural place there are also these others painted like it, and views of
    parts of it that no map frame shows. `answerable` are queries of the split. Places that hold an
    exact copy of what one half of such a query shows, with its depth, are had by taking the other
    half from a view of another place. Dark, blurred, half-covered and mirrored copies of them are
    made, and black ones. `seed` draws the noise.
    """
    yield from _elsewhere(elsewhere)
    place = sequence.place
    others = list(_others(sequence, OTHER_PLACE, painted_like=None))
    yield from others
    if place is not None:
        yield from _others(sequence, LOOKALIKE, painted_like=place.seed)
        yield from _unmapped(sequence, place, split)
    for number, index in enumerate(evenly(tuple(answerable), _MAX_QUERIES)):
        frame = sequence.frame(index)
        other = others[number % len(others)].frame
        yield Challenge(
            HALF_COPY,
            replace(frame, image=_half_other(frame.image, other.image, number % 2 == 0)),
            None,
        )
    rng = np.random.default_rng(seed)
    for kind, degrade in DEGRADATIONS.items():
        for index in evenly(tuple(answerable), _MAX_QUERIES):
            frame = sequence.frame(index)
            true = None if kind == MIRRORED else sequence.world_from_cam[index]
            yield Challenge(kind, replace(frame, image=degrade(frame.image, rng)), true)


def _elsewhere(sequences: Items[Sequence]) -> Iterator[Challenge]:
    """Frames of other sequences, as many of each and evenly spaced."""
    chosen = [sequences[i] for i in evenly(tuple(range(len(sequences))), _MAX_QUERIES)]
    for sequence in chosen:
        for index in evenly(tuple(range(len(sequence))), max(1, _MAX_QUERIES // len(chosen))):
            frame = sequence.frame(index)
            yield Challenge(
                OTHER_SEQUENCE, replace(frame, name=f"{sequence.name} {frame.name}"), None
            )


def _others(sequence: Sequence, kind: str, painted_like: int | None) -> Iterator[Challenge]:
    height, width = sequence.read_image(0).shape[:2]
    mapped = sequence.place or Place("room", -1)
    first = (mapped.seed + 1) % (MAX_SEED + 1 - _PLACES)
    for seed in range(first, first + _PLACES):
        other = room_sequence(
            seed,
            _MAX_QUERIES // _PLACES,
            0,
            height,
            width,
            painted_like=painted_like,
            plan=mapped.plan,
        )
        for number, image in enumerate(other.images):
            name = f"{mapped.kind} {seed}, {number}"
            yield Challenge(kind, Frame(image, intrinsics=other.intrinsics, name=name), None)


def _unmapped(sequence: Sequence, place: Place, split: Split) -> Iterator[Challenge]:
    depths = [sequence.read_depth(index) for index in split.map]
    depth = torch.from_numpy(np.stack([each for each in depths if each is not None]))
    mapped = sequence.world_from_cam[list(split.map)]
    images, poses = unmapped_views(
        place.seed, mapped, depth, sequence.intrinsics, _MAX_QUERIES, place.plan
    )
    for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
        yield Challenge(
            UNMAPPED, Frame(image, intrinsics=sequence.intrinsics, name=f"unmapped {number}"), pose
        )


def _half_other(image: Image, other: Image, left: bool) -> Image:
    """The left or the right half of an image (H, W, 3) beside the other half of another one of any
    size.
    """
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    mixed = np.asarray(Pillow.fromarray(other).resize((width, height))).copy()
    half = slice(width // 2) if left else slice(width // 2, None)
    mixed[:, half] = image[:, half]
    return mixed


def _black(image: Image, rng: np.random.Generator) -> Image:
    """No light: the sensor's noise alone."""
    return _noisy(np.full(image.shape, 3.0), rng)


def _dark(image: Image, rng: np.random.Generator) -> Image:
    """A twelfth of the light, and noise."""
    return _noisy(image / 12, rng)


def _blurred(image: Image, rng: np.random.Generator) -> Image:
    """Out of focus: a Gaussian of 1 % of the width."""
    from PIL import Image as Pillow
    from PIL import ImageFilter

    return np.asarray(
        Pillow.fromarray(image).filter(ImageFilter.GaussianBlur(0.01 * image.shape[1]))
    )


def _half_covered(image: Image, rng: np.random.Generator) -> Image:
    """Something before the left or the right half of the lens."""
    half = image.shape[1] // 2
    covered = image.copy()
    covered[:, slice(half) if rng.random() < 0.5 else slice(half, None)] = (70, 60, 50)
    return covered


def _mirrored(image: Image, rng: np.random.Generator) -> Image:
    """Left and right exchanged, as a driver or a mirror does: no camera sees the place like
    that.
    """
    return np.ascontiguousarray(image[:, ::-1])


def _noisy(image: np.ndarray, rng: np.random.Generator) -> Image:
    return np.clip(image + rng.normal(0, 2.5, image.shape), 0, 255).round().astype(np.uint8)


DEGRADATIONS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "black": _black,
    "dark": _dark,
    "blurred": _blurred,
    "half covered": _half_covered,
    MIRRORED: _mirrored,
}
# Of a procedural place; frames of other sequences come before.
KINDS = (OTHER_PLACE, LOOKALIKE, UNMAPPED, HALF_COPY, *DEGRADATIONS)
