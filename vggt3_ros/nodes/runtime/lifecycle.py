"""What the mapper and the localizer share as lifecycle nodes: parameters, transitions that fail
with a reason.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vggt3_ros.allocation import keep_freed_memory
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.interrupts import ENDING_SIGNALS, Interrupts
from vggt3_ros.nodes.runtime.given import rcl_arguments, unused
from vggt3_ros.nodes.runtime.guard import GuardedExecutor, GuardedNode
from vggt3_ros.nodes.runtime.load_network import free_unused_memory
from vggt3_ros.nodes.runtime.parameter_values import Settings, change, declare, read
from vggt3_ros.nodes.runtime.ros_arguments import initialize

_WAKE_UP = 0.2  # seconds between looks at whether a signal came
# seconds in which a second signal is no impatience: a terminal and ros2 launch may both send one
_SAME_WISH = 1.0
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE


class Stage(Protocol):
    """What a node has between two transitions of its lifecycle."""

    def close(self) -> None:
        """Undo what making it did."""


Configured = TypeVar("Configured", bound=Stage)
Active = TypeVar("Active", bound=Stage)
Made = TypeVar("Made")


class ManagedNode(GuardedNode, LifecycleNode, Generic[Settings, Configured, Active]):
    """A lifecycle node whose subclass makes what it has while it is configured, and while it is
    active.

    `configure` checks what can be checked and makes publishers; `activate` loads to the device and
    subscribes. What they make is `configured` and `active`, None at other times, and is closed by
    the transitions back. What they raise is logged, and the node stays in the state it was in.
    Parameters can be changed while it is unconfigured, some of them at any time: then `settings`
    are others, and `settings_changed` is called.
    """

    def __init__(self, name: str, parameters: type[Settings], **options: Any) -> None:
        # Undeclared ones come as far as our callback, which can say what was probably meant, and
        # refuses them.
        super().__init__(name, allow_undeclared_parameters=True, **options)
        declare(self, parameters)
        self.settings = parameters()  # the defaults, until it is configured
        self.configured: Configured | None = None
        self.active: Active | None = None
        self.add_on_set_parameters_callback(self._on_set_parameters)

    def configure(self) -> Configured:
        """Check `settings`, make publishers. What is raised leaves nothing behind."""
        raise NotImplementedError

    def activate(self, configured: Configured) -> Active:
        """Load and subscribe. What is raised leaves nothing behind."""
        raise NotImplementedError

    def settings_changed(self) -> None:
        """Take over changed `settings` where they are not looked up at each use; called by the
        executor's thread.
        """

    def autostart(self) -> bool:
        """Configure and activate, if the parameter `autostart` asks for it; False when that
        failed.
        """
        if not self.get_parameter("autostart").value:
            return True
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition of the lifecycle; see `configure`."""

        def configure() -> Configured:
            self.settings = read(self, type(self.settings))
            return self.configure()

        self.configured = self._try("configure", configure)
        return FAILURE if self.configured is None else SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition of the lifecycle; see `activate`."""
        configured = self.configured
        assert configured is not None, "no other node is activated"
        self.active = self._try("activate", lambda: self.activate(configured))
        if self.active is None:
            free_unused_memory()
            return FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition of the lifecycle: free the device."""
        self._end_active()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition of the lifecycle: destroy publishers, forget everything."""
        self._end_configured()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition of the lifecycle, from any state."""
        self.stop()
        return SUCCESS

    def stop(self) -> None:
        """Undo whatever was done; the node can be destroyed then."""
        self._end_active()
        self._end_configured()

    def _end_active(self) -> None:
        if self.active is not None:
            self._try("deactivate", self.active.close)
            self.active = None
            free_unused_memory()

    def _end_configured(self) -> None:
        if self.configured is not None:
            self._try("clean up", self.configured.close)
            self.configured = None

    def _try(self, what: str, action: Callable[[], Made]) -> Made | None:
        """The result of an action; None if it failed, for a reason that is in the log then."""
        try:
            return action()
        except Vggt3Error as error:
            self.get_logger().error(f"cannot {what}: {error}")
        except Exception:
            self.get_logger().error(
                f"cannot {what}, because of a bug in this program:\n{traceback.format_exc()}"
            )
        return None

    def _on_set_parameters(self, changes: list[Any]) -> SetParametersResult:
        in_use = self.configured is not None
        result, self.settings = change(self, changes, self.settings, in_use)
        if result.successful and in_use:
            self.settings_changed()
        return result


def run(node_classes: Sequence[Callable[[], Any]], args: list[str] | None = None) -> None:
    """Make the nodes, start those that start themselves, and spin until SIGINT or SIGTERM; ends the
    process.

    Exit code 0 after a signal, 1 with a message when ROS cannot use the arguments or a node cannot
    be made or started. Signals do not wait while networks are loaded. rclpy's own handlers would
    shut down in the middle of things.
    """
    keep_freed_memory()
    interrupts = Interrupts(ENDING_SIGNALS, _SAME_WISH, may_wait=False)
    interrupts.install()
    arguments = rcl_arguments(sys.argv[1:] if args is None else args)
    nodes: list[Any] = []
    failed = False
    try:
        initialize(arguments)
        executor = GuardedExecutor()
        for make in node_classes:
            nodes.append(make())
            executor.add_node(nodes[-1])
        for warning in unused(arguments, nodes):
            nodes[0].get_logger().warning(warning)
        failed = not all(node.autostart() for node in nodes if isinstance(node, ManagedNode))
        interrupts.may_wait = True
        while not (failed or interrupts.came()):
            executor.spin_once(timeout_sec=_WAKE_UP)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Vggt3Error as error:
        print(f"error: {error}", file=sys.stderr)
        failed = True
    finally:
        interrupts.may_wait = True
        with suppress(KeyboardInterrupt):  # of the impatient
            for node in nodes:
                if isinstance(node, ManagedNode):
                    node.stop()
                node.destroy_node()
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the process is at its end already
        rclpy.try_shutdown()
    sys.exit(1 if failed else 0)
