"""A camera that drives through a simulated room in real time: images, calibration, TF, odometry,
and the truth.

Leg 0 is a drive to make a map of; leg 1 goes back beside it, where nothing was mapped from, with
much the same in view.
"""

from __future__ import annotations

from vggt3_ros.interrupts import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

import math
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import String
from std_srvs.srv import Trigger
from torch import Tensor

from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.se3 import rotation_vector, se3_inverse
from vggt3_ros.nodes.messages.conversions import header, pose_message
from vggt3_ros.nodes.messages.images import byte_array, image_message
from vggt3_ros.nodes.messages.qos import LATCHED, STATUS, image_qos
from vggt3_ros.nodes.messages.transforms import StaticTransformBroadcaster, TransformBroadcaster
from vggt3_ros.nodes.runtime.guard import GuardedNode
from vggt3_ros.nodes.runtime.lifecycle import run
from vggt3_ros.nodes.runtime.parameter_values import change, declare, read
from vggt3_ros.nodes.sim_camera.drive import base_from_camera, plan
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters
from vggt3_ros.nodes.sim_camera.playback import Playback
from vggt3_ros.worlds.film import Image, Lens, film
from vggt3_ros.worlds.odometry import DriftingOdometry

_ODOM_JUMP = (0.8, 0.6)  # metres: 1 m in all
# metres from one frame to the next beyond which nobody drove: legs that do not join
_SET_DOWN = 0.3
_JPEG_QUALITY = 90
_MAX_THREADS = 4  # that render
_BEGUN = 0.1  # of a leg's images: so many tell how fast rendering is
# of the duration of a leg: rendering that needs less for the rest of its images stays ahead of it
_AHEAD = 0.5
_NOISE_BANK = 1 << 16  # random numbers beyond those of one image: each image gets another stretch


