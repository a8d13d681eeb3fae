"""The node of `vggt3 demo`: hears what camera, mapper and localizer say, and tells them what to
do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger
from torch import Tensor

from vggt3_ros.action import Reconstruct
from vggt3_ros.msg import LocalizationStatus, MapperStatus, SceneInfo
from vggt3_ros.nodes.messages.conversions import pose_from_message, stamp_ns
from vggt3_ros.nodes.messages.qos import LATCHED
from vggt3_ros.nodes.runtime.guard import GuardedExecutor
from vggt3_ros.nodes.runtime.ros_arguments import initialize

NAMESPACE = "vggt3"
AnyNode = TypeVar("AnyNode", bound=Node)
_STATES = {
    getattr(LocalizationStatus, name): name.lower()
    for name in ("UNINITIALIZED", "LOCALIZED", "UNCERTAIN", "LOST")
}
_QUEUE = 1000  # messages that may wait here: whoever counts must not lose any


class DemoClient(Node):
    """Remembers what it heard; everything may be read by other threads. Stamps and times are
    nanoseconds.

    attempts: what the localizer said of images, by their stamps. poses and true_poses:
    map_from_base (4, 4) by stamp. pose_times, image_times: when they arrived here, by stamp; of an
    image its camera_info. leg: what the simulated camera does; path_m: the metres that it went.
    scene_id, points: of the map that was published, and how many points.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("demo", start_parameter_services=False, **options)
        self.mapper: MapperStatus | None = None
        self.localizer: LocalizationStatus | None = None
        self.feedback: Reconstruct.Feedback | None = None
        self.scene_id = ""
        self.points = 0
        self.leg = ""
        self.attempts: dict[int, LocalizationStatus] = {}
        self.poses: dict[int, Tensor] = {}
        self.pose_times: dict[int, int] = {}
        self.image_times: dict[int, int] = {}
        self.images_heard = 0
        self.true_poses: dict[int, Tensor] = {}
        self.path_m = 0.0
        for kind, topic, callback, qos in (
            (MapperStatus, "mapper/status", self._on_mapper, _QUEUE),
            (LocalizationStatus, "localizer/status", self._on_localizer, _QUEUE),
            (PoseWithCovarianceStamped, "pose", self._on_pose, _QUEUE),
            (PoseStamped, "sim_camera/true_pose", self._on_true_pose, _QUEUE),
            (String, "sim_camera/leg", self._on_leg, LATCHED),
            (CameraInfo, "camera_info", self._on_camera_info, _QUEUE),
            (SceneInfo, "scene", self._on_scene, LATCHED),
            (PointCloud2, "points", self._on_points, LATCHED),
        ):
            self.create_subscription(kind, topic, callback, qos)
        self._next_leg: Client = self.create_client(Trigger, "sim_camera/next_leg")
        self._camera_parameters: Client = self.create_client(
            SetParameters, "sim_camera/set_parameters"
        )
        self._reconstruct: ActionClient = ActionClient(self, Reconstruct, "mapper/reconstruct")

    @property
    def nodes_are_active(self) -> bool:
        """Whether mapper and localizer are."""
        return (
            self.mapper is not None
            and self.localizer is not None
            and self._reconstruct.server_is_ready()
        )

    def listeners(self, topic: str) -> int:
        """How many nodes subscribe to a topic."""
        return int(self.count_subscribers(topic))

    @property
    def camera_is_ready(self) -> bool:
        """Whether the simulated camera takes orders."""
        return bool(
            self._next_leg.service_is_ready() and self._camera_parameters.service_is_ready()
        )

    def next_leg(self) -> Future:
        """Let the simulated camera drive on."""
        return self._next_leg.call_async(Trigger.Request())

    def forget_attempts(self) -> None:
        """Begin to note attempts and poses."""
        self.attempts = {}
        self.poses = {}
        self.pose_times = {}
        self.image_times = {}

    def show_images(self, on: bool) -> Future:
        """Let the simulated camera publish images, or stop it."""
        value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=on)
        request = SetParameters.Request(parameters=[Parameter(name="publish_images", value=value)])
        return self._camera_parameters.call_async(request)

    def reconstruct(self, save_path: str) -> Future:
        """Ask the mapper for a scene, in place of one that is there; the result is a goal handle.

        `feedback` tells how far it is.
        """
        goal = Reconstruct.Goal(save_path=save_path, overwrite=True)
        return self._reconstruct.send_goal_async(
            goal, lambda message: setattr(self, "feedback", message.feedback)
        )

    @property
    def localizer_state(self) -> str:
        """The state in the localizer's newest status, in lower case, such as "localized"."""
        return _STATES.get(self.localizer.state, "unknown") if self.localizer else "unknown"

    def _on_mapper(self, message: MapperStatus) -> None:
        self.mapper = message

    def _on_localizer(self, message: LocalizationStatus) -> None:
        if message.header.frame_id:  # otherwise it is about no image
            self.attempts[stamp_ns(message.header.stamp)] = message
        self.localizer = message

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        stamp = stamp_ns(message.header.stamp)
        self.pose_times[stamp] = time.time_ns()
        self.poses[stamp] = pose_from_message(message.pose.pose)

    def _on_true_pose(self, message: PoseStamped) -> None:
        pose = pose_from_message(message.pose)
        if self.true_poses:
            last = next(reversed(self.true_poses.values()))
            self.path_m += float((pose[:3, 3] - last[:3, 3]).norm())
        self.true_poses[stamp_ns(message.header.stamp)] = pose

    def _on_leg(self, message: String) -> None:
        self.leg = message.data

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.image_times[stamp_ns(message.header.stamp)] = time.time_ns()
        self.images_heard += 1

    def _on_scene(self, message: SceneInfo) -> None:
        self.scene_id = message.scene_id

    def _on_points(self, message: PointCloud2) -> None:
        self.points = message.width * message.height


class ClientThread:
    """A DemoClient and other nodes, served by a thread of their own from `start` on. Leaving the
    context ends it.
    """

    client: DemoClient

    def __init__(self) -> None:
        self._context = Context()
        self._thread: threading.Thread | None = None
        self._nodes: list[Node] = []
        self._error: BaseException | None = None

    def __enter__(self) -> ClientThread:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._thread is not None:
            self._executor.shutdown()
            self._thread.join()
            for node in self._nodes:
                node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def start(self) -> None:
        """Join the ROS graph. Best after other processes were started: it has threads, which do not
        survive a fork.
        """
        arguments = ["--ros-args", "--disable-external-lib-logs"]
        initialize(arguments, self._context)
        self._executor = GuardedExecutor(context=self._context)
        self.client = self.add(DemoClient)
        self._thread = threading.Thread(target=self._spin, name="demo client", daemon=True)
        self._thread.start()

    def add(self, make: Callable[..., AnyNode]) -> AnyNode:
        """Make another node, in the same namespace."""
        node = make(context=self._context, namespace=NAMESPACE)
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def check(self) -> None:
        """Raise what a callback has raised."""
        if self._error is not None:
            raise self._error

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except BaseException as error:
            self._error = error
