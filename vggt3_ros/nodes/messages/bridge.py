"""cv_bridge, where it is installed and works with the NumPy that is there.

Its compiled core is made for one NumPy: with another one, importing it fails, or seems to succeed
and the first conversion ends the process (SIGSEGV). So it is tried in a process of its own, once,
before any image comes, and is used for what it got right there: with NumPy 2, some versions stumble
over big-endian images alone. It is not used for compressed images, where all it does is to call the
same OpenCV, with flags that differ between its versions: Humble's make 16 bits 8 and turn
photographs.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from array import array
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image as ImageMessage

from vggt3_ros.nodes.messages.raw_pixels import LAYOUTS, Layout, pixels_by_numpy

_PATIENCE = 60.0  # seconds
_TRIAL = (
    "import sys; sys.path[:] = sys.argv[1:]; from vggt3_ros.nodes.messages.bridge import"
    " print_right; print_right()"
)


class Bridge(NamedTuple):
    """A CvBridge and what it decodes: encodings, in which byte order. Where it is None, the problem
    says why.
    """

    converter: Any
    decodes: frozenset[tuple[str, bool]] = frozenset()  # True: big-endian
    problem: str = ""
    is_broken: bool = False  # installed, and still of no use

    def takes(self, message: ImageMessage, layout: Layout) -> bool:
        """Whether it decodes this message: rows that do not consist of whole pixels come out
        sheared.
        """
        is_known = (message.encoding, bool(message.is_bigendian)) in self.decodes
        return is_known and message.step % layout.pixel_bytes == 0

    def pixels(self, message: ImageMessage, layout: Layout) -> NDArray[Any]:
        """What `pixels_by_numpy` gives, for messages that it takes."""
        pixels = self.converter.imgmsg_to_cv2(message, "passthrough")
        return np.array(pixels, order="C").reshape(message.height, message.width, layout.channels)

    def __str__(self) -> str:
        """What to tell people."""
        if self.converter is None:
            return f"images are decoded without cv_bridge: {self.problem}"
        rest = [name for name in LAYOUTS if (name, False) not in self.decodes]
        rest += [] if any(bigendian for _, bigendian in self.decodes) else ["big-endian images"]
        return "images are decoded by cv_bridge" + (
            f", without it for {', '.join(rest)}" if rest else ""
        )


@functools.lru_cache(maxsize=1)
def find_bridge() -> Bridge:
    """The bridge of this process. The first call takes as long as another Python needs to try
    it.
    """
    if importlib.util.find_spec("cv_bridge") is None:
        return Bridge(None, problem="it is not installed")
    command = [sys.executable, "-c", _TRIAL, *sys.path]
    try:
        trial = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Bridge(None, problem=f"it could not be tried ({error})", is_broken=True)
    if trial.returncode != 0:
        problem = (
            f"it does not work with NumPy {np.__version__} ({_end(trial)}); install one that is"
            " built for it"
        )
        return Bridge(None, problem=problem, is_broken=True)
    try:
        from cv_bridge import CvBridge

        bridge = Bridge(
            CvBridge(), frozenset(map(tuple, json.loads(trial.stdout.splitlines()[-1])))
        )
        bridge.pixels(_sample("rgb8", LAYOUTS["rgb8"], False), LAYOUTS["rgb8"])
    except Exception as error:  # what else is loaded here gets in its way
        return Bridge(
            None,
            problem=f"it works in a process of its own, but not here ({error!r})",
            is_broken=True,
        )
    return bridge


def _end(trial: subprocess.CompletedProcess[str]) -> str:
    """How a trial failed, in a line."""
    if trial.returncode < 0:
        return f"it is killed by signal {-trial.returncode}"
    return (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]


def print_right() -> None:
    """Print what cv_bridge decodes as numpy does: [encoding, big-endian], as JSON. For a process
    that may die of it.
    """
    from cv_bridge import CvBridge

    converter = CvBridge()
    # goes through the core and its NumPy
    converter.imgmsg_to_cv2(_sample("rgb8", LAYOUTS["rgb8"], False), "bgr8")
    bridge = Bridge(converter)
    tried = product(LAYOUTS, (False, True))
    right = [(name, bigendian) for name, bigendian in tried if _is_right(bridge, name, bigendian)]
    if not right:
        raise ValueError("it gives other pixels than expected")
    print(json.dumps(right))


def _is_right(bridge: Bridge, encoding: str, bigendian: bool) -> bool:
    layout = LAYOUTS[encoding]
    message = _sample(encoding, layout, bigendian)
    try:
        pixels = bridge.pixels(message, layout)
    except Exception:  # it does not know the encoding, or uses what this NumPy no longer has
        return False
    expected = pixels_by_numpy(message, layout)
    return pixels.dtype == expected.dtype and np.array_equal(pixels, expected)


def _sample(encoding: str, layout: Layout, bigendian: bool) -> ImageMessage:
    """4 x 2 pixels, and one more in each row that does not count."""
    step = 5 * layout.pixel_bytes
    message = ImageMessage(
        height=2, width=4, encoding=encoding, step=step, is_bigendian=int(bigendian)
    )
    message.data = array("B", range(2 * step))
    return message
