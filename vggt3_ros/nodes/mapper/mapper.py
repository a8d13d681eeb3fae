"""What the mapper does, apart from ROS: collect, reconstruct, save, load; every method may be
called by any thread.
"""

from __future__ import annotations

import math
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.geometry.drift import Drift
from vggt3_ros.maps.extend import Extended
from vggt3_ros.model.network import Vggt3
from vggt3_ros.nodes.mapper.collector import Collector
from vggt3_ros.nodes.mapper.mapping_job import Base, CanceledError, MappingJob, MappingResult
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.dense import DENSE
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings, landmark_settings
from vggt3_ros.pipeline.points import PointSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings
from vggt3_ros.scene.library import clear_leftovers, is_scene, meant_folder, prune
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import check_target, save_scene


class InactiveError(Vggt3Error):
    """The node is not active."""


class TooFewFramesError(Vggt3Error):
    """The collection is not worth a reconstruction yet."""


class BusyError(Vggt3Error):
    """One reconstruction at a time."""


class Mapper:
    """A collection that is being filled, a reconstruction while there is one, and the newest scene.

    library: the folder that scenes are saved in, and which those of the same made_by are deleted
    from when they are too many. settings(): those of this moment; a reconstruction goes by those at
    its beginning.

    on_scene(scene, folder): there is a new scene. say(message, failed): what happened, for people.
    on_change(): the status is another one. They are called by the thread in which it happens.
    network is set while active.
    """

    def __init__(
        self,
        settings: Callable[[], MapperParameters],
        library: Path,
        made_by: str,
        on_scene: Callable[[Scene, Path], None],
        say: Callable[[str, bool], None],
        on_change: Callable[[], None],
    ) -> None:
        self.collector = Collector(settings)
        self.library = library
        if is_scene(library):
            raise SceneError(
                f"scene_dir {library} is a scene itself; name a folder that scenes can be put into"
            )
        check_target(self.library / ".new")
        clear_leftovers(self.library)
        self.network: Vggt3 | None = None
        self.scene: Scene | None = None
        self._folder = library  # that the scene is in
        self.job: MappingJob | None = None
        self.paused = False
        self._settings = settings
        self._made_by = made_by
        reconstruction_settings(settings(), made_by)  # in good time, should they not fit
        self.say = say
        self._on_scene = on_scene
        self._on_change = on_change
        self._lock = threading.RLock()

    def place(self, path: str) -> Path:
        """Where a user means a scene to be saved; relative paths lie in the library. Raises
        SceneError.
        """
        folder = meant_folder(path, self.library)
        if folder == self.library:
            raise SceneError(
                f"{path!r} is the folder of all scenes, {folder}; name one for this scene in it"
            )
        return folder

    @property
    def active_network(self) -> Vggt3:
        """Raises InactiveError while there is none."""
        network = self.network
        if network is None:
            raise InactiveError("the mapper is not active; activate it")
        return network

    def begin(self, network: Vggt3) -> None:
        """Reconstruct with this network from now on, until `stop`."""
        self.collector.restart_idle_time()
        self.network = network

    def start(
        self,
        save_path: Path | None = None,
        overwrite: bool = False,
        extend: bool | None = None,
    ) -> MappingJob:
        """Begin to reconstruct the collection. extend: the newest scene has to grow by it (True),
        or must not (False); None: by the parameter.

        Raises InactiveError, BusyError, TooFewFramesError, and FileExistsError or SceneError for a
        place that nothing may or can be saved to, or where there is no scene that can be extended.
        """
        if save_path is not None:
            _check_may_write(save_path, overwrite)
            check_target(save_path)
        with self._lock:
            network = self.active_network
            if self.job is not None:
                raise BusyError("a reconstruction is running already; wait for it or cancel it")
            count = len(self.collector)
            settings = self._settings()
            if count < settings.min_frames:
                raise TooFewFramesError(
                    f"the collection has {count} keyframes, a reconstruction needs"
                    f" {settings.min_frames} (min_frames); move the camera on"
                )
            how = reconstruction_settings(settings, self._made_by)
            base = self._base(settings.extend if extend is None else extend, bool(extend))
            frames = self.collector.take()
            job = MappingJob(
                frames,
                network,
                how,
                self.library,
                save_path,
                self._on_change,
                self._on_end,
                lambda plan: self.say(plan, False),
                base,
            )
            self.job = job
        job.start()
        return job

    def _base(self, wanted: bool, required: bool) -> Base | None:
        """The scene that the collection extends, None for a scene of its own."""
        scene = self.scene
        if required and (scene is None or not scene.is_verified):
            why = "there is no scene yet" if scene is None else scene.verdict.reason
            raise SceneError(f"there is no scene whose poses are verified to extend: {why}")
        if not wanted or scene is None or not scene.is_verified:
            return None
        return Base(scene, self._folder, required)

    def start_if_due(self) -> None:
        """Begin if the settings ask for it now.

        Standing still makes the first scene only: a robot that drives on through its map and halts
        again would otherwise be left with the map of its last few metres.
        """
        due = self.collector.due(standing_still=self.scene is None)
        if due is None or self.job is not None or self.network is None or self.paused:
            return
        try:
            self.start()
        except (BusyError, TooFewFramesError):  # somebody was faster
            return
        self.say(f"reconstructing, because {due}", False)

    def resume(self) -> None:
        """Collect again after `paused`."""
        self.collector.restart_idle_time()
        self.paused = False

    def stop(self) -> None:
        """Cancel a reconstruction, wait for its end, free the network; its frames are back in the
        collection.
        """
        job = self.job
        if job is not None:
            job.cancel()
            job.wait()
        self.network = None

    def use(self, scene: Scene, folder: Path) -> None:
        """Make a scene the newest."""
        with self._lock:
            self.scene = scene
            self._folder = folder
            self._on_scene(scene, folder)

    def save(self, scene: Scene, path: Path, overwrite: bool) -> Path:
        """Save a scene and return the folder. Raises FileExistsError and SceneError."""
        _check_may_write(path, overwrite)
        return save_scene(scene, path)

    def _on_end(self, job: MappingJob, outcome: MappingResult | BaseException) -> None:
        """In the reconstruction's thread: take over what was made, or give the frames back."""
        try:
            if isinstance(outcome, MappingResult):
                self.use(outcome.scene, outcome.folder)
                prune(self.library, self._settings().keep_scenes, self._made_by, outcome.folder)
                self.say(_summary(outcome), False)
            else:
                self._give_back(job.frames, outcome)
        # of what publishes a scene, or deletes old ones: the scene is on the disk
        except Exception as error:
            traceback.print_exc()
            self.say(
                f"the end of a reconstruction failed by a bug in this program: {error!r}", True
            )
        finally:
            with self._lock:
                self.job = None
        self._on_change()

    def _give_back(self, frames: tuple[Frame, ...], error: BaseException) -> None:
        self.collector.give_back(frames)
        what = f"was {error}" if isinstance(error, CanceledError) else f"failed: {error}"
        if not isinstance(error, Vggt3Error):
            traceback.print_exception(error)
            what = f"failed by a bug in this program: {error!r}"
        again = f"its {len(frames)} frames are back in the collection"
        self.say(f"reconstruction {what}; {again}", not isinstance(error, CanceledError))


