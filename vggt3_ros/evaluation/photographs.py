"""Images of procedural places, kept on disk between runs."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import vggt3_ros.worlds
from vggt3_ros.errors import InputError
from vggt3_ros.files import atomic_path
from vggt3_ros.worlds.film import Lens, film
from vggt3_ros.worlds.room import RoomBatch


def photographs(
    room: RoomBatch,
    world_from_cam: Tensor,
    lens: Lens,
    kept_in: Path | None = None,
    supersample: int = 2,
) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) RGB of one room at poses (N, 4, 4); read from the folder `kept_in` where
    they are already.

    They are looked up by everything that they depend on, the renderer's source included. The folder
    is made where it is missing. Raises InputError when it cannot be written.
    """
    if kept_in is None:
        return np.stack(list(film(room, world_from_cam, lens, supersample)))
    path = kept_in / f"{_key(room, world_from_cam, lens, supersample)}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    images = np.stack(list(film(room, world_from_cam, lens, supersample)))
    try:
        kept_in.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.save(temporary, images)
    except OSError as error:
        raise InputError(
            f"{kept_in}: images cannot be kept there ({error.strerror}); choose another folder"
        ) from error
    return images


def _key(room: RoomBatch, world_from_cam: Tensor, lens: Lens, supersample: int) -> str:
    tensors = [getattr(room, each.name) for each in fields(room)]
    digest = hashlib.sha256(_renderer())
    for tensor in [
        *(each for each in tensors if isinstance(each, Tensor)),
        world_from_cam,
        lens.intrinsics,
    ]:
        digest.update(torch.as_tensor(tensor).cpu().contiguous().numpy().tobytes())
    digest.update(repr((room.bank, lens.size_hw, lens.distortion, supersample)).encode())
    return digest.hexdigest()[:32]


@cache
def _renderer() -> bytes:
    """A digest of the source that paints the images."""
    digest = hashlib.sha256()
    for path in sorted(Path(vggt3_ros.worlds.__path__[0]).glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()
