"""The localizer's services."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Empty, Trigger

from vggt3_ros.errors import SceneError
from vggt3_ros.nodes.localizer.active import ActiveLocalizer
from vggt3_ros.nodes.localizer.output import LocalizerOutput
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.runtime.lifecycle import ManagedNode
from vggt3_ros.nodes.runtime.open_scene import SceneProblem, library_of
from vggt3_ros.nodes.runtime.worker import in_executor
from vggt3_ros.scene.library import is_scene
from vggt3_ros.srv import LoadScene

_INACTIVE = "the localizer is not active; activate it"


class LocalizerServices:
    """Answers requests; scenes are loaded by another thread while the executor goes on.

    They live as long as the node, so that an answer in the making survives every transition of the
    lifecycle.
    """

    def __init__(
        self, node: ManagedNode[LocalizerParameters, LocalizerOutput, ActiveLocalizer]
    ) -> None:
        self.paused = False
        self._node = node
        # an answer is due also while a simulation's time stands still
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        group = ReentrantCallbackGroup()  # while one coroutine waits, others are called
        for kind, name, answer in (
            (LoadScene, "load_scene", self._on_load),
            (Trigger, "pause", self._on_pause),
            (Trigger, "resume", self._on_resume),
            (Empty, "relocalize", self._on_relocalize),
            (Trigger, "relocalize_and_wait", self._on_relocalize_and_wait),
        ):
            node.create_service(kind, f"localizer/{name}", answer, callback_group=group)

    def _library(self) -> Path:
        """Where relative paths lie: where scene_dir is a scene, among those beside it."""
        folder = library_of(self._node, self._node.settings.scene_dir)
        return folder.parent if is_scene(folder) else folder

    async def _on_load(
        self, request: LoadScene.Request, response: LoadScene.Response
    ) -> LoadScene.Response:
        active = self._node.active
        if active is None:
            response.code = LoadScene.Response.INACTIVE
            response.message = _INACTIVE
            return response
        try:
            loading = await in_executor(self._node, active.load(request.path, self._library()))
            scene_id, message = loading.result()
        except CancelledError:  # the localizer was deactivated meanwhile
            response.code = LoadScene.Response.INACTIVE
            response.message = _INACTIVE
        except SceneError as error:
            response.code = (
                error.code if isinstance(error, SceneProblem) else LoadScene.Response.NOT_FOUND
            )
            response.message = str(error)
        else:
            response.code = LoadScene.Response.SUCCESS
            response.scene_id = scene_id
            response.message = message
        return response

    def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._switch(True, "paused; images are left out", response)

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._switch(False, "localizing again", response)

    def _on_relocalize(self, request: Empty.Request, response: Empty.Response) -> Empty.Response:
        """Answers at once, as behaviour trees wait 20 ms by default."""
        if self._node.active is not None:
            self._node.active.forget()
        else:
            self._node.get_logger().warning(f"relocalize is ignored: {_INACTIVE}")
        return response

    async def _on_relocalize_and_wait(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        active = self._node.active
        if active is None:
            response.message = _INACTIVE
            return response
        asked = active.relocalize()
        timer = self._node.create_timer(
            self._node.settings.relocalize_timeout,
            lambda: active.give_up(asked),
            clock=self._clock,
        )
        try:
            answer = await in_executor(self._node, asked.answer)
            response.success, response.message = answer.result()
        except CancelledError:  # the localizer was deactivated meanwhile
            response.message = _INACTIVE
        finally:
            self._node.destroy_timer(timer)
        return response

    def _switch(self, paused: bool, message: str, response: Trigger.Response) -> Trigger.Response:
        if self._node.active is None:
            response.message = _INACTIVE
            return response
        self.paused = paused
        response.success = True
        response.message = message
        return response
