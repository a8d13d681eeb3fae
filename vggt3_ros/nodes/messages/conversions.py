"""Stamps, poses, covariances and paths between ROS messages and tensors, and what is said about a
scene.

Images are in images.py, calibrations in camera_info.py, point clouds in clouds.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, Vector3
from nav_msgs.msg import Path
from std_msgs.msg import Header
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import quaternion_from_rotation, rotation_from_quaternion, se3
from vggt3_ros.msg import SceneInfo
from vggt3_ros.scene.scene import Scene

_SECOND = 10**9  # ns
# m^2: somewhere within a kilometre; zeros would mean a perfect pose
UNKNOWN_POSITION_VARIANCE = 1e6
UNKNOWN_ROTATION_VARIANCE = math.pi**2  # rad^2: any rotation


def stamp_ns(time: Time) -> int:
    """A stamp in nanoseconds."""
    return int(time.sec) * _SECOND + int(time.nanosec)


def time_message(ns: int) -> Time:
    """The message of a stamp in nanoseconds. Raises InputError beyond what 32 bits of seconds can
    hold (year 2038).
    """
    seconds, nanoseconds = divmod(ns, _SECOND)
    if not -(2**31) <= seconds < 2**31:
        raise InputError(
            f"stamp of {ns} ns does not fit a ROS time of 32-bit seconds; expected nanoseconds"
            " since 1970"
        )
    return Time(sec=seconds, nanosec=nanoseconds)


def header(frame_id: str, stamp_ns: int) -> Header:
    """A std_msgs/Header of a frame at a stamp in nanoseconds. Raises InputError for a stamp that no
    message can hold.
    """
    return Header(frame_id=frame_id, stamp=time_message(stamp_ns))


def rigid(position: Sequence[float], quaternion: Sequence[float], name: str) -> Tensor:
    """a_from_b (4, 4) float64 from position x y z (m) and quaternion x y z w of any length but
    zero.

    Raises InputError naming `name` when a number is not finite or the quaternion is zero.
    """
    if not all(math.isfinite(value) for value in (*position, *quaternion)):
        raise InputError(
            f"{name} has position {tuple(position)} and quaternion {tuple(quaternion)}; expected"
            " finite numbers: check whoever publishes it (a filter that diverged?)"
        )
    if math.hypot(*quaternion) < 1e-6:
        raise InputError(
            f"{name} has the quaternion {tuple(quaternion)}, which is no rotation; expected unit"
            " length (0 0 0 1 turns nothing): check whoever publishes it"
        )
    rotation = rotation_from_quaternion(torch.tensor(quaternion, dtype=torch.float64))
    return se3(rotation, torch.tensor(position, dtype=torch.float64))


def pose_from_message(pose: Pose) -> Tensor:
    """a_from_b (4, 4) of the pose of b in a. Raises InputError when it holds NaN or a zero
    quaternion.
    """
    p = pose.position
    q = pose.orientation
    return rigid((p.x, p.y, p.z), (q.x, q.y, q.z, q.w), "pose")


def pose_from_transform(transform: Transform) -> Tensor:
    """parent_from_child (4, 4). Raises InputError when it holds NaN or a zero quaternion."""
    t = transform.translation
    q = transform.rotation
    return rigid((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), "transform")


def pose_message(a_from_b: Tensor) -> Pose:
    """The pose of b in a, from a_from_b (4, 4)."""
    x, y, z = a_from_b[:3, 3].tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(a_from_b))


def transform_from_pose(parent_from_child: Tensor) -> Transform:
    """The message of parent_from_child (4, 4)."""
    x, y, z = parent_from_child[:3, 3].tolist()
    return Transform(translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(parent_from_child))


def pose_covariance(
    covariance: Tensor | None, map_from_cam: Tensor, cam_from_child: Tensor
) -> list[float]:
    """The 36 numbers of PoseWithCovariance for the child's pose in the map.

    covariance (6, 6) is that of (the camera's position in the map, rotation vector in the camera
    frame: the true rotation is the estimated one @ exp(vector)). ROS wants (the child's position in
    the map, rotation about the map's fixed axes); the mount cam_from_child (4, 4) counts as exact.
    None, or what is not finite, becomes a huge diagonal.
    """
    if covariance is None or not bool(torch.isfinite(covariance).all()):
        variances = [UNKNOWN_POSITION_VARIANCE] * 3 + [UNKNOWN_ROTATION_VARIANCE] * 3
        return list(torch.diag(torch.tensor(variances, dtype=torch.float64)).flatten().tolist())
    rotation = map_from_cam[:3, :3].double()
    x, y, z = cam_from_child[:3, 3].tolist()
    lever = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    jacobian = torch.zeros(6, 6, dtype=torch.float64)
    jacobian[:3, :3] = torch.eye(3, dtype=torch.float64)
    jacobian[:3, 3:] = -rotation @ lever
    jacobian[3:, 3:] = rotation
    result = jacobian @ covariance.double() @ jacobian.T
    numbers: list[float] = ((result + result.T) / 2).flatten().tolist()
    return numbers


def path_message(map_from_keyframes: Tensor, stamps_ns: Sequence[int], frame_id: str) -> Path:
    """A nav_msgs/Path of poses (S, 4, 4), each with its stamp; the path has the stamp of the
    newest.
    """
    path = Path(header=header(frame_id, max(stamps_ns, default=0)))
    for pose, stamp in zip(map_from_keyframes, stamps_ns, strict=True):
        path.poses.append(PoseStamped(header=header(frame_id, stamp), pose=pose_message(pose)))
    return path


def scene_info(scene: Scene, path: str | os.PathLike[str], stamp_ns: int) -> SceneInfo:
    """What is said about a scene that lies in the folder `path`."""
    low, high = (Point(x=x, y=y, z=z) for x, y, z in scene.bounds)
    return SceneInfo(
        header=header(scene.map_frame, stamp_ns),
        scene_id=scene.scene_id,
        path=os.fspath(path),
        created=scene.created,
        model_id=scene.model_id,
        model_fingerprint=scene.model_fingerprint,
        keyframes=len(scene.keyframes.names),
        landmarks=len(scene.landmarks.get("positions", ())),
        verified=scene.is_verified,
        verification=scene.verdict.reason,
        metric=scene.is_metric,
        metric_source=scene.metric_source,
        metric_residual=math.nan if scene.metric_residual_m is None else scene.metric_residual_m,
        up_source=scene.up_source,
        bounds_min=low,
        bounds_max=high,
    )


def _quaternion(a_from_b: Tensor) -> Quaternion:
    x, y, z, w = quaternion_from_rotation(a_from_b[:3, :3].double()).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)
