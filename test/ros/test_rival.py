"""The localizer warns once when somebody else says as well where the odometry is in the map."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from rclpy.node import Node

from vggt3_ros.nodes.localizer.rival import Rival
from vggt3_ros.nodes.messages.transforms import (
    StaticTransformBroadcaster,
    TransformBroadcaster,
    TransformBuffer,
    TransformListener,
)

from .processes import wait_for

HERE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("kind", [TransformBroadcaster, StaticTransformBroadcaster])
def test_another_ones_transform_is_warned_of_once(
    node: Node, kind: Callable[[Node], TransformBroadcaster]
) -> None:
    log: list[str] = []
    logger = SimpleNamespace(warning=lambda text, **_: log.append(text))
    node.get_logger = lambda: logger  # type: ignore[assignment,method-assign,return-value]
    rival, buffer = Rival(node, "odom"), TransformBuffer()
    buffer.watcher = rival.hears
    listener = TransformListener(node, buffer)
    ours, theirs = TransformBroadcaster(node), kind(node)
    wait_for(lambda: ours._publisher.get_subscription_count(), "the listener")
    wait_for(lambda: theirs._publisher.get_subscription_count(), "the listener")
    for stamp in range(1, 4):
        rival.sends(stamp)
        ours.send("map", "odom", stamp, HERE)
        ours.send("odom", "base_link", stamp, HERE)
    wait_for(lambda: buffer.parent_of("base_link") == "odom", "our transforms")
    assert log == []
    for stamp in (5, 6):
        theirs.send("map", "odom", stamp, HERE)
    wait_for(lambda: log, "a warning")
    assert len(log) == 1 and log[0].startswith("map -> odom comes from another node as well (")
    listener.destroy()