def _check_may_write(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; choose another path, or set overwrite")


def reconstruction_settings(settings: MapperParameters, made_by: str) -> ReconstructionSettings:
    """What the node's parameters ask for. Raises InputError."""
    landmarks = landmark_settings(settings.prior_poses) if settings.landmarks else None
    dense = DENSE[settings.dense]
    anchor = AnchorSettings(
        landmarks, camera_height_m=settings.camera_height or None, drift=_drift(settings)
    )
    return ReconstructionSettings(
        steps=settings.ttt_steps,
        chunk=settings.chunk or None,
        anchors=settings.anchors or None,
        redundant_views=settings.redundant_views,
        budget=_budget(settings),
        points=PointSettings(max_points=settings.max_points),
        anchor=anchor,
        dense=None if dense is None else replace(dense, seconds=settings.dense_seconds or None),
        keep_images=settings.keep_images,
        map_frame=settings.map_frame,
        made_by=made_by,
    )


def _drift(settings: MapperParameters) -> Drift | None:
    scale = settings.drift_percent / 100
    rotation = math.radians(settings.drift_deg_per_m)
    return Drift(scale, rotation) if scale or rotation else None


def _budget(settings: MapperParameters) -> Budget | None:
    seconds = settings.map_budget_s or None
    memory_bytes = round(1e9 * settings.map_budget_gb) or None
    return Budget(seconds, memory_bytes) if seconds or memory_bytes else None


def _summary(mapped: MappingResult) -> str:
    made = mapped.made
    scene = mapped.scene
    if isinstance(made, Extended):
        return _extension(made, mapped)
    scale = (
        f"metric ({scene.metric_source})"
        if scene.is_metric
        else f"not metric ({scene.metric_source})"
    )
    views = made.views
    alike = len(views.queried) + len(views.repeated)
    count = f"{len(scene.keyframes)} keyframes" + (f" ({alike} show nothing new)" if alike else "")
    spared = ""
    if "budget" in scene.report:
        budget = scene.report["budget"]
        spared = f"; planned: {budget['planned']['in_words']}"
        spared += "".join(f"; left out for the budget: {each}" for each in budget["left_out"])
    note = scene.report.get("depth_given_up") or scene.report.get("depth", {}).get("note")
    depth = f"; depth: {note}" if note else ""
    skipped = "".join(f"; frame {name} was not used: {reason}" for name, reason in made.skipped[:3])
    return (
        f"scene {scene.scene_id[:8]} of {count} in {mapped.seconds:.1f} s, {scale},"
        f" landmarks: {scene.verdict.reason}; saved in"
        f" {mapped.folder}{mapped.apart}{depth}{spared}{skipped}"
        + (f"; a scene of its own: {mapped.alone}" if mapped.alone else "")
    )


def _extension(made: Extended, mapped: MappingResult) -> str:
    scene = made.scene
    loose = "".join(f"; frame {name}: {reason}" for name, reason in made.unconnected[:3])
    return (
        f"scene {scene.scene_id[:8]} of {len(scene.keyframes)} keyframes extends"
        f" {scene.parents[0].name} in {mapped.seconds:.1f} s, {made.located} of its new frames were"
        f" found there, landmarks: {scene.verdict.reason}; saved in"
        f" {mapped.folder}{mapped.apart}{loose}"
    )
