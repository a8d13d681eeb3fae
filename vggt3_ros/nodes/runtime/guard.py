"""What callbacks raise ends no node, nor is it lost: it is logged and counted, and whoever asked
gets an answer.
"""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.node import Node

from vggt3_ros.errors import Vggt3Error

_THROTTLE = 5.0  # seconds between messages of the same error in the log
_MAX_PLACES = 100  # whose last message is remembered
# seconds after waiting itself has failed, so that a lasting fault does not take a whole core
_PAUSE = 0.2


class GuardedNode(Node):
    """A node that survives what its callbacks raise. `errors_survived` counts it; threads of its
    own call `survive`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.errors_survived = 0
        # by kind and place: when it was logged last
        self._logged_at: dict[tuple[object, ...], float] = {}
        super().__init__(*args, **options)

    @property
    def made_by(self) -> str:
        """Whose the scenes are that this node saves: its full name and ROS domain."""
        return f"{self.get_fully_qualified_name()} in ROS domain {self.context.get_domain_id()}"

    def create_service(
        self, srv_type: Any, srv_name: str, callback: Callable[..., Any], **options: Any
    ) -> Any:
        """As of any node, but who asks gets an answer also when the callback raises: that it has
        failed.
        """

        async def answer(request: Any, response: Any) -> Any:
            try:
                answered = callback(request, response)
                return await answered if inspect.isawaitable(answered) else answered
            except Exception as error:
                self.survive(error)
                return _failure(srv_type, request, error)

        return super().create_service(srv_type, srv_name, answer, **options)

    def survive(self, error: BaseException) -> None:
        """Log an error, with a traceback if it is unexpected, but not every time when it comes
        again and again.
        """
        self.errors_survived += 1
        place = traceback.extract_tb(error.__traceback__)[-1:]
        key = (type(error), *((frame.filename, frame.lineno) for frame in place))
        if time.monotonic() - self._logged_at.get(key, -_THROTTLE) < _THROTTLE:
            return
        if len(self._logged_at) >= _MAX_PLACES:
            self._logged_at.clear()
        self._logged_at[key] = time.monotonic()
        if isinstance(error, Vggt3Error):
            self.get_logger().warning(f"ignored: {error}")
            return
        how = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.get_logger().error(
            f"survived a bug in this program ({self.errors_survived} errors so far):\n{how}"
        )


class GuardedExecutor(SingleThreadedExecutor):
    """Runs callbacks of every kind, rclpy's own as well, and tells guarded nodes what theirs raise.

    What callbacks of other nodes raise is raised, and so are KeyboardInterrupt, SystemExit,
    ExternalShutdownException.
    """

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for a callback and run it, or go on with a coroutine."""
        try:
            task, entity, node = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return
        except Exception as error:
            if isinstance(error, ExternalShutdownException) or not self.context.ok():
                raise
            self._survive(None, error)
            time.sleep(_PAUSE)
            return
        task()
        raised = task.exception()
        if isinstance(raised, ExternalShutdownException):
            raise raised
        if raised is None or (_was_taken_in_vain(entity) and isinstance(raised, InvalidHandle)):
            return  # of the latter: it was destroyed before its turn came, and nobody misses it
        self._survive(node, raised)

    def _survive(self, node: Node | None, error: Exception) -> None:
        """Tell the node whose callback it was; of what is nobody's, tell any. Raises the error if
        it is not guarded.
        """
        for each in [node] if node is not None else self.get_nodes():
            if isinstance(each, GuardedNode):
                each.survive(error)
                return
        raise error


def _was_taken_in_vain(entity: Any) -> bool:
    """Whether a task has failed before its callback, when a message was taken, for instance one
    that is damaged.

    Then the executor shall wait for the entity, and others of its callback group, again. rclpy does
    not see to that, and the node would hear nothing any more.
    """
    if not getattr(entity, "_executor_event", False):
        return False
    entity._executor_event = False
    entity.callback_group.ending_execution(entity)
    return True


def failure_text(error: BaseException) -> str:
    """What to say of an error that nobody expected to who asked."""
    return (
        str(error)
        if isinstance(error, Vggt3Error)
        else f"failed by an unexpected error, see the log: {error!r}"
    )


def _failure(kind: Any, request: Any, error: Exception) -> Any:
    """The answer of a service that has failed, as far as its type has words for that."""
    response = kind.Response()
    what = failure_text(error)
    if hasattr(response, "message"):
        response.message = what
    if hasattr(kind.Response, "FAILED"):
        response.code = kind.Response.FAILED
    refused = SetParametersResult(successful=False, reason=what)
    if kind is SetParameters:
        response.results = [refused for _ in request.parameters]
    elif kind is SetParametersAtomically:
        response.result = refused
    return response
