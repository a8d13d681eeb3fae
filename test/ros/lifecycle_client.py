"""A lifecycle node in a process of its own, and what any client can ask of it; a graph of our own
to ask from.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from vggt3_ros.nodes.runtime.parameters import NodeParameters, parameters_of
from vggt3_ros.srv import LoadScene

from ..patience import PATIENCE_S
from .processes import NodeProcess, ask


class LifecycleClient:
    """Talks to the node `name`; `restart` brings it from any state to one where it is active with
    given parameters.
    """

    def __init__(
        self, node: Node, process: NodeProcess, name: str, declared: type[NodeParameters]
    ) -> None:
        self.node, self.process, self.name = node, process, name
        self._defaults = {
            each.name: each.default for each in parameters_of(declared) if each.name != "autostart"
        }
        # Made before anybody asks, so that the node has found them when it answers the first time.
        kinds = {"change_state": ChangeState, "set_parameters_atomically": SetParametersAtomically}
        kinds |= {"load_scene": LoadScene, "pause": Trigger, "resume": Trigger}
        self._clients: dict[str, Any] = {
            service: node.create_client(kind, f"{name}/{service}")
            for service, kind in kinds.items()
        }

    # -- lifecycle
    # ----------------------------------------------------------------------------------------------

    def restart(self, **parameters: Any) -> None:
        """Forget everything, take these parameters (the others are the defaults), be active."""
        self.forget()
        assert self.set({**self._defaults, **parameters}) == ""
        assert self.transition("configure") and self.transition("activate"), self.process.log[
            -2000:
        ]

    def forget(self) -> None:
        """Unconfigured, from any state."""
        if self.state() == "active":
            assert self.transition("deactivate")
        if self.state() == "inactive":
            assert self.transition("cleanup")
        assert self.state() == "unconfigured"

    def transition(self, name: str) -> bool:
        request = ChangeState.Request(transition=Transition(label=name))
        return self._call(ChangeState, "change_state", request).success

    def state(self) -> str:
        return ask(
            self.node, GetState, f"{self.name}/get_state", GetState.Request()
        ).current_state.label

    def set(self, parameters: dict[str, Any]) -> str:
        """Set parameters together; why they were refused, empty when they were not."""
        given = []
        for name, value in parameters.items():
            kind = Parameter.Type.DOUBLE_ARRAY if isinstance(value, (tuple, list)) else None
            given.append(Parameter(name, kind, value).to_parameter_msg())
        request = SetParametersAtomically.Request(parameters=given)
        answer = self._call(SetParametersAtomically, "set_parameters_atomically", request).result
        return "" if answer.successful else answer.reason

    # -- services
    # ----------------------------------------------------------------------------------------------

    def load(self, path: object) -> LoadScene.Response:
        return self._call(LoadScene, "load_scene", LoadScene.Request(path=str(path)))

    def trigger(self, name: str) -> Trigger.Response:
        """Call pause, resume or, of a mapper, reset."""
        return self._call(Trigger, name, Trigger.Request())

    def _client(self, kind: Any, name: str) -> Any:
        client = self._clients.get(name) or self.node.create_client(kind, f"{self.name}/{name}")
        self._clients[name] = client
        assert client.wait_for_service(PATIENCE_S), (
            f"no service {name}; the log:\n{self.process.log}"
        )
        return client

    def _call(self, kind: Any, name: str, request: Any) -> Any:
        answer = self._client(kind, name).call(request, timeout_sec=PATIENCE_S)
        assert answer is not None, f"no answer of {name}; the log:\n{self.process.log}"
        return answer

    def is_sound(self) -> None:
        """Fails when it ended, or when something went wrong that nobody expected."""
        assert (
            self.process.is_running
            and "Traceback" not in self.process.log
            and "bug in this program" not in self.process.log
        )


def came_of_waiting(error: BaseException) -> bool:
    """Whether rclpy raised an error while it waited for callbacks, and not one of them."""
    return any(
        frame.name == "wait_for_ready_callbacks"
        for frame in traceback.extract_tb(error.__traceback__)
    )


@contextmanager
def graph(namespace: str, *arguments: str) -> Iterator[Node]:
    """A node `tester` with a context and a spinning executor of its own, for fixtures that outlive
    a test.

    arguments: of ROS, such as "-r", "/tf:=/robot1/tf".
    """
    context = Context()
    context.init(args=["--ros-args", *arguments] if arguments else [])
    node = Node("tester", namespace=namespace, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        while context.ok():
            try:
                executor.spin()
            except ExternalShutdownException:
                return
            # Of an action client that another thread is still making, and of what another thread
            # destroys, while rclpy waits for both.
            except (AttributeError, InvalidHandle) as error:
                if not came_of_waiting(error):
                    raise
                continue
            return

    thread = threading.Thread(target=spin, name="executor", daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()
        context.try_shutdown()
