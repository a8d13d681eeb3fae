"""Families of tileable colour patterns in numpy; each function returns (size, size, 3) float32 in
[0, 1].

Every pattern mixes large and small structure, because a wall seen from afar and from near must both
be matchable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Generator = np.random.Generator


def value_noise(rng: Generator, size: int, cells_y: int, cells_x: int) -> Array:
    """One octave of periodic smooth noise (size, size) in [0, 1]: a random grid, cubically
    interpolated.
    """
    grid = rng.random((cells_y, cells_x), dtype=np.float32)
    return _stretch(_stretch(grid, size).T, size).T


def _stretch(grid: Array, size: int) -> Array:
    """Interpolate the rows of a periodic grid (n, m) to (size, m) with smoothstep weights."""
    n = grid.shape[0]
    at = np.arange(size, dtype=np.float32) * (n / size)
    low = at.astype(np.int64)
    f = (at - low).astype(np.float32)[:, None]
    f = f * f * (3 - 2 * f)
    out: Array = grid[low % n] * (1 - f) + grid[(low + 1) % n] * f
    return out


def fractal_noise(
    rng: Generator, size: int, first: int = 2, stretch: int = 1, gain: float = 0.65
) -> Array:
    """Octaves of value noise (size, size), rescaled to [0, 1]; `stretch` > 1 elongates it along x
    (wood, cloth).
    """
    total = np.zeros((size, size), np.float32)
    cells = first
    amplitude = 1.0
    while cells <= size // 2:
        total += amplitude * value_noise(rng, size, min(cells * stretch, size), cells)
        cells = cells * 2
        amplitude = amplitude * gain
    return _unit(total)


def _unit(x: Array) -> Array:
    low = float(x.min())
    high = float(x.max())
    return ((x - low) / max(high - low, 1e-6)).astype(np.float32)


def palette(rng: Generator, count: int) -> Array:
    """Random colours (count, 3): a base colour with strong deviations in brightness and hue."""
    base = rng.random(3) * 0.6 + 0.2
    spread = rng.uniform(0.15, 0.5)
    light = rng.uniform(-0.4, 0.4, (count, 1))
    return np.clip(base + light + rng.uniform(-spread, spread, (count, 3)), 0, 1).astype(np.float32)


def colour_map(rng: Generator, x: Array, stops: int = 5) -> Array:
    """Map values (h, w) in [0, 1] through a random piecewise-linear palette to (h, w, 3)."""
    colours = palette(rng, stops)
    places = np.linspace(0, 1, stops)
    return np.stack([np.interp(x, places, colours[:, c]) for c in range(3)], axis=-1).astype(
        np.float32
    )


def clouds(rng: Generator, size: int) -> Array:
    """Fractal noise in a random palette: plaster, carpet, stone."""
    return colour_map(
        rng, fractal_noise(rng, size, int(rng.integers(2, 6)), gain=rng.uniform(0.6, 0.85)), 6
    )


def marble(rng: Generator, size: int) -> Array:
    """Veins: waves bent by noise."""
    warp = fractal_noise(rng, size, 2, gain=0.45) * rng.uniform(1.5, 5)
    waves = np.arange(size, dtype=np.float32) / size * int(rng.integers(1, 5))
    veins = np.abs(np.sin(np.pi * (waves[None, :] + warp))) ** rng.uniform(0.4, 2)
    return colour_map(rng, (veins * 0.75 + fractal_noise(rng, size, 8) * 0.25).astype(np.float32))


def wood(rng: Generator, size: int) -> Array:
    """Planks of stretched noise, each of its own shade."""
    grain = fractal_noise(rng, size, 1, stretch=int(rng.choice([8, 16])), gain=0.8)
    out = colour_map(rng, grain, 4)
    planks = int(rng.integers(3, 9))
    row = np.arange(size) * planks // size
    shift = rng.integers(0, size, planks)
    out = out[np.arange(size)[:, None], (np.arange(size)[None, :] + shift[row][:, None]) % size]
    out = out * rng.uniform(0.55, 1.15, planks).astype(np.float32)[row][:, None, None]
    out[np.diff(row, append=planks) > 0] *= 0.35
    return out


def tiles(rng: Generator, size: int) -> Array:
    """Tiles or bricks with joints; colours vary from tile to tile."""
    rows = int(rng.choice([2, 4, 8, 12]))
    columns = int(rng.choice([2, 3, 4, 6]))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    row = np.floor(y * rows)
    x = x + (row % 2) * rng.choice([0.0, 0.5]) / columns
    column = np.floor(x * columns) % columns
    joint = rng.uniform(0.03, 0.09)
    inside = ((y * rows) % 1 > joint) & ((x * columns) % 1 > joint * columns / rows)
    colours = palette(rng, int(rng.integers(3, 8)))
    pick = rng.integers(0, len(colours), (rows, columns))
    face = colours[pick[row.astype(int), column.astype(int)]]
    face = face * (0.6 + 0.7 * fractal_noise(rng, size, 4))[..., None]
    return np.where(inside[..., None], face, palette(rng, 1)[0]).astype(np.float32)


def checker(rng: Generator, size: int) -> Array:
    """Squares that alternate between two materials and differ in tint."""
    n = int(rng.choice([2, 4, 6, 8]))
    y, x = np.mgrid[0:size, 0:size] * n // size
    even = ((x + y) % 2 == 0)[..., None]
    a = clouds(rng, size)
    b = (marble if rng.random() < 0.5 else clouds)(rng, size)
    colours = palette(rng, n * n).reshape(n, n, 3)[y, x]
    return np.where(even, a * 0.5 + colours * 0.5, b * 0.4 + 0.1).astype(np.float32)


def stripes(rng: Generator, size: int) -> Array:
    """Bands of random widths, straight or bent."""
    count = int(rng.integers(10, 40))
    edges = np.sort(rng.random(count)).astype(np.float32)
    warp = (fractal_noise(rng, size, 2) - 0.5) * rng.choice([0.0, 0.1, 0.4])
    at = (np.arange(size, dtype=np.float32)[None, :] / size + warp) % 1
    colours = palette(rng, count + 1)
    colours[-1] = colours[0]
    out = (
        colours[np.searchsorted(edges, at)] * (0.65 + 0.5 * fractal_noise(rng, size, 6))[..., None]
    )
    return out.swapaxes(0, 1) if rng.random() < 0.5 else out


def cells(rng: Generator, size: int) -> Array:
    """Stones or mosaic: the nearest of random points colours a pixel, joints are dark."""
    count = int(rng.integers(15, 70))
    points = rng.random((count, 2)).astype(np.float32)
    near = np.full((size, size), 9.0, np.float32)
    second = near.copy()
    owner = np.zeros((size, size), np.int64)
    axis = np.arange(size, dtype=np.float32) / size
    for index, (py, px) in enumerate(points):
        dy = np.abs(axis - py)
        dx = np.abs(axis - px)
        d = (np.minimum(dy, 1 - dy) ** 2)[:, None] + (np.minimum(dx, 1 - dx) ** 2)[None, :]
        closer = d < near
        second = np.where(closer, near, np.minimum(second, d))
        owner[closer] = index
        near = np.minimum(near, d)
    joint = np.clip((np.sqrt(second) - np.sqrt(near)) * 40, 0.15, 1)
    shade = joint * (0.6 + 0.6 * fractal_noise(rng, size, 4))
    return (palette(rng, count)[owner] * shade[..., None]).astype(np.float32)


def leaves(rng: Generator, size: int) -> Array:
    """Dead leaves: overlapping discs and rectangles of power-law sizes, as in natural images."""
    out = clouds(rng, size)
    axis = np.arange(-size // 2, size // 2, dtype=np.float32)
    count = int(rng.integers(120, 240))
    colours = palette(rng, 12)
    radii = 2.5 + 0.27 * size * rng.random(count) ** 4
    for radius in np.sort(radii)[::-1]:  # small ones last, or they would be hidden
        cy, cx = rng.integers(0, size, 2)
        reach = int(radius * 1.3) + 1
        window = axis[size // 2 - reach : size // 2 + reach]
        angle = rng.uniform(0, np.pi)
        aspect = rng.uniform(0.4, 1.0)
        u = window[None, :] * np.cos(angle) + window[:, None] * np.sin(angle)
        v = (window[:, None] * np.cos(angle) - window[None, :] * np.sin(angle)) / aspect
        if rng.random() < 0.5:
            inside = u * u + v * v < radius * radius
        else:
            inside = np.maximum(np.abs(u), np.abs(v)) < radius * 0.75
        row, column = inside.nonzero()
        slope = u[row, column] / radius * rng.uniform(-0.2, 0.2)
        colour = colours[rng.integers(12)] + rng.uniform(-0.15, 0.15, 3) + slope[:, None]
        offset = window.astype(int)
        out[(cy + offset[row]) % size, (cx + offset[column]) % size] = colour
    return out


def text(rng: Generator, size: int) -> Array:
    """Page-like: lines of random glyphs in several sizes on a lightly structured ground, with
    picture blocks.
    """
    paper = clouds(rng, size) * 0.25 + palette(rng, 1)[0] * 0.75
    ink = palette(rng, 3)
    y = int(rng.integers(2, 8))
    while y < size - 10:
        height = int(rng.choice([7, 9, 14, 21, 35]))
        scale = max(height // 7, 1)
        if rng.random() < 0.15 and y + 60 < size and size > 128:  # a picture beside the text
            x0 = int(rng.integers(0, size - 64))
            w = int(rng.integers(40, 64))
            h = int(rng.integers(30, 60))
            paper[y : y + h, x0 : x0 + w] = checker(rng, 64)[:h, :w]
            y += h + 3
            continue
        glyphs = int(rng.integers(size // (6 * scale) // 2, size // (6 * scale) + 1))
        bits = rng.random((7, glyphs, 6)) < 0.5
        bits[:, :, 5] = False
        bits[:, rng.random(glyphs) < 0.15] = False  # spaces between words
        line = np.kron(bits.reshape(7, -1), np.ones((scale, scale), bool))[: size - y, : size - 4]
        area = paper[y : y + line.shape[0], 2 : 2 + line.shape[1]]
        area[line] = ink[rng.integers(3)]
        y += height + int(rng.integers(2, 3 + height // 2))
    return paper.astype(np.float32)


def poster(rng: Generator, size: int) -> Array:
    """Image-like: a gradient ground, large shapes, a band of text."""
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    a, b = palette(rng, 2)
    picture = leaves(rng, size)
    weight = (fractal_noise(rng, size, 2) > rng.uniform(0.3, 0.6))[..., None]
    out = np.where(weight, picture, a * (1 - y) + b * y)
    low = int(rng.integers(0, size * 2 // 3))
    high = low + int(rng.integers(size // 6, size // 3))
    out[low:high] = text(rng, size)[low:high]
    border = int(rng.integers(0, size // 12))
    frame = palette(rng, 1)[0]
    if border:
        out[:border] = out[-border:] = out[:, :border] = out[:, -border:] = frame
    return out.astype(np.float32)


FAMILIES: dict[str, tuple[Callable[[Generator, int], Array], int]] = {
    "clouds": (clouds, 3),
    "marble": (marble, 3),
    "wood": (wood, 3),
    "tiles": (tiles, 5),
    "checker": (checker, 3),
    "stripes": (stripes, 4),
    "cells": (cells, 4),
    "leaves": (leaves, 6),
    "text": (text, 4),
    "poster": (poster, 5),
}
"""Pattern families with their shares (of 40) in a texture bank."""
