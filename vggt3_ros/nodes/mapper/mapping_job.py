"""One reconstruction in the making, in a thread of its own: its progress, its cancellation, its
outcome.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.maps.extend import Extended, extend
from vggt3_ros.maps.merge import CannotMergeError, MergeSettings
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
    """The scene that a collection extends; required: otherwise, where its landmarks do not show
    enough of the frames, these become a scene of their own.
    """

    scene: Scene
    required: bool


@dataclass(frozen=True, eq=False)
class MappingResult:
    """A scene that is safely on the disk, and how many seconds it took altogether.

    made: the reconstruction, or how another scene was extended. alone: why it extends none; empty
    if it does, or was not asked to. folder: in the library. copy: at `save_path`, None if it is not
    there or was not asked for. uncopied: why it is not at `save_path` as well; empty if it is, or
    was not asked for.
    """

    made: Reconstruction | Extended
    alone: str
    folder: Path
    copy: Path | None
    seconds: float
    uncopied: str

    @property
    def scene(self) -> Scene:
        """What was made."""
        return self.made.scene


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
        self._report("save", 1.0)
        folder = save_scene(made.scene, self._library / folder_name(made.scene))
        copy = None
        uncopied = ""
        if self._save_path is not None:
            try:
                copy = save_scene(made.scene, self._save_path)
            except SceneError as error:
                uncopied = str(error)
        return MappingResult(made, alone, folder, copy, time.perf_counter() - begin, uncopied)

    def _made(
        self, network: Vggt3, settings: ReconstructionSettings, base: Base | None
    ) -> tuple[Reconstruction | Extended, str]:
        """The scene, and why it extends none."""
        alone = ""
        if base is not None:
            name = f"scene {base.scene.scene_id[:8]}"
            most = MergeSettings(max_points=settings.points.max_points)
            try:
                made = extend(base.scene, name, self.frames, network, most, self._report, settings)
                return made, ""
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
