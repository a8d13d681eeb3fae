"""A drive whose map comes apart: every part is made as if it alone had been driven.

Landmarks of one part say nothing about where another one lies. So each becomes a scene of its own,
by the same rules as any other: what is refused as a drive is refused as a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vggt3_ros.errors import InputError
from vggt3_ros.laps import Laps
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct
from vggt3_ros.progress import StageProgress
from vggt3_ros.scene.scene import Scene, Sibling

# of a part: the fewer there are, the more easily a flat surface folds them, and the more of them
# there are to be tried; the mapper waits for as many before it makes a map
_MIN_FRAMES = 8
_IN_NONE = "nothing ties it to other frames: it is in no part of the map"


@dataclass(frozen=True, eq=False)
class Drive:
    """What a collection of frames became: `largest`, and `others` that nothing ties to it, all
    verified unless there is only one. frames: their names, in order; in_none: of those that are in
    no part, where there is a verified one.
    """

    largest: Reconstruction
    others: tuple[Reconstruction, ...]
    frames: tuple[str, ...]
    in_none: tuple[str, ...]

    def scenes(self, names: Sequence[str]) -> tuple[Scene, ...]:
        """The scenes of all parts, the largest first; each knows the others as its siblings, in
        folders of these names.
        """
        every = [part.scene for part in (self.largest, *self.others)]
        siblings = [
            Sibling(scene.scene_id, name, scene.own_frames)
            for scene, name in zip(every, names, strict=True)
        ]
        return tuple(
            replace(scene, siblings=(*siblings[:row], *siblings[row + 1 :]))
            for row, scene in enumerate(every)
        )


def parts_of_drive(
    whole: Reconstruction,
    network: Vggt3,
    settings: ReconstructionSettings,
    progress: StageProgress | None = None,
) -> Drive:
    """The parts of a map that `network` made by `settings`, each a reconstruction of its own.

    A verified map stays as it is, and others are made of its frames without landmarks; one that
    only falls into parts is replaced by the largest of them that is verified: its frames are its
    own, and its `skipped` names those that are in no part. Nothing is sought where the time was
    given by a budget. progress(stage, 0..1) starts again with every part, and may raise to cancel.
    """
    budget = settings.budget
    if not whole.groups or (budget is not None and budget.seconds is not None):
        return _drive(whole, [whole])
    laps = Laps()
    found = _verified_parts(whole, network, settings, progress)
    laps.lap("parts")
    if whole.scene.is_verified:
        found = [whole, *found]
    drive = _drive(whole, found or [whole])
    largest = drive.largest
    if largest is not whole and largest.scene.is_verified:
        kept = set(largest.scene.keyframes.names)
        lost = [(name, _IN_NONE) for name in drive.in_none if name not in kept]
        largest = replace(largest, skipped=(*whole.skipped, *lost))
    return replace(drive, largest=_with_seconds(largest, whole, laps))


def _drive(whole: Reconstruction, parts: Sequence[Reconstruction]) -> Drive:
    """The drive that fell into these parts."""
    names = whole.scene.keyframes.names
    taken = {name for part in parts for name in part.scene.own_frames}
    in_none = [name for name in names if taken and name not in taken]
    return Drive(parts[0], tuple(parts[1:]), names, tuple(in_none))


def _verified_parts(
    whole: Reconstruction,
    network: Vggt3,
    settings: ReconstructionSettings,
    progress: StageProgress | None,
) -> list[Reconstruction]:
    """What becomes of the groups of a map, and of those that they fall into; the largest first."""

    def report(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(f"a part: {stage}", fraction)

    found = []
    waiting = _groups(whole)
    while waiting:
        group = waiting.pop(0)
        try:
            made = reconstruct(group, network, settings, report)
        except InputError:  # too little, alone
            continue
        if made.scene.is_verified:
            found.append(made)
        smaller = [each for each in _groups(made) if len(each) < len(group)]
        waiting = sorted(waiting + smaller, key=len, reverse=True)
    return sorted(found, key=lambda part: len(part.scene.own_frames), reverse=True)


def _groups(made: Reconstruction) -> list[list[Frame]]:
    """Frames of the groups that are large enough to be tried, the largest first."""
    frames = _named(made)
    groups = []
    for group in sorted(made.groups, key=len, reverse=True):
        if len(group) >= _MIN_FRAMES:
            groups.append([frames[index] for index in sorted(group)])
    return groups


def _named(made: Reconstruction) -> list[Frame]:
    """The frames, called as the keyframes of the whole are."""
    names = made.scene.keyframes.names
    return [replace(frame, name=name) for frame, name in zip(made.frames, names, strict=True)]


def _with_seconds(made: Reconstruction, whole: Reconstruction, laps: Laps) -> Reconstruction:
    """The reconstruction, with the time that the whole took, and seeking parts."""

    def added(before: dict[str, float], more: dict[str, float]) -> dict[str, float]:
        return {**before, "parts": more["parts"], "total": before["total"] + more["total"]}

    return replace(
        made,
        seconds=added(whole.seconds, laps.seconds),
        cpu_seconds=added(whole.cpu_seconds, laps.cpu_seconds),
    )
