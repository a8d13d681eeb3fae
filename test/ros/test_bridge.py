"""cv_bridge where it works, our own decoding where it is missing or broken: the same arrays, and no
process ends.

Against the real cv_bridge where it can be imported (PYTHONPATH), and always against an imitation
with its habits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from rclpy.node import Node
from sensor_msgs.msg import Image

from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.input import CameraInput
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.messages import images
from vggt3_ros.nodes.messages.bridge import Bridge, find_bridge
from vggt3_ros.nodes.messages.images import depth_from_message, image_from_message
from vggt3_ros.nodes.messages.raw_pixels import LAYOUTS, pixels_by_numpy

from .image_messages import message_of

# It knows no yuyv, takes any row for whole pixels, and its big-endian images need what NumPy 2 no
# longer has.
IMITATION = """
import numpy as np
KINDS = {
    "rgb8": ("u1", 3), "bgra8": ("u1", 4), "mono8": ("u1", 1),
    "rgb16": ("u2", 3), "mono16": ("u2", 1), "32FC1": ("f4", 1),
}

class CvBridge:
    def imgmsg_to_cv2(self, message, encoding="passthrough"):
        kind, channels = KINDS[message.encoding]
        kind = np.dtype((">" if message.is_bigendian else "<") + kind)
        shape = (message.height, message.step // kind.itemsize // channels, channels)
        pixels = np.ndarray(shape=shape, dtype=kind, buffer=message.data)
        pixels = pixels[:, : message.width] if channels > 1 else pixels[:, : message.width, 0]
        pixels = np.ascontiguousarray(pixels)
        if message.is_bigendian:
            raise AttributeError("newbyteorder")
        return pixels if encoding == "passthrough" else pixels[..., ::-1]
"""
WRONG = IMITATION.replace("return pixels if", "return pixels[::-1] if")
CRASHING = """
import os, signal

class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
UNIMPORTABLE = "raise AttributeError('_ARRAY_API not found')\n"
Install = Callable[[str], Bridge]


@contextmanager
def cv_bridge_of(source: str, folder: Path) -> Iterator[Bridge]:
    """The bridge that is found when a package cv_bridge of this source comes before any other."""
    (folder / "cv_bridge").mkdir()
    (folder / "cv_bridge" / "__init__.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "cv_bridge"]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(folder)
        find_bridge.cache_clear()
        try:
            yield find_bridge()
        finally:
            sys.modules.pop("cv_bridge", None)
            find_bridge.cache_clear()


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    with ExitStack() as stack:
        yield lambda source: stack.enter_context(cv_bridge_of(source, tmp_path))


@pytest.fixture(scope="module", params=["imitation", "real"])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bridge]:
    if request.param == "imitation":
        with cv_bridge_of(IMITATION, tmp_path_factory.mktemp("imitation")) as bridge:
            yield bridge
    else:
        bridge = find_bridge()
        if bridge.converter is None:
            pytest.skip(str(bridge))
        yield bridge


@pytest.fixture
def bridge(found: Bridge, monkeypatch: pytest.MonkeyPatch) -> Bridge:
    monkeypatch.setattr(images, "find_bridge", lambda: found)
    return found


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (CRASHING, "killed by signal 11"),
        (UNIMPORTABLE, "_ARRAY_API not found"),
        (WRONG, "it gives other pixels than expected"),
    ],
)
def test_a_cv_bridge_that_does_not_work_is_found_out_before_it_is_used(
    install: Install, source: str, words: str
) -> None:
    bridge = install(source)
    assert bridge.converter is None and bridge.is_broken
    assert f"it does not work with NumPy {np.__version__}" in str(bridge) and words in str(bridge)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(image_from_message(message_of(pixels, "rgb8")), pixels)


def test_it_is_found_out_and_logged_before_the_first_image(
    install: Install, node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    install(UNIMPORTABLE)
    CameraInput(
        node, LocalizerParameters, ImageCounts(), lambda message: None, lambda: None
    ).destroy()
    assert (
        "images are decoded without cv_bridge: it does not work with NumPy"
        in capfd.readouterr().err
    )


def test_no_cv_bridge_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    bridge = find_bridge.__wrapped__()
    assert (
        str(bridge) == "images are decoded without cv_bridge: it is not installed"
        and not bridge.is_broken
    )


def test_cv_bridge_decodes_what_it_gets_right_and_only_that(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def decode(message: Image, encoding: str) -> np.ndarray:
        asked.append(message.encoding)
        return original(message, encoding)

    original = bridge.converter.imgmsg_to_cv2
    monkeypatch.setattr(bridge.converter, "imgmsg_to_cv2", decode)
    pixels = np.arange(48, dtype=np.uint8).reshape(2, 8, 3)
    for padding in (0, 3, 1):  # the last one shears what it decodes
        np.testing.assert_array_equal(
            image_from_message(message_of(pixels, "rgb8", padding)), pixels
        )
    image_from_message(message_of(pixels[..., :2], "yuyv"))
    assert asked == ["rgb8", "rgb8"]


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_both_ways_give_equal_arrays(
    bridge: Bridge, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[encoding]
    draw = np.random.default_rng(len(encoding))
    for case in range(24):
        height, width = (2 * int(size) for size in draw.integers(1, 9, 2))
        raw = draw.integers(0, 256, (height, width, layout.pixel_bytes)).astype(np.uint8)
        padding = int(draw.integers(0, 3)) * (layout.pixel_bytes if case % 2 else 1)
        message = message_of(raw, encoding, padding, bigendian=case % 3 == 0)
        convert = depth_from_message if encoding == "32FC1" else image_from_message
        with np.errstate(invalid="ignore"):
            given = convert(message)
            with monkeypatch.context() as patch:
                patch.setattr(images, "find_bridge", lambda: Bridge(None))
                expected = convert(message)
        assert given.dtype == expected.dtype and not np.shares_memory(
            given, np.frombuffer(message.data, np.uint8)
        )
        np.testing.assert_array_equal(given, expected)
        if bridge.takes(message, layout):
            ours, theirs = pixels_by_numpy(message, layout), bridge.pixels(message, layout)
            assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()
