"""Whether an image has the colours that the surfaces of a map have where it claims to be.

Landmarks tell only where there is texture. A bare wall holds none, so that nothing contradicts an
image which shows something else there: a door that is like one of the map in another place, or the
half of a picture that shows what the map knows. Colours contradict.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.cells import image_parts
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.picture import Picture, cell_numbers

# that is allowed in any map, beside inliers with depth and in one plane
_DIFFERENCE = 0.27
_DIFFERENCE_FLAT = 0.17
_TIMES_USUAL = 2.5  # that is allowed of what a map's own images show
_USUAL = 0.9  # fraction of the images that differ less
_FRONT = 1.05  # times the distance of the nearest point of a cell: what lies behind is hidden
_MIN_POINTS = 3  # of a cell whose colour is known
_MIN_HELD = 3  # cells with inliers, of known colour, that tell how bright the image is
_MIN_PART = 30  # cells of a part of the image that is compared
_DARK = 5.0  # grey levels added to ratios of brightness, which noise would rule in the dark
_MAX_GAIN = 50.0
_MAX_LIGHT = 2.5  # times as bright, or as dark, a part of the image may be as the rest
_UNEQUAL = 8.0  # grey levels by which the same colours differ
_NOISE = 6.0  # ... and which an image itself may be off by
_GREY = 3.0  # grey levels between the channels of a camera without colours, rounding included
_DRAWN = 24  # cells of other places, with which a cell is compared
_MAX_POINTS = 150_000  # looked at; of more, evenly many are left out

Singles = NDArray[np.float32]
Pixels = NDArray[np.floating]


class Appearance:
    """Surfaces with their colours, to look at from anywhere.

    points (N, 3); colours (N, 3) in grey levels of RGB. usual: what nine of ten of the images that
    they were made of differ from them by at most, `usual_difference`.
    """

    def __init__(self, points: Floats, colours: NDArray[np.uint8], usual: float = 0.0) -> None:
        self._usual = usual
        step = -(-len(points) // _MAX_POINTS) or 1
        points = points[::step]
        # single precision is enough about the middle, however far that is from the origin
        self._middle: Floats = points.mean(0) if len(points) else np.zeros(3)
        self._points = (points - self._middle).astype(np.float32)
        self._colours = colours[::step].astype(np.float32)

    def unlike(
        self,
        world_from_cam: Floats,
        intrinsics: Floats,
        picture: Picture,
        inliers: Pixels,
        have_depth: bool,
    ) -> float:
        """`difference` as a fraction of what is allowed; 0 where nothing can be compared.

        have_depth: whether the inliers lie in more than one plane, and are believed. Flat things
        look alike in many places: less is allowed beside them.
        """
        found = self.difference(world_from_cam, intrinsics, picture, inliers, believed=have_depth)
        least = _DIFFERENCE if have_depth else _DIFFERENCE_FLAT
        return 0.0 if found is None else found / max(least, _TIMES_USUAL * self._usual)

    def difference(
        self,
        world_from_cam: Floats,
        intrinsics: Floats,
        picture: Picture,
        inliers: Pixels,
        believed: bool = True,
    ) -> float | None:
        """How much a picture differs from the surfaces as seen from world_from_cam (4, 4) with
        intrinsics (3, 3), in the part where it differs most: 0 where it shows the same, about 1
        where it is as unlike as any other view. None where too little of the surfaces is in view.

        inliers (n, 2) are pixels that show what the map has there: they tell how bright the image
        is in each channel. A part may be brighter or darker than the rest, and a colour one cell
        away from where it should be. If the image or the map is grey, greys are compared. What
        shows nothing, as a covered lens, does not differ, nor do cells with inliers, and beside
        them, where these are believed: something before a surface that the map has not seen, as the
        other side of a pillar, often shows some.
        """
        expected, known = self._seen(world_from_cam, intrinsics, picture)
        rows, columns = known.shape
        colours = picture.colours
        if _are_grey(colours) or _are_grey(expected[known]):
            colours = colours.mean(2, keepdims=True).repeat(3, axis=2)
            expected = expected.mean(2, keepdims=True).repeat(3, axis=2)
        number, inside = cell_numbers(inliers, picture.size_wh)
        counts = np.bincount(number[inside], minlength=columns * rows)
        held = counts.reshape(rows, columns) > 0
        bright = held & known
        if bright.sum() < _MIN_HELD:
            return None
        gain = np.median((colours[bright] + _DARK) / (expected[bright] + _DARK), axis=0)
        gain = gain.clip(1 / _MAX_GAIN, _MAX_GAIN)
        shown = (colours / gain).clip(0, 400).astype(np.float32)
        compared = known & picture.shows
        if not compared.any():
            return None
        unequal = _UNEQUAL + _NOISE / gain.min()
        right = _beside(held)[compared] if believed else np.zeros(compared.sum(), dtype=bool)
        own = shown[compared].T
        there = _around(expected, known)[:, :, compared]
        others = expected[known]
        others = others[:: max(1, len(others) // _DRAWN)].T
        cells = np.argwhere(compared)[:, ::-1]
        differences = [
            _difference(own[:, part], there[..., part], right[part], others, unequal)
            for part in image_parts(cells, (columns, rows))
            if part.sum() >= _MIN_PART
        ]
        return max(differences, default=None)

    def _seen(
        self, world_from_cam: Floats, intrinsics: Floats, picture: Picture
    ) -> tuple[Singles, Mask]:
        """Colours (rows, columns, 3) of the nearest surface in each cell of a picture from there,
        and where they are known (rows, columns).
        """
        rows, columns = picture.shows.shape
        width, height = picture.size_wh
        camera = (world_from_cam[:3, 3] - self._middle).astype(np.float32)
        rays = (world_from_cam[:3, :3] @ intrinsics.T).astype(np.float32)
        x, y, z = ((self._points - camera) @ rays).T
        seen = np.flatnonzero((z > 1e-6) & (x > 0) & (x < width * z) & (y > 0) & (y < height * z))
        z = z[seen]
        number, inside = cell_numbers(np.stack([x[seen] / z, y[seen] / z], axis=1), picture.size_wh)
        seen = seen[inside]
        number = number[inside]
        z = z[inside]
        nearest = np.full(columns * rows, np.inf, dtype=np.float32)
        np.minimum.at(nearest, number, z)
        front = z < _FRONT * nearest[number]
        number = number[front]
        count = np.bincount(number, minlength=columns * rows)
        shown = self._colours[seen[front]]
        sums = [
            np.bincount(number, shown[:, channel], minlength=columns * rows) for channel in range(3)
        ]
        mean = np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]
        colours = mean.astype(np.float32).reshape(rows, columns, 3)
        return colours, (count >= _MIN_POINTS).reshape(rows, columns)


def usual_difference(
    appearance: Appearance, landmarks: Landmarks, pictures: Sequence[Picture]
) -> float | None:
    """By how much nine of ten of the images that surfaces were made of differ from them at most:
    less where cameras keep their exposure, and surfaces look the same from all sides. None where
    none can be compared. pictures: of the keyframes of the landmarks.
    """
    differences = []
    for keyframe, picture in enumerate(pictures):
        observed = landmarks.observed_from == keyframe
        found = appearance.difference(
            landmarks.world_from_cam[keyframe],
            landmarks.intrinsics[keyframe],
            picture,
            landmarks.pixels[observed],
        )
        if found is not None:
            differences.append(found)
    return float(np.quantile(differences, _USUAL)) if differences else None


def _are_grey(colours: NDArray[np.floating]) -> bool:
    """Whether colours (..., 3) are those of a camera that sees none."""
    return bool((np.ptp(colours, axis=-1) < _GREY).all())


def _around(colours: Singles, known: Mask) -> Singles:
    """For each cell the colours (3, 9, rows, columns) of itself and the cells about it, infinite
    where they are not known.
    """
    rows, columns = known.shape
    wide = np.full((3, rows + 2, columns + 2), np.inf, dtype=np.float32)
    wide[:, 1:-1, 1:-1] = np.where(known, np.moveaxis(colours, 2, 0), np.inf)
    shifted = [
        wide[:, row : row + rows, column : column + columns]
        for row in range(3)
        for column in range(3)
    ]
    return np.stack(shifted, axis=1)


def _beside(cells: Mask) -> Mask:
    """Those of all cells (rows, columns) that are among some of them, or next to one."""
    rows, columns = cells.shape
    wide = np.pad(cells, 1)
    beside: Mask = np.zeros_like(cells)
    for row in range(3):
        for column in range(3):
            beside |= wide[row : row + rows, column : column + columns]
    return beside


def _difference(
    own: Singles, there: Singles, right: Mask, others: Singles, unequal: float
) -> float:
    """How much colours (3, n) differ from those that should be there, or near there (3, 9, n),
    beside how much they differ from those of the whole view (3, m), all made as bright. Those that
    are `right` (n,) do not.
    """
    expected = there[:, 4].sum(0) + 3 * _DARK
    light = np.median(expected / (own.sum(0) + 3 * _DARK))
    own = own * np.float32(light.clip(1 / _MAX_LIGHT, _MAX_LIGHT))
    off = (np.abs(own[:, None] - there).sum(0).min(0) * ~right).mean()
    usual = len(own) * np.abs(own[:, None] - others[..., None]).mean()
    return float(off / (usual + unequal))
