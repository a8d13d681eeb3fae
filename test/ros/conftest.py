"""A ROS graph of our own for the tests: domain, context, a spinning node, and nodes as child
processes.

The whole folder is skipped where rclpy or our messages are missing.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vggt3_ros.nodes.runtime.middleware import middleware_variables

from .made_once import use_folder
from .processes import NodeProcess

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.executors import MultiThreadedExecutor
    from rclpy.node import Node

    from .localizer_client import LocalizerClient
    from .robot import Robot

_NEEDED = ("rclpy", "nav_msgs.msg", "tf2_msgs.msg", "vggt3_ros.msg")


def _missing() -> str | None:
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return (
                f"ROS tests need {name} ({error}): install vggt3_ros with ROS sourced, or with"
                " [ros-wheels]"
            )
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> None:
    """Before a test file of this folder is imported."""
    missing = _missing()
    if missing:
        pytest.skip(missing, allow_module_level=True)


@pytest.fixture(scope="session", autouse=True)
def ros_environment() -> Iterator[None]:
    """A domain that no other run on this machine uses, and this machine alone, whatever robot is on
    the network.
    """
    with pytest.MonkeyPatch.context() as patch, _free_domain() as domain:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        for name, value in middleware_variables(os.environ).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session", autouse=True)
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where workers share what one of them has made."""
    own = tmp_path_factory.getbasetemp()
    use_folder(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@contextmanager
def _free_domain() -> Iterator[int]:
    for domain in range(1, 101):
        with (Path(tempfile.gettempdir()) / f"vggt3_test_domain_{domain}").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield domain
            return
    pytest.fail("all 100 ROS domains are in use by tests")


@pytest.fixture
def ros_context() -> Iterator[Context]:
    """rclpy's default context, initialized without the arguments and signals of pytest."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    yield rclpy.get_default_context()
    rclpy.try_shutdown()


@pytest.fixture
def executor(ros_context: Context) -> Iterator[MultiThreadedExecutor]:
    """An executor that spins in the background; what a callback raises fails the test."""
    from rclpy.exceptions import InvalidHandle
    from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

    from .lifecycle_client import came_of_waiting

    executor = MultiThreadedExecutor(num_threads=4, context=ros_context)
    raised: list[BaseException] = []

    def spin() -> None:
        while True:
            try:
                executor.spin()
            except ExternalShutdownException:
                pass
            except BaseException as error:
                if isinstance(error, InvalidHandle) and came_of_waiting(error):
                    continue  # of what another thread destroyed meanwhile
                raised.append(error)
            return

    thread = threading.Thread(target=spin, name="executor", daemon=True)
    thread.start()
    yield executor
    executor.shutdown()
    thread.join()
    if raised:
        raise raised[0]


@pytest.fixture
def node(executor: MultiThreadedExecutor) -> Iterator[Node]:
    """A node `tester` in namespace /vggt3 whose callbacks are served in the background."""
    from rclpy.node import Node

    node = Node("tester", namespace="/vggt3")
    executor.add_node(node)
    yield node
    executor.remove_node(node)
    node.destroy_node()


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalizerClient]:
    """A localizer as a process, which the tests of a module share; not configured before the first
    of them.
    """
    from .localizer_client import running_localizer

    with running_localizer(tmp_path_factory.mktemp("localizer")) as client:
        yield client


@pytest.fixture
def robot(localizer: LocalizerClient) -> Iterator[Robot]:
    """The robot of the visit, before a localizer that has just loaded the scene."""
    with localizer.meet() as robot:
        yield robot


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """start_node("mapper_node", parameters={"autostart": True}) runs a node; see NodeProcess.

    All are killed at the end. pytest shows their logs when the test failed.
    """
    started: list[NodeProcess] = []

    def start(module: str, *arguments: str, **options: Any) -> NodeProcess:
        process = NodeProcess(
            tmp_path / f"{len(started)}-{module}.log", module, *arguments, **options
        )
        started.append(process)
        return process

    yield start
    for process in started:
        ended = "was running" if process.is_running else f"had ended with {process.exit_code}"
        process.kill()
        print(f"---- {process.module} {ended} ----\n{process.log}")
