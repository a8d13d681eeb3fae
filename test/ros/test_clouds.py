"""Point clouds, read back field by field as a subscriber does."""

from __future__ import annotations

import numpy as np
import torch
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.nodes.clouds import cloud_message, points_and_colors

CLOUD = PointCloud(
    torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]),
    torch.tensor([[255, 0, 1], [16, 32, 64]], dtype=torch.uint8),
    torch.tensor([0.25, 0.75]),
)
QUARTER_TURN = Sim3(
    2.0, rotation_from_axis_angle(torch.tensor([0, 0, np.pi / 2]).double()), torch.tensor([10.0, 0, 0]).double()
)


def columns(message: PointCloud2) -> dict[str, np.ndarray]:
    """The values of each field, by the offsets that the message gives."""
    assert len(message.data) == message.row_step == message.point_step * message.width and message.height == 1
    assert {field.datatype for field in message.fields} == {PointField.FLOAT32} and not message.is_bigendian
    kinds = {"names": [f.name for f in message.fields], "formats": ["<f4"] * len(message.fields)}
    layout = np.dtype({**kinds, "offsets": [f.offset for f in message.fields], "itemsize": message.point_step})
    values = np.frombuffer(message.data, dtype=layout)
    return {name: values[name] for name in kinds["names"]}


def test_cloud_is_read_back_in_the_map_with_colour_and_confidence() -> None:
    message = cloud_message(CLOUD, QUARTER_TURN, "map", 1_500_000_000)
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert (received.header.frame_id, received.header.stamp.sec) == ("map", 1) and received.is_dense
    fields = columns(received)
    assert list(fields) == ["x", "y", "z", "rgb", "confidence"]
    np.testing.assert_allclose(np.stack([fields[n] for n in "xyz"], 1), [[10, 0, 0], [6, 2, 6]], atol=1e-6)
    packed = np.ascontiguousarray(fields["rgb"]).view(np.uint32)  # RViz: red in bits 16..23, blue in 0..7
    np.testing.assert_array_equal(packed, [0xFF0001, 0x102040])
    np.testing.assert_array_equal(fields["confidence"], [0.25, 0.75])


def test_points_far_from_the_origin_of_the_scene_lose_nothing_on_the_way() -> None:
    far = PointCloud(torch.tensor([[500_000.25, 0.0, 0.0]]), CLOUD.colors[:1], CLOUD.confidence[:1])
    back = Sim3(1.1, torch.eye(3).double(), torch.tensor([-550_000.0, 0, 0]).double())
    np.testing.assert_allclose(columns(cloud_message(far, back, "map", 0))["x"], [0.275], atol=1e-6)


def test_cloud_without_points_is_a_valid_message() -> None:
    message = cloud_message(CLOUD[torch.zeros(2, dtype=torch.bool)], Sim3.identity(), "map", 0)
    assert message.width == 0 and message.is_dense
    assert all(len(values) == 0 for values in columns(message).values())


def test_cloud_with_holes_says_so() -> None:
    points = torch.tensor([[float("nan"), 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert not cloud_message(PointCloud(points, CLOUD.colors, CLOUD.confidence), Sim3.identity(), "map", 0).is_dense


def test_clouds_are_read_as_they_were_packed() -> None:
    points, colors = points_and_colors(cloud_message(CLOUD, Sim3.identity(), "map", 5))
    np.testing.assert_allclose(points, CLOUD.points.numpy(), rtol=1e-6)
    assert np.array_equal(colors, CLOUD.colors.numpy())


def test_a_cloud_without_colours_is_grey() -> None:
    plain = cloud_message(CLOUD, Sim3.identity(), "map", 5)
    plain.fields = plain.fields[:3]
    points, colors = points_and_colors(plain)
    assert points.shape == colors.shape == (2, 3) and (colors == colors[0, 0]).all()
