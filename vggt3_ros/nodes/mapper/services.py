"""The mapper's action and services."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from vggt3_ros.action import Reconstruct
from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.model.network import Vggt3
from vggt3_ros.nodes.mapper.mapper import BusyError, InactiveError, Mapper, TooFewFramesError
from vggt3_ros.nodes.mapper.mapping_job import CanceledError, MappingJob
from vggt3_ros.nodes.runtime.guard import GuardedNode, failure_text
from vggt3_ros.nodes.runtime.open_scene import SceneProblem, open_scene
from vggt3_ros.nodes.runtime.worker import in_executor
from vggt3_ros.srv import LoadScene, SaveScene

_FEEDBACK_PERIOD = 0.2  # seconds
_CODES = {
    InactiveError: Reconstruct.Result.INACTIVE,
    BusyError: Reconstruct.Result.BUSY,
    TooFewFramesError: Reconstruct.Result.TOO_FEW_FRAMES,
    FileExistsError: Reconstruct.Result.EXISTS,
}


class MapperServices:
    """Answers requests; what takes long happens in other threads while the executor goes on.

    They live as long as the node, so that an answer in the making survives every transition of the
    lifecycle. mapper(): None while the node is not configured.
    """

    def __init__(self, node: GuardedNode, mapper: Callable[[], Mapper | None]) -> None:
        self._node = node
        self._mapper = mapper
        # feedback also while a simulation's time stands still
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._disk = ThreadPoolExecutor(1, "disk")
        group = ReentrantCallbackGroup()  # while one coroutine waits, others are called
        for kind, name, answer in (
            (SaveScene, "save_scene", self._on_save),
            (LoadScene, "load_scene", self._on_load),
            (Trigger, "reset", self._on_reset),
            (Trigger, "pause", self._on_pause),
            (Trigger, "resume", self._on_resume),
        ):
            node.create_service(kind, f"mapper/{name}", answer, callback_group=group)
        self._action = ActionServer(
            node,
            Reconstruct,
            "mapper/reconstruct",
            self._on_goal,
            callback_group=group,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def _active(self) -> tuple[Mapper, Vggt3]:
        """The mapper and its network. Raises InactiveError while the node is not active."""
        mapper = self._mapper()
        if mapper is None:
            raise InactiveError("the mapper is not configured; configure and activate it")
        return mapper, mapper.active_network

    async def _on_goal(self, goal: Any) -> Reconstruct.Result:
        try:
            return await self._reconstruct(goal)
        except Exception as error:
            self._node.survive(error)
            if goal.is_active:
                goal.abort()
            return Reconstruct.Result(message=failure_text(error))

    async def _reconstruct(self, goal: Any) -> Reconstruct.Result:
        path = goal.request.save_path
        overwrite = goal.request.overwrite
        try:
            mapper, _ = self._active()
            extend = {Reconstruct.Goal.EXTEND: True, Reconstruct.Goal.NEW: False}.get(
                goal.request.extend
            )
            job = mapper.start(mapper.place(path) if path else None, overwrite, extend)
        except (Vggt3Error, FileExistsError) as error:
            goal.abort()
            code = _CODES.get(type(error), Reconstruct.Result.FAILED)
            return Reconstruct.Result(code=code, message=str(error))
        return await self._follow(goal, job)

    async def _follow(self, goal: Any, job: MappingJob) -> Reconstruct.Result:
        """Feedback until the reconstruction has ended, then its result."""

        def tell() -> None:
            if goal.is_cancel_requested:
                job.cancel()
            goal.publish_feedback(
                Reconstruct.Feedback(
                    stage=job.stage, progress=float(job.progress), frames=len(job.frames)
                )
            )

        timer = self._node.create_timer(_FEEDBACK_PERIOD, tell, clock=self._clock)
        try:
            outcome = await in_executor(self._node, job.outcome)
        finally:
            self._node.destroy_timer(timer)
        result = Reconstruct.Result(frames=len(job.frames))
        error = outcome.exception()
        if error is None:
            mapped = outcome.result()
            result.scene_id = mapped.scene.scene_id
            result.path = str(mapped.copy or mapped.folder)
            result.seconds = mapped.seconds
            result.message = f"saved in {mapped.folder}{mapped.apart}"
            if mapped.copy:
                result.message += f" and at {mapped.copy}"
            if mapped.uncopied:
                result.message += f", but not at save_path: {mapped.uncopied}"
                goal.abort()
                return result
            result.code = Reconstruct.Result.SUCCESS
            goal.succeed()
            return result
        result.message = str(error)
        if isinstance(error, CanceledError) and goal.is_cancel_requested:
            result.code = Reconstruct.Result.CANCELED
            goal.canceled()
        else:
            result.code = Reconstruct.Result.FAILED
            goal.abort()
        return result

    async def _on_save(
        self, request: SaveScene.Request, response: SaveScene.Response
    ) -> SaveScene.Response:
        try:
            mapper, _ = self._active()
            scene = mapper.scene
            if scene is None:
                response.code = SaveScene.Response.NO_SCENE
                response.message = "there is no scene yet; reconstruct or load one first"
                return response
            if not request.path:
                raise SceneError("path is empty; name a folder")
            saving = self._disk.submit(
                mapper.save, scene, mapper.place(request.path), request.overwrite
            )
            folder = (await in_executor(self._node, saving)).result()
        except InactiveError as error:
            response.code = SaveScene.Response.INACTIVE
            response.message = str(error)
        except FileExistsError as error:
            response.code = SaveScene.Response.EXISTS
            response.message = str(error)
        except SceneError as error:
            response.code = SaveScene.Response.FAILED
            response.message = str(error)
        else:
            response.code = SaveScene.Response.SUCCESS
            response.message = f"saved in {folder}"
            response.scene_id = scene.scene_id
            response.path = str(folder)
        return response

    async def _on_load(
        self, request: LoadScene.Request, response: LoadScene.Response
    ) -> LoadScene.Response:
        try:
            mapper, network = self._active()
            if mapper.job is not None:
                raise BusyError("a reconstruction is running; wait for it or cancel it")
            loading = self._disk.submit(open_scene, request.path, network, mapper.library)
            scene, folder = (await in_executor(self._node, loading)).result()
            if self._active()[0] is not mapper:
                raise InactiveError("the mapper was reconfigured meanwhile; try again")
            mapper.use(scene, folder)
        except InactiveError as error:
            response.code = LoadScene.Response.INACTIVE
            response.message = str(error)
        except BusyError as error:
            response.code = LoadScene.Response.BUSY
            response.message = str(error)
        except SceneError as error:
            code = error.code if isinstance(error, SceneProblem) else LoadScene.Response.NOT_FOUND
            response.code = code
            response.message = str(error)
        else:
            response.code = LoadScene.Response.SUCCESS
            response.scene_id = scene.scene_id
            response.message = f"scene {scene.scene_id[:8]} from {folder} is the newest now"
            mapper.say(response.message, False)
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset(mapper: Mapper) -> str:
            count = len(mapper.collector)
            mapper.collector.clear()
            return f"{count} collected frames were forgotten; the scene stays"

        return self._do(reset, response)

    def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def pause(mapper: Mapper) -> str:
            mapper.paused = True
            return "paused; the collected frames stay"

        return self._do(pause, response)

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def resume(mapper: Mapper) -> str:
            mapper.resume()
            return "collecting again"

        return self._do(resume, response)

    def _do(self, what: Callable[[Mapper], str], response: Trigger.Response) -> Trigger.Response:
        """Answer a Trigger: it succeeds, unless the node is not active."""
        try:
            mapper, _ = self._active()
            response.message = what(mapper)
        except InactiveError as error:
            response.message = str(error)
            return response
        mapper.say(response.message, False)
        response.success = True
        return response
