"""Point clouds, read back field by field as a subscriber does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.nodes.messages import clouds
from vggt3_ros.nodes.messages.clouds import cloud_message, points_and_colors, sensor_msgs_py
from vggt3_ros.nodes.messages.images import byte_array

CLOUD = PointCloud(
    torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]),
    torch.tensor([[255, 0, 1], [16, 32, 64]], dtype=torch.uint8),
    torch.tensor([0.25, 0.75]),
)
QUARTER_TURN = Sim3(
    2.0,
    rotation_from_axis_angle(torch.tensor([0, 0, np.pi / 2]).double()),
    torch.tensor([10.0, 0, 0]).double(),
)


def columns(message: PointCloud2) -> dict[str, np.ndarray]:
    """The values of each field, by the offsets that the message gives."""
    assert (
        len(message.data) == message.row_step == message.point_step * message.width
        and message.height == 1
    )
    assert {field.datatype for field in message.fields} == {
        PointField.FLOAT32
    } and not message.is_bigendian
    kinds = {"names": [f.name for f in message.fields], "formats": ["<f4"] * len(message.fields)}
    layout = np.dtype(
        {**kinds, "offsets": [f.offset for f in message.fields], "itemsize": message.point_step}
    )
    values = np.frombuffer(message.data, dtype=layout)
    return {name: values[name] for name in kinds["names"]}


def test_cloud_is_read_back_in_the_map_with_colour_and_confidence() -> None:
    message = cloud_message(CLOUD.transformed(QUARTER_TURN), "map", 1_500_000_000)
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert (received.header.frame_id, received.header.stamp.sec) == ("map", 1) and received.is_dense
    fields = columns(received)
    assert list(fields) == ["x", "y", "z", "rgb", "confidence"]
    np.testing.assert_allclose(
        np.stack([fields[n] for n in "xyz"], 1), [[10, 0, 0], [6, 2, 6]], atol=1e-6
    )
    # RViz: red in bits 16..23, blue in 0..7
    packed = np.ascontiguousarray(fields["rgb"]).view(np.uint32)
    np.testing.assert_array_equal(packed, [0xFF0001, 0x102040])
    np.testing.assert_array_equal(fields["confidence"], [0.25, 0.75])


def test_cloud_without_points_is_a_valid_message() -> None:
    message = cloud_message(CLOUD[torch.zeros(2, dtype=torch.bool)], "map", 0)
    assert message.width == 0 and message.is_dense
    assert all(len(values) == 0 for values in columns(message).values())


def test_cloud_with_holes_says_so() -> None:
    points = torch.tensor([[float("nan"), 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert not cloud_message(PointCloud(points, CLOUD.colors, CLOUD.confidence), "map", 0).is_dense


def test_clouds_are_read_as_they_were_packed() -> None:
    points, colors = points_and_colors(cloud_message(CLOUD, "map", 5))
    np.testing.assert_allclose(points, CLOUD.points.numpy(), rtol=1e-6)
    assert np.array_equal(colors, CLOUD.colors.numpy())


def test_a_cloud_without_colours_is_grey() -> None:
    plain = cloud_message(CLOUD, "map", 5)
    plain.fields = plain.fields[:3]
    points, colors = points_and_colors(plain)
    assert points.shape == colors.shape == (2, 3) and (colors == colors[0, 0]).all()


def test_both_ways_give_equal_bytes_and_points(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sensor_msgs_py")
    assert sensor_msgs_py() is not None
    draw = np.random.default_rng(0)
    for count in (0, 1, 2, 1000):
        colors = torch.from_numpy(draw.integers(0, 256, (count, 3)).astype(np.uint8))
        cloud = PointCloud(
            torch.from_numpy(draw.normal(size=(count, 3))).float(), colors, torch.rand(count)
        )
        theirs = cloud_message(cloud, "map", 5)
        with monkeypatch.context() as patch:
            patch.setattr(clouds, "sensor_msgs_py", lambda: None)
            ours = cloud_message(cloud, "map", 5)
            read_by_us = points_and_colors(theirs)
        assert serialize_message(ours) == serialize_message(theirs)
        for mine, other in zip(read_by_us, points_and_colors(ours), strict=True):
            assert mine.dtype == other.dtype and mine.tobytes() == other.tobytes()


def test_what_sensor_msgs_py_would_read_wrong_is_read_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = cloud_message(CLOUD, "map", 5)
    expected = points_and_colors(plain)
    swapped = cloud_message(CLOUD, "map", 5)
    swapped.is_bigendian = True
    swapped.data = byte_array(np.frombuffer(plain.data, "<u4").astype(">u4"))
    before = bytes(swapped.data)
    padded = cloud_message(CLOUD, "map", 5)
    padded.height, padded.width, padded.row_step = 2, 1, plain.point_step + 8
    padded.data = byte_array(
        np.pad(np.frombuffer(plain.data, np.uint8).reshape(2, -1), ((0, 0), (0, 8)))
    )
    for message in (swapped, padded):
        for given, wanted in zip(points_and_colors(message), expected, strict=True):
            np.testing.assert_array_equal(given, wanted)
    assert bytes(swapped.data) == before


def test_a_sensor_msgs_py_that_does_not_work_is_told_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sensor_msgs_py").mkdir()
    (tmp_path / "sensor_msgs_py" / "__init__.py").touch()
    (tmp_path / "sensor_msgs_py" / "point_cloud2.py").write_text(
        "raise AttributeError('numpy.bool')"
    )
    for name in ("sensor_msgs_py", "sensor_msgs_py.point_cloud2"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert sensor_msgs_py.__wrapped__() is None
    assert (
        "packed without sensor_msgs_py, which does not work: AttributeError"
        in capfd.readouterr().err
    )
    sys.modules.pop("sensor_msgs_py", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda message: message.fields.pop(1),
            "has the fields x .*expected x y z, each one float32",
        ),
        (
            lambda message: setattr(message.fields[0], "datatype", PointField.FLOAT64),
            r"x \(datatype 8, count 1\)",
        ),
        (lambda message: setattr(message.fields[3], "count", 3), r"rgb \(datatype 7, count 3\)"),
        (
            lambda message: setattr(message.fields[2], "offset", 18),
            "field z lies outside of its points of 20 bytes",
        ),
        (
            lambda message: setattr(message, "height", 2),
            "has 40 bytes in rows of 40; expected 2 rows of at least 40",
        ),
        (lambda message: setattr(message, "row_step", 20), "expected 1 rows of at least 40"),
    ],
)
def test_a_cloud_that_does_not_fit_is_refused(
    change: Callable[[PointCloud2], object], words: str
) -> None:
    message = cloud_message(CLOUD, "map", 5)
    change(message)
    with pytest.raises(InputError, match=words):
        points_and_colors(message)
