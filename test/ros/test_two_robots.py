"""Two robots on one machine: mapper and localizer of each in a namespace of its own, started as
docs/ros.md says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rclpy.node import Node
from torch import Tensor

from vggt3_ros.geometry.se3 import se3, se3_inverse
from vggt3_ros.nodes.messages.conversions import stamp_ns
from vggt3_ros.nodes.messages.transforms import TransformBuffer, TransformListener
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.srv import LoadScene

from .lifecycle_client import graph
from .localizer_client import LIMIT_M, QUERIES, known, scene, visit
from .processes import REPOSITORY, ask, wait_for
from .robot import Heard, Robot

SETTINGS = (
    ("image_qos", "reliable"), ("transform_timeout", "1.0"), ("status_rate", "20"), ("min_frames",
    "4"),
    ("trigger_count", "4"), ("ttt_steps", "1"), ("landmarks", "false"),
)  # fmt: skip


class Half:
    """One of the robots: its sensors, and what is heard of its nodes."""

    def __init__(self, node: Node, home: Path, name: str) -> None:
        self.node = node
        self.library = home / ".ros" / name / "vggt3" / "scenes"
        self.robot, self.heard = Robot(node, visit()), Heard(node)
        self.buffer = TransformBuffer(max_gap_s=60.0)
        self.listener = TransformListener(node, self.buffer)

    def use(self, path: str) -> None:
        answer = ask(self.node, LoadScene, "localizer/load_scene", LoadScene.Request(path=path))
        assert answer.code == LoadScene.Response.SUCCESS, answer.message

    def map_from_odom(self, stamp: int) -> list[Tensor]:
        """The transform (4, 4) that its localizer repeats, once that is known for a stamp."""
        found = known(self.buffer, "map", "odom", stamp)
        return [] if found is None else [found]


@contextmanager
def running(home: Path, name: str) -> Iterator[Half]:
    """Mapper and localizer of a robot that has a TF tree of its own, in one process."""
    transforms = ("-r", f"/tf:=/{name}/tf", "-r", f"/tf_static:=/{name}/tf_static")
    given = [word for setting, value in SETTINGS for word in ("-p", f"{setting}:={value}")]
    command = [
        sys.executable,
        "-m",
        "vggt3_ros",
        "nodes",
        "--namespace",
        f"{name}/vggt3",
        *transforms,
        *given,
    ]
    environment = {key: value for key, value in os.environ.items() if key != "ROS_HOME"}
    log = home / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**environment, "HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with graph(f"/{name}/vggt3", *transforms) as node:
            yield Half(node, home, name)
    finally:
        process.kill()
        process.wait()
        print(f"---- {name} ----\n{log.read_text(encoding='utf-8')}")


def test_two_robots_map_and_localize_side_by_side(ros_environment: None, tmp_path: Path) -> None:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running(tmp_path, name)) for name in ("robot1", "robot2")
        )
        shift = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
        second.robot.odom_from_map = se3(torch.eye(3, dtype=torch.float64), shift)
        for half in (first, second):
            half.robot.wait_until_connected(2)
            half.robot.calibrate()

        first.robot.drive(range(4), rate=30)
        made = first.heard.mapper_says(
            lambda status: status.scene_id != "", "the first robot's map"
        ).scene_id
        (folder,) = first.library.iterdir()
        assert load_scene(folder).scene_id == made and load_scene(folder).made_by.startswith(
            "/robot1/vggt3/mapper "
        )
        wait_for(lambda: first.heard.localizer[-1].scene_id == made, "its localizer to follow")
        heard = second.heard.mapper_says(
            lambda status: True, "a status of the second robot's mapper"
        )
        assert (heard.frames_received, heard.scene_id) == (0, "") and not second.library.exists()
        assert all(status.scene_id == "" for status in second.heard.localizer)

        for half in (first, second):
            save_scene(scene(), half.library / "office")
            half.use("office")
        for index in QUERIES[:3]:  # by turns: none takes the other's images, odometry or transforms
            stamps = [half.robot.show(index) for half in (first, second)]
            last = [
                half.heard.status_of(stamp)
                for half, stamp in zip((first, second), stamps, strict=True)
            ]
        for half, status in zip((first, second), last, strict=True):
            stamp = stamp_ns(status.header.stamp)
            assert status.pose_published, status.reason
            wait_for(lambda half=half, stamp=stamp: stamp in half.heard.poses, "a pose")  # type: ignore[misc]
            assert half.heard.error(stamp, half.robot.true_pose(QUERIES[2]))[0] < LIMIT_M
            later = half.robot.now() + 3_000_000_000
            found = wait_for(
                lambda half=half, later=later: half.map_from_odom(later), "map -> odom"
            )  # type: ignore[misc]
            away = found[0][:3, 3] - se3_inverse(half.robot.odom_from_map)[:3, 3]
            assert float(away.norm()) < LIMIT_M, "the transform of this robot, not of the other"
            half.listener.destroy()
