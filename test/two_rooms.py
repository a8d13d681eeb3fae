"""A drive through two rooms that saw nothing of the door between them, and one through it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vggt3_ros.evaluation.photographs import photographs
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.worlds.film import Lens
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.two_rooms import plan_two_rooms, walk_through_door

_SEED = 910_200
_WALK = 33
FIRST = (*range(4, 10), *range(24, 29))  # six frames in one room, five in the other
HERE = 6
LATER = tuple(range(6, 28, 3))


@dataclass(frozen=True, eq=False)
class TwoRooms:
    """Images of a walk from one room into the other, by their places along it, and its poses."""

    images: dict[int, np.ndarray]
    world_from_cam: Tensor
    intrinsics: Tensor

    def frames(self, places: tuple[int, ...]) -> list[Frame]:
        return [
            Frame(self.images[i], 10**9 * (i + 1), self.intrinsics, name=f"{i:06d}.png")
            for i in places
        ]

    def write(self, places: tuple[int, ...], folder: Path) -> Path:
        folder.mkdir()
        for i in places:
            Image.fromarray(self.images[i]).save(folder / f"{i:06d}.png")
        return folder

    def write_intrinsics(self, file: Path) -> Path:
        (fx, _, cx), (_, fy, cy), _ = self.intrinsics.tolist()
        height, width = self.images[FIRST[0]].shape[:2]
        values = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}
        file.write_text(json.dumps(values))
        return file


@cache
def two_rooms(width: int = 240, height: int = 180) -> TwoRooms:
    lens = Lens.of(width, height, 1.2)
    rooms = make_rooms([_SEED], plan=plan_two_rooms)
    walk = walk_through_door(rooms, _WALK, torch.Generator().manual_seed(_SEED))
    places = sorted({*FIRST, *LATER})
    images = photographs(rooms, walk[places], lens, supersample=2)
    return TwoRooms(dict(zip(places, images, strict=True)), walk, lens.intrinsics)
