"""The occupancy grid of a scene: whether it can have one, and where its floor is."""

from __future__ import annotations

import math

import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import transform_points
from vggt3_ros.pipeline.grid_lattice import GridSettings
from vggt3_ros.pipeline.occupancy import OccupancyGrid, occupancy_grid
from vggt3_ros.pipeline.upright import floor_plane
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.scene import Scene

_GUESSED = ("none", "unsteady cameras")  # sources of up that are no knowledge
# of the points: less than where a floor has to tell what is up
_MIN_FLOOR = 0.03
_MAX_TILT = math.radians(3)
_STRIDE = 16  # pixels per point that the floor is sought among


def scene_grid(
    scene: Scene, settings: GridSettings | None = None, floor_z: float | None = None
) -> OccupancyGrid:
    """The grid of a scene in its map frame, above the floor at floor_z, by default where it is
    found.

    Raises InputError, saying what to do, for a scene without metres, without a known direction up,
    without depth of its keyframes, or without a level floor among what they see.
    """
    if not scene.is_metric:
        raise InputError(
            f"the scene has no metres ({scene.metric_source}), which a grid needs; map the place"
            " again with odometry or --poses, with depth images, or with --camera-height"
        )
    if scene.up_source in _GUESSED:
        raise InputError(
            f"it is not known which way is up in the scene (up_source: {scene.up_source}); map the"
            " place again with cameras held upright, or with --poses"
        )
    if scene.depth is None:
        why = "" if scene.is_verified else f"; it is not verified: {scene.verdict.reason}"
        raise InputError(
            f"the scene has no depth of its keyframes to make a grid of{why}; map the place again:"
            " depth is refined and stored where landmarks verify the map"
        )
    if floor_z is None:
        floor_z = scene.report.get("floor_z")
    if floor_z is None:
        floor_z = _found_floor(scene.depth)
    return occupancy_grid(scene.depth, floor_z, settings)


def _found_floor(depth: KeyframeDepth) -> float:
    """Z of the floor below the middle of the cameras."""
    sure = (depth.provenance == Provenance.AGREED) | (depth.provenance == Provenance.PLANE)
    points = [
        transform_points(pose, own[use][::_STRIDE])
        for pose, own, use in zip(
            depth.world_from_cam,
            unproject(depth.depth.double(), depth.intrinsics),
            sure,
            strict=True,
        )
    ]
    floor = floor_plane(torch.cat(points), torch.tensor([0.0, 0.0, 1.0]), _MIN_FLOOR)
    if floor is None:
        raise InputError(
            "no floor stands out among the depth of the keyframes; give its Z in the map"
            " (vggt3 export --nav2 DIR --floor Z)"
        )
    tilt = math.acos(min(1.0, float(floor.normal[2])))
    if tilt > _MAX_TILT:
        raise InputError(
            f"what looks like the floor is tilted by {math.degrees(tilt):.1f} degrees; if it is a"
            " ramp, give the floor's Z in the map (vggt3 export --nav2 DIR --floor Z), otherwise"
            " map the place again with poses whose Z is up"
        )
    middle = depth.world_from_cam[:, :2, 3].mean(0)
    return float((floor.offset - middle @ floor.normal[:2]) / floor.normal[2])
