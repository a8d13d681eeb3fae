"""The last images of a moving camera, kept for those after them that show too little by
themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import rotation_angle, se3_inverse
from vggt3_ros.landmarks.joint import View
from vggt3_ros.landmarks.locate import Located
from vggt3_ros.landmarks.tensors import to_array
from vggt3_ros.pipeline.localization import Localization, Searched
from vggt3_ros.pipeline.pose_filter import Carried
from vggt3_ros.pipeline.tracking import usable_odometry
from vggt3_ros.pipeline.tracking_settings import TrackingSettings

_APART_M = 0.1  # images that are neither so far apart ...
_APART_RAD = 0.1  # ... nor rotated so far against each other show much the same, errors included


@dataclass(frozen=True, eq=False)
class _Seen:
    """An attempt, what was searched by it, and odom_from_cam (4, 4) of its stamp."""

    stamp_ns: int
    searched: Searched
    located: Located
    odom_from_cam: Tensor


class RecentImages:
    """The newest images of one camera in one map, each some distance from the one before. Call it
    from one thread.
    """

    def __init__(self, settings: TrackingSettings | None = None) -> None:
        self.settings = settings or TrackingSettings()
        self._kept: list[_Seen] = []

    def forget(self) -> None:
        """Forget the images, as after a change of the map."""
        self._kept = []

    def together(
        self, stamp_ns: int, localization: Localization, odom_from_cam: Tensor | None
    ) -> list[View]:
        """Take up the newest image, and return those that it may be located with: itself, as the
        last one, and those before it that show something else. None (an empty list) if there are no
        others.

        odom_from_cam (4, 4) at its stamp; an image without stands alone and is not kept, nor is one
        that was not searched, or in a map without scale. Stamps that do not rise begin anew.
        """
        if self._kept and stamp_ns <= self._kept[-1].stamp_ns:
            self.forget()
        odometry, _ = usable_odometry(odom_from_cam, localization.metric)
        searched = localization.searched
        located = localization.located
        if odometry is None or searched is None or located is None:
            return []
        newest = _Seen(stamp_ns, searched, located, odometry)
        older = self.settings.joint_images - 1
        before = [each for each in self._kept if _is_apart(each, newest)][:older]
        if not self._kept or _is_apart(self._kept[-1], newest):
            self._kept = [*self._kept, newest][-older:] if older else []
        return self._views([*before, newest]) if before else []

    def _views(self, seen: list[_Seen]) -> list[View]:
        """The images as parts of one rig, the newest last."""
        newest = seen[-1]
        certain = torch.zeros(6, 6, dtype=torch.float64)
        carried = Carried(
            newest.stamp_ns, torch.eye(4, dtype=torch.float64), certain, newest.odom_from_cam
        )
        views = []
        for each in reversed(seen):  # back along the path, which drifts as the path there does
            carried = carried.moved(
                2 * newest.stamp_ns - each.stamp_ns, each.odom_from_cam, self.settings
            )
            placed = (to_array(carried.map_from_cam), to_array(carried.covariance))
            views.append(
                View(each.searched.features, each.searched.intrinsics, each.located, *placed)
            )
        return views[::-1]


def _is_apart(one: _Seen, other: _Seen) -> bool:
    motion = se3_inverse(one.odom_from_cam) @ other.odom_from_cam
    return (
        float(motion[:3, 3].norm()) >= _APART_M
        or float(rotation_angle(motion[:3, :3])) >= _APART_RAD
    )
