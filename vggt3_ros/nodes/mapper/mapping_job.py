"""One reconstruction in the making, in a thread of its own: its progress, its cancellation, its
outcome.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.maps.apart import parts_of_drive
from vggt3_ros.maps.extend import Extended, extend
from vggt3_ros.maps.merge import CannotMergeError, MergeSettings
from vggt3_ros.maps.siblings import siblings_beside
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct
from vggt3_ros.scene.library import folder_name
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import save_scene


class CanceledError(Vggt3Error):
    """Somebody cancelled the reconstruction."""


@dataclass(frozen=True, eq=False)
class Base:
    """The scene that a collection extends, and the folder that it is in; required: otherwise, where
    its landmarks do not show enough of the frames, these become a scene of their own.
    """

    scene: Scene
    folder: Path
    required: bool


@dataclass(frozen=True, eq=False)
class MappingResult:
    """A scene that is safely on the disk, and how many seconds it took altogether.

    made: the reconstruction, or how another scene was extended. alone: why it extends none; empty
    if it does, or was not asked to. folder: in the library. copy: at `save_path`, None if it is not
    there or was not asked for. uncopied: why it is not at `save_path` as well; empty if it is, or
    was not asked for. parts: scenes and folders of the other parts of a map that came apart;
    in_none: how many frames are in no part.
    """

    made: Reconstruction | Extended
    alone: str
    folder: Path
    copy: Path | None
    seconds: float
    uncopied: str
    parts: tuple[tuple[Scene, Path], ...] = ()
    in_none: int = 0

    @property
    def scene(self) -> Scene:
        """What was made."""
        return self.made.scene

    @property
    def apart(self) -> str:
        """How the map came apart, in words; empty if it did not."""
        if isinstance(self.made, Extended):
            joined = [f"; {name} is tied to it now, and joined" for name in self.made.joined]
            stay = [f"; {name} stays apart: {reason}" for name, reason in self.made.apart]
            return "".join(joined + stay)
        if not self.parts:
            return f"; {self.in_none} frames are in no part of it" if self.in_none else ""
        others = ", ".join(f"{len(scene.own_frames)} in {folder}" for scene, folder in self.parts)
        return (
            f"; it came apart: {len(self.scene.own_frames)} frames are in this scene, {others},"
            f" {self.in_none} in none"
        )


class MappingJob:
    """Reconstructs frames, or extends a scene by them (`base`), and saves what comes of it, in
    `library` and, if given, at `save_path` too.

    on_end(job, outcome) gets what was made, or the error that ended it (CanceledError after
    `cancel`), and must not raise; the future `outcome` is fulfilled with the same afterwards.
    announce: told what is going to be done with a budget.
    """

    def __init__(
        self,
        frames: tuple[Frame, ...],
        network: Vggt3,
        settings: ReconstructionSettings,
        library: Path,
        save_path: Path | None,
        on_progress: Callable[[], None],
        on_end: Callable[[MappingJob, MappingResult | BaseException], None],
        announce: Callable[[str], None] | None = None,
        base: Base | None = None,
    ) -> None:
        self.frames = frames
        self.stage = "start"
        self.progress = 0.0
        self.outcome: Future[MappingResult] = Future()
        self._library = library
        self._save_path = save_path
        self._on_progress = on_progress
        self._on_end = on_end
        self._announce = announce
        self._canceled = threading.Event()
        # An argument, not an attribute: whoever keeps the job for its outcome must not keep the
        # network.
        arguments = (network, settings, base)
        self._thread = threading.Thread(
            target=self._run, args=arguments, name="reconstruction", daemon=True
        )

    def start(self) -> None:
        """Begin to reconstruct, in a thread of its own."""
        self._thread.start()

    def cancel(self) -> None:
        """End at the next step; a scene that is being saved is saved."""
        self._canceled.set()

    def wait(self) -> None:
        """Until the thread has ended."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self, network: Vggt3, settings: ReconstructionSettings, base: Base | None) -> None:
        outcome: MappingResult | BaseException
        try:
            outcome = self._map(network, settings, base)
        except BaseException as error:
            outcome = error
        try:
            self._on_end(self, outcome)
        # nobody else sees what a thread raises, and whoever waits for the outcome must get it
        except BaseException:
            traceback.print_exc()
        if isinstance(outcome, MappingResult):
            self.outcome.set_result(outcome)
        else:
            # it would keep everything alive that the reconstruction had in its hands
            outcome.__traceback__ = None
            self.outcome.set_exception(outcome)

    def _map(
        self, network: Vggt3, settings: ReconstructionSettings, base: Base | None
    ) -> MappingResult:
        begin = time.perf_counter()
        made, alone = self._made(network, settings, base)
        parts: tuple[tuple[Scene, Path], ...] = ()
        in_none = 0
        if isinstance(made, Reconstruction):
            drive = parts_of_drive(made, network, settings, self._report)
            every = (drive.largest, *drive.others)
            scenes = drive.scenes([folder_name(each.scene) for each in every])
            made = replace(drive.largest, scene=scenes[0])
            parts = tuple((scene, self._library / folder_name(scene)) for scene in scenes[1:])
            in_none = len(drive.in_none)
        self._report("save", 1.0)
        for scene, place in parts:  # first, since the last one written is the newest
            save_scene(scene, place)
        folder = save_scene(made.scene, self._library / folder_name(made.scene))
        copy = None
        uncopied = ""
        if self._save_path is not None:
            try:
                copy = save_scene(made.scene, self._save_path)
            except SceneError as error:
                uncopied = str(error)
        seconds = time.perf_counter() - begin
        return MappingResult(made, alone, folder, copy, seconds, uncopied, parts, in_none)

    def _made(
        self, network: Vggt3, settings: ReconstructionSettings, base: Base | None
    ) -> tuple[Reconstruction | Extended, str]:
        """The scene, and why it extends none."""
        alone = ""
        if base is not None:
            name = f"scene {base.scene.scene_id[:8]}"
            most = MergeSettings(max_points=settings.points.max_points)
            try:
                siblings = siblings_beside(base.folder, base.scene)
                return extend(
                    base.scene, name, self.frames, network, most, self._report, settings, siblings
                ), ""
            except CannotMergeError as error:
                if base.required:
                    raise
                alone = str(error)
        return reconstruct(
            self.frames, network, settings, self._report, None, self._announce
        ), alone

    def _report(self, stage: str, fraction: float) -> None:
        if self._canceled.is_set():
            raise CanceledError(f"cancelled at {100 * fraction:.0f} % ({stage})")
        self.stage = stage
        self.progress = fraction
        self._on_progress()
