"""What a robot does from day to day: map a place, save it, end; and find itself in it after a
restart.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vggt3_ros.action import Reconstruct
from vggt3_ros.geometry.se3 import se3
from vggt3_ros.msg import LocalizationStatus as Status

from .localizer_client import MAPPED, QUERIES, running_localizer, visit
from .mapper_client import running_mapper
from .robot import Robot


def test_the_saved_scene_of_one_process_is_localized_in_by_another(tmp_path: Path) -> None:
    with running_mapper(tmp_path / "mapper.log", anew=True) as mapper:
        mapper.robot.destroy()
        mapper.robot = Robot(mapper.node, visit())
        mapper.start(tmp_path / "scenes")
        mapper.collect(len(MAPPED))
        made = mapper.reconstruct(save_path=str(tmp_path / "office")).result()
        assert made.code == Reconstruct.Result.SUCCESS
        assert mapper.process.stop() == 0
    with running_localizer(tmp_path, anew=True) as localizer:
        localizer.start(scene_dir=str(tmp_path / "office"), follow_mapper=False)
        robot = Robot(localizer.node, visit())
        shift = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
        # odometry starts somewhere else
        robot.odom_from_map = se3(torch.eye(3, dtype=torch.float64), shift)
        robot.wait_until_connected()
        statuses = localizer.attempts(robot, QUERIES)
        assert {status.scene_id for status in statuses} == {made.scene_id}
        assert (
            statuses[-1].state == Status.LOCALIZED
            and sum(status.pose_published for status in statuses) >= 6
        )
        localizer.assert_right(robot, statuses, QUERIES)
        assert localizer.process.stop() == 0
