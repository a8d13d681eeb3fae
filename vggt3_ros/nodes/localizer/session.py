"""What the localizer does, apart from ROS: one scene, one tracker, one attempt after the other, all
in one thread.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.model.network import Vggt3
from vggt3_ros.nodes.camera.input import CameraFrame
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.runtime.open_scene import SceneProblem, open_scene
from vggt3_ros.pipeline.localization import Localization
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.recent import RecentImages
from vggt3_ros.pipeline.tracking import Tracked, Tracker, TrackingSettings
from vggt3_ros.scene.scene import Scene
from vggt3_ros.srv import LoadScene

NO_SCENE = "there is no scene yet; map the place, or load a scene"
_REACH = 3.0  # extents of the map, around its middle, within which an initial pose is believed


class LocalizationSession:
    """A network, the scene once there is one, and what is known about the camera's path.

    network: None once it has stopped, so that it is freed whoever still keeps this object, as rclpy
    keeps callbacks.
    """

    def __init__(self, settings: LocalizerParameters, network: Vggt3) -> None:
        self.network: Vggt3 | None = network
        self.scene: Scene | None = None
        self.folder = Path()  # of the scene
        self.tracker = Tracker(_tracking(settings))
        self._recent = RecentImages(_tracking(settings))
        self._how = LocalizerSettings(
            settings.refine,
            depth="refined" if settings.refine_depth else "none",
            propose=settings.propose,
            neighbours=settings.neighbours,
            note_sightings=settings.learn_changes,
        )
        self._localizer: Localizer | None = None
        self._initial: Tensor | None = None  # map_from_child that a person gave

    @property
    def _refines_depth(self) -> bool:
        return self._how.depth == "refined"

    @property
    def scene_id(self) -> str:
        """Of the scene in use, empty while there is none."""
        return self.scene.scene_id if self.scene else ""

    def take_over(self, settings: LocalizerParameters) -> None:
        """Track by these settings from the next attempt on."""
        self.tracker.settings = self._recent.settings = _tracking(settings)

    def use(self, path: str | Path, library: Path | None = None) -> str:
        """Use the scene that a path means from now on, and return what to say about it. What is
        known about the path stays where the scene continues the one before.

        library: where relative paths lie (default: here).

        Raises SceneError; the scene before stays in use then.
        """
        if self.network is None:
            raise InputError("the localizer is not active; activate it")
        wants_images = self._how.propose != "memory"
        scene, folder = open_scene(path, self.network, library, self._refines_depth, wants_images)
        try:
            self._localizer = Localizer(scene, self.network, self._how)
        except SceneError as error:  # of another network or without images, for instance
            raise SceneProblem(LoadScene.Response.INVALID, str(error)) from error
        goes_on = scene.continues(self.scene_id)
        self.scene = scene
        self.folder = folder
        self._recent.forget()
        if not goes_on:
            self.forget("no pose in this scene was confirmed yet")
        checked = (
            "poses are verified"
            if scene.is_verified
            else f"poses cannot be verified ({scene.verdict.reason})"
        )
        scale = "metric" if scene.is_metric else "not metric"
        said = f"localizing in scene {scene.scene_id[:8]} from {folder}: {scale}, {checked}"
        if self._refines_depth and scene.depth is None:
            said += "; it has no depth of keyframes to refine depth with"
        if self._localizer.no_local:
            said += f"; only its memory proposes poses: {self._localizer.no_local}"
        return said

    def stop(self) -> None:
        """Free the network; forget the scene and the path."""
        self.network = None
        self.scene = None
        self._localizer = None
        self.forget("the localizer was deactivated")

    def forget(self, reason: str) -> None:
        """Know nothing of the camera's path, its place or where its odometry is in the map."""
        self._initial = None
        self._recent.forget()
        self.tracker.reset(reason)

    def expect(self, map_from_child: Tensor) -> None:
        """Look there first with the next image: a hint, which is never believed unseen. Raises
        InputError if absurd.
        """
        if self.scene is None:
            raise InputError(NO_SCENE)
        positions = self.scene.map_from_keyframes[:, :3, 3]
        low = positions.amin(0)
        high = positions.amax(0)
        extent = max(float((high - low).norm()), 1.0)
        far = float((map_from_child[:3, 3] - (low + high) / 2).norm())
        if far > _REACH * extent:
            where = f"{far:.1f} m from the middle of a map {extent:.1f} m across"
            raise InputError(f"it lies {where}; click inside the map")
        self._initial = map_from_child

    def localize(
        self, seen: CameraFrame, cam_from_child: Tensor | None
    ) -> tuple[Localization, Tracked]:
        """Localize one frame: the answer to its image, and the state after it and those before.

        cam_from_child (4, 4): of the frame that initial poses are of, None while unknown. Raises
        InputError while there is no scene.
        """
        if self._localizer is None:
            raise InputError(NO_SCENE)
        stamp = seen.frame.stamp_ns
        hint = self.tracker.predicted_map_from_cam(stamp, seen.odom_from_cam)
        if self._initial is not None and cam_from_child is not None:
            hint = self._initial @ se3_inverse(cam_from_child)
            self._initial = None
        alone = self._localizer.localize(seen.frame, hint)
        together = self._recent.together(stamp, alone, seen.odom_from_cam)
        answer = self._localizer.localize_jointly(alone, together)
        return answer, self.tracker.update(stamp, answer, seen.odom_from_cam)


def _tracking(settings: LocalizerParameters) -> TrackingSettings:
    return TrackingSettings(
        confirmations=settings.confirmations,
        lost_after_s=settings.lost_after,
        joint_images=settings.joint_images,
        clock_jump_s=settings.clock_jump,
        drift_translation=settings.odom_drift,
    )