class SimCamera(GuardedNode):
    """Plays each leg as soon as rendering stays ahead, and renders the next one meanwhile. An
    image that is not rendered in time is waited for. Its truth is the room's own frame: metres, Z
    up, the floor at z = 0.
    """

    def __init__(self, **options: Any) -> None:
        self._stopping = threading.Event()
        # destroy_node may be called for a node that is half made
        self._painter: threading.Thread | None = None
        super().__init__("sim_camera", allow_undeclared_parameters=True, **options)
        declare(self, SimCameraParameters)
        self._settings = s = read(self, SimCameraParameters)
        distortion = Distortion("plumb_bob", s.distortion) if any(s.distortion) else None
        self._lens = Lens.of(s.width, s.height, s.field_of_view, distortion)
        room, self._legs = plan(s)
        self._playback = Playback(
            [len(leg) for leg in self._legs], s.wait_to_start, s.wait_between_legs, s.loop
        )
        self._base_from_cam = base_from_camera()
        self._odometry = DriftingOdometry(
            self._map_from_base(), s.odom_scale_error, s.odom_turn_error
        )
        self._random = np.random.default_rng(s.seed)
        self._noise = (
            self._random.normal(0, s.noise, s.width * s.height * 3 + _NOISE_BANK)
            .round()
            .astype(np.int16)
        )

        self._image = self.create_publisher(ImageMessage, "image", image_qos("reliable"))
        self._compressed = None
        if s.compressed:
            self._compressed = self.create_publisher(
                CompressedImage, "image/compressed", image_qos("reliable")
            )
        self._info = self.create_publisher(CameraInfo, "camera_info", image_qos("reliable"))
        self._odom = self.create_publisher(Odometry, "odom", STATUS)
        self._truth = self.create_publisher(PoseStamped, "sim_camera/true_pose", STATUS)
        self._leg = self.create_publisher(String, "sim_camera/leg", LATCHED)
        self._label = ""
        self._transforms = TransformBroadcaster(self) if s.publish_tf else None
        self._mount = StaticTransformBroadcaster(self)
        self._mount.send(s.base_frame, s.camera_frame, self._now(), self._base_from_cam)
        self.create_service(Trigger, "sim_camera/next_leg", self._on_next_leg)
        self.create_service(Trigger, "sim_camera/teleport", self._on_teleport)
        self.create_service(Trigger, "sim_camera/odom_jump", self._on_odom_jump)

        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        reels = [film(room, leg, self._lens, s.supersample, threads) for leg in self._legs]
        self._images: list[list[Image]] = [[] for _ in self._legs]
        self._playable = 0  # legs that may begin
        self._tell("rendering")
        self._painter = threading.Thread(target=self._render, args=(reels,), daemon=True)
        self._painter.start()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._timer = self.create_timer(1 / s.rate, self._tick)

    def destroy_node(self) -> None:
        """Stop rendering, then go."""
        self._stopping.set()
        if self._painter is not None:
            self._painter.join()
        super().destroy_node()

    def _render(self, reels: list[Iterator[Image]]) -> None:
        s = self._settings
        log = self.get_logger()
        log.info(f"rendering {len(reels)} legs in images of {s.width}x{s.height} pixels")
        for number, reel in enumerate(reels):
            total = len(self._legs[number])
            images = self._images[number]
            begin = time.perf_counter()
            for image in reel:
                if self._stopping.is_set():
                    return
                images.append(image)
                done = len(images)
                left = (total - done) * (time.perf_counter() - begin) / done
                if done >= _BEGUN * total and left <= _AHEAD * total / s.rate:
                    self._playable = number + 1
                if done * 10 // total > (done - 1) * 10 // total:
                    log.info(f"rendered {done} of {total} images of leg {number}")

    def _tick(self) -> None:
        """Publish the frame that is due, then go on to the next one."""
        painting = self._painter is not None and self._painter.is_alive()
        if not painting and len(self._images[-1]) < len(self._legs[-1]):
            # no error that could be survived
            raise SystemExit("rendering has failed; the reason is above")
        if not self._is_rendered:
            return
        self._tell(self._playback.label)
        stamp = self._now()
        map_from_base = self._map_from_base()
        motion = self._odometry.move(map_from_base)
        self._publish_poses(stamp, map_from_base, motion)
        if self._settings.publish_images:
            self._publish_image(stamp)
        leg = self._playback.leg
        self._playback.advance()
        if self._playback.leg != leg:
            self._enter_leg(map_from_base)

    @property
    def _is_rendered(self) -> bool:
        """Whether the image that is due is, and the present leg may begin."""
        due = self._playback
        return self._playable > due.leg and len(self._images[due.leg]) > due.frame

    def _publish_poses(self, stamp: int, map_from_base: Tensor, motion: Tensor) -> None:
        s = self._settings
        if self._transforms is not None:
            self._transforms.send(s.odom_frame, s.base_frame, stamp, self._odometry.odom_from_base)
        odom = Odometry(header=header(s.odom_frame, stamp), child_frame_id=s.base_frame)
        odom.pose.pose = pose_message(self._odometry.odom_from_base)
        linear = odom.twist.twist.linear
        angular = odom.twist.twist.angular
        linear.x, linear.y, linear.z = (motion[:3, 3] * s.rate).tolist()
        angular.x, angular.y, angular.z = (rotation_vector(motion[:3, :3]) * s.rate).tolist()
        self._odom.publish(odom)
        self._truth.publish(
            PoseStamped(header=header(s.map_frame, stamp), pose=pose_message(map_from_base))
        )

    def _publish_image(self, stamp: int) -> None:
        s = self._settings
        image = self._images[self._playback.leg][self._playback.frame]
        if s.cover_lens:
            image = np.zeros_like(image)
        if s.noise > 0:
            first = int(self._random.integers(_NOISE_BANK))
            noise = self._noise[first : first + image.size].reshape(image.shape)
            image = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)
        self._info.publish(self._camera_info(stamp))
        self._image.publish(image_message(image, s.camera_frame, stamp))
        if self._compressed is not None:
            parameters = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)[1]
            message = CompressedImage(
                header=header(s.camera_frame, stamp), format="rgb8; jpeg compressed bgr8"
            )
            message.data = byte_array(encoded)
            self._compressed.publish(message)

    def _camera_info(self, stamp: int) -> CameraInfo:
        s = self._settings
        matrix = self._lens.intrinsics
        info = CameraInfo(header=header(s.camera_frame, stamp), width=s.width, height=s.height)
        info.distortion_model = "plumb_bob"
        info.d = list(s.distortion) or [0.0] * 5
        info.k = matrix.flatten().tolist()
        info.r = torch.eye(3).flatten().tolist()
        info.p = (
            torch.cat([matrix, torch.zeros(3, 1, dtype=matrix.dtype)], dim=1).flatten().tolist()
        )
        return info

    def _on_next_leg(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if not self._is_rendered:
            response.message = "the images are still being rendered; watch the topic sim_camera/leg"
            return response
        before = self._map_from_base()
        leg = self._playback.leg
        response.success, response.message = self._playback.next_leg()
        if self._playback.leg != leg:
            self._enter_leg(before)
        return response

    def _on_teleport(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """To the place of this leg that is farthest from here."""
        here = self._map_from_base()[:3, 3]
        places = self._legs[self._playback.leg][:, :3, 3]
        away = torch.linalg.vector_norm(places - here, dim=-1)
        self._playback.frame = int(away.argmax())
        self._odometry.carry(self._map_from_base())
        response.success = True
        response.message = f"{float(away.max()):.2f} m away"
        return response

    def _on_odom_jump(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._odometry.jump(*_ODOM_JUMP)
        response.success = True
        response.message = f"odometry is {math.hypot(*_ODOM_JUMP):g} m off"
        return response

    def _on_set_parameters(self, changes: list[Any]) -> SetParametersResult:
        result, self._settings = change(self, changes, self._settings)
        return result

    def _enter_leg(self, map_from_base: Tensor) -> None:
        """A leg begins where the last one ended, unless the robot was teleported: then somebody
        carries it there.
        """
        start = self._map_from_base()
        if torch.linalg.vector_norm(start[:3, 3] - map_from_base[:3, 3]) > _SET_DOWN:
            self._odometry.carry(start)

    def _map_from_base(self) -> Tensor:
        return self._legs[self._playback.leg][self._playback.frame] @ se3_inverse(
            self._base_from_cam
        )

    def _tell(self, label: str) -> None:
        if label != self._label:
            self._label = label
            self._leg.publish(String(data=label))
            self.get_logger().info(label)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def main(args: list[str] | None = None) -> None:
    """Run the simulated camera until SIGINT or SIGTERM."""
    run([SimCamera], args)


if __name__ == "__main__":
    main()
