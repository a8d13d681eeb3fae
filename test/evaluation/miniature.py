"""A miniature of 7-Scenes: a procedural room in the layout of a scene, and a network that knows its
truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vggt3_ros.geometry.camera import encode_camera, intrinsics_matrix, unproject
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3, se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.worlds.render import render, render_depth
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.trajectories import drive

ROOM = 900_002
MAPPED = {"seq-01": (0, 50), "seq-03": (40,)}  # of 60 frames each: every 50th of both together
QUERIES = {"seq-02": (0, 20, 40)}  # of 45 frames
SCENE_FROM_WORLD = Sim3(
    0.4,
    rotation_from_axis_angle(torch.tensor([0.5, -1.0, 0.3]).double()),
    torch.tensor([3.0, -2.0, 1.0]).double(),
)


def poses() -> tuple[Tensor, Tensor]:
    """True world_from_cam of the map frames (3, 4, 4) and of the queries (3, 4, 4) between them."""
    along = drive(make_rooms([ROOM]), 6, torch.Generator().manual_seed(ROOM), 2.0)
    return along[0::2], along[1::2]


def write_scene(folder: Path) -> Path:
    """Write seq-01 and seq-03 to train, seq-02 to test, as the real cameras see the room (640x480,
    not registered).

    Frames between those of the protocol show the first one's image, and have a pose that is 1 m
    off.
    """
    mapped, queries = poses()
    # colour, depth; 0.5 is a centre
    cameras = [intrinsics_matrix(focal, focal, 319.5, 239.5) for focal in (525, 585)]
    frames = [
        (name, number)
        for part in (MAPPED, QUERIES)
        for name, numbers in part.items()
        for number in numbers
    ]
    world_from_cam = torch.cat([mapped, queries])
    room = make_rooms([ROOM])
    images = (
        render(room, world_from_cam[None], cameras[0], 480, 640).images[0].mul(255).round().byte()
    )
    depths = (
        render_depth(room, world_from_cam[None], cameras[1], 480, 640)[0].mul(1000).round().int()
    )
    for name, count in (("seq-01", 60), ("seq-02", 45), ("seq-03", 60)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            stem = str(folder / name / f"frame-{number:06d}")
            pose = world_from_cam[0].clone()
            if (name, number) in frames:
                i = frames.index((name, number))
                pose = world_from_cam[i]
                Image.fromarray(images[i].permute(1, 2, 0).numpy()).save(
                    f"{stem}.color.png", compress_level=1
                )
                Image.fromarray(depths[i].numpy().astype(np.uint16)).save(
                    f"{stem}.depth.png", compress_level=1
                )
            else:
                pose[0, 3] += 1
                for suffix in ("color.png", "depth.png"):
                    Path(f"{stem}.{suffix}").symlink_to(
                        folder / "seq-01" / f"frame-000000.{suffix}"
                    )
            Path(f"{stem}.pose.txt").write_text(
                "\n".join("\t".join(map(repr, row)) for row in pose.tolist())
            )
    (folder / "TrainSplit.txt").write_text("sequence1\nsequence3\n")
    (folder / "TestSplit.txt").write_text("sequence2\n")
    return folder


class KnowsTheRoom:
    """A network whose answers are the truth of the miniature, in units of 2.5 m and a frame of its
    own.

    query_errors (metres, degrees) are those of its answers to the queries. spoil changes true world
    points (S, H, W, 3) of the map frames into those that it says.
    """

    def __init__(
        self,
        network: Any,
        query_errors: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 3,
        spoil: Callable[[Tensor], Tensor] = lambda points: points,
        point_head: bool = True,
    ) -> None:
        self._network, self._spoil, self._point_head = network, spoil, point_head
        self._mapped, queries = poses()
        self._queries = iter(_off(queries, query_errors))
        self.steps: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def map(
        self,
        images: Tensor,
        steps: int,
        chunk: int,
        progress: Callable[[str, float], None],
        resident: str,
    ) -> Any:
        self.steps = steps
        progress("heads", 1.0)
        return self._truth(images, self._mapped, self._spoil), "memory"

    def query(self, images: Tensor, memory: Any) -> Prediction:
        assert len(images) == 1 and memory == "memory"
        return self._truth(images, next(self._queries)[None], lambda points: points)

    def _truth(
        self, images: Tensor, world_from_cam: Tensor, spoil: Callable[[Tensor], Tensor]
    ) -> Prediction:
        count, _, height, width = images.shape
        assert count == len(world_from_cam)
        focal = 525 * 75 / 640  # 640x480 is resized to 75x56, and columns 2 to 71 are kept
        # centres of pixels at whole numbers
        camera = intrinsics_matrix(focal, focal, 37.5 - 2 - 0.5, 28 - 0.5)
        depth = render_depth(make_rooms([ROOM]), world_from_cam[None], camera, height, width)[0]
        in_cam = unproject(depth.double(), camera)
        points = spoil(transform_points(world_from_cam, in_cam.flatten(1, 2)).view_as(in_cam))
        cam_from_scene = se3_inverse(SCENE_FROM_WORLD.poses(world_from_cam))
        encoding = encode_camera(
            cam_from_scene, camera.expand(count, 3, 3), (height, width)
        ).float()
        confidence = torch.ones_like(depth)
        pointmap = SCENE_FROM_WORLD.points(points).float() if self._point_head else None
        return Prediction(
            encoding, SCENE_FROM_WORLD.scale * depth, confidence, pointmap, confidence
        )


def _off(world_from_cam: Tensor, errors: tuple[tuple[float, float], ...]) -> Tensor:
    """Poses, each so many metres aside and turned by so many degrees."""
    metres, degrees = torch.tensor(errors, dtype=torch.float64).unbind(1)
    turn = rotation_from_axis_angle(
        torch.stack([0 * degrees, degrees.mul(math.pi / 180), 0 * degrees], -1)
    )
    sideways = torch.stack([metres, 0 * metres, 0 * metres], -1)
    return world_from_cam @ se3(turn, sideways)
