"""Where the simulated camera drives, and where it sits on its robot."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import se3
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters
from vggt3_ros.worlds.motion import steady_motion
from vggt3_ros.worlds.room import RoomBatch, make_room
from vggt3_ros.worlds.route import unseen_route
from vggt3_ros.worlds.sequence import held_out_seed
from vggt3_ros.worlds.trajectories import drive

_SPACING = 0.25  # metres between the poses that a drive is planned by
_MOUNT = (0.1, 0.0, 0.2)  # metres from the robot's base to the camera: forward and up


def plan(settings: SimCameraParameters) -> tuple[RoomBatch, list[Tensor]]:
    """The room, and world_from_cam (F, 4, 4) of each leg, one pose for every image."""
    seed = held_out_seed(settings.seed)
    room = make_room(seed)
    generator = torch.Generator().manual_seed(seed)
    pace = {"rate": settings.rate, "speed": settings.speed, "turn_speed": settings.turn_speed}
    count = max(4, round(settings.length / _SPACING))
    mapping = steady_motion(drive(room, count, generator, settings.length), **pace)
    back = unseen_route(room, mapping.flip(0), count + 1, generator)
    return room, [mapping, steady_motion(torch.cat([mapping[-1:], back]), **pace)]


def base_from_camera() -> Tensor:
    """The camera on the robot (4, 4): it looks ahead, and its optical axes are x right, y down, z
    forward.
    """
    rotation = torch.tensor(
        [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64
    )
    return se3(rotation, torch.tensor(_MOUNT, dtype=torch.float64))
