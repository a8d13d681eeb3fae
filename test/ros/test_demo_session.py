"""How the demo waits for the last of what it expects."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vggt3_ros.nodes.demo.client import ClientThread
from vggt3_ros.nodes.demo.processes import Processes
from vggt3_ros.nodes.demo.session import DemoError, Session


def test_settling_ends_with_all_that_can_come_or_when_nothing_new_does(tmp_path: Path) -> None:
    with ClientThread() as thread, Processes(tmp_path) as processes:
        session = Session(processes, thread, lambda: None)
        begin = time.monotonic()
        session.settle(time.monotonic, "nothing", 60.0, 30.0, is_all=lambda: True)
        assert time.monotonic() - begin < 30  # though there is news all the time
        session.settle(lambda: 1, "nothing", 60.0, 0.2)
        with pytest.raises(DemoError, match=r"in vain for the end; read"):
            session.settle(time.monotonic, "the end", 0.3, 0.2)
