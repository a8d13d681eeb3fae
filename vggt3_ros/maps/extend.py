"""A scene extended by new images: they are mapped where the scene has them, and joined to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.laps import Laps
from vggt3_ros.maps.merge import CannotMergeError, MergeSettings, merge
from vggt3_ros.maps.odometry import places
from vggt3_ros.maps.siblings import NamedScene, Siblings, join_siblings
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.reconstruct import (
    Reconstruction,
    ReconstructionSettings,
    reconstruct,
)
from vggt3_ros.pipeline.refit import refit_joined
from vggt3_ros.progress import StageProgress
from vggt3_ros.scene.scene import Scene

_MIN_LOCATED = 3  # new frames that have to be found in the scene
_MAX_ELSEWHERE = 1 / 3  # that odometry has elsewhere, of those that it ties together


@dataclass(frozen=True, eq=False)
class Extended:
    """The new scene; how many of the new frames were found in the old one; names and reasons of
    those that carry none of the new one's landmarks; what else it lacks, in sentences; and seconds
    by stage: `localize`, `map`, `join`, `memory`, and in `total`. joined: names of siblings of the
    old one that it holds as well; apart: of others, with reasons.
    """

    scene: Scene
    located: int
    unconnected: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    seconds: Mapping[str, float]
    joined: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()


def extend(
    scene: Scene,
    name: str,
    frames: Sequence[Frame],
    network: Vggt3,
    settings: MergeSettings | None = None,
    progress: StageProgress | None = None,
    how: ReconstructionSettings | None = None,
    siblings: Siblings | None = None,
) -> Extended:
    """A new scene of a verified one, called `name`, and of new frames, in the frame of the old one.

    Frames that are found in the scene tie the others, by what they see in common and by their prior
    poses (odometry, in metres and any frame) where they bring some. What the network remembers is
    of all keyframes where the scene has images of its own, and of the old ones otherwise.
    how: the new frames are mapped, but for what the scene settles: metres, refined depth, images.
    siblings: of the scene; those that the new frames tie to it are merged with it, too.
    progress(stage, 0..1) may raise to cancel. Raises CannotMergeError where fewer than three of the
    frames are found in the scene, or the new ones do not hold together.
    """

    def report(first: float, last: float) -> StageProgress:
        def told(stage: str, fraction: float) -> None:
            if progress is not None:
                progress(stage, first + (last - first) * fraction)

        return told

    laps = Laps()
    known = _located(scene, name, frames, network, report(0.0, 0.2))
    known = _in_one_place(scene, name, frames, known)
    laps.lap("localize")
    made = _mapped(scene, frames, known, network, _settings(scene, how), report(0.2, 0.7))
    laps.lap("map")
    names = [name, f"images added {made.scene.created[:16]}"]
    merged = merge([scene, made.scene], names, settings, report(0.7, 0.8), frame_of=0)
    reunion = join_siblings(
        NamedScene(merged.scene, f"{name} with the new images"),
        siblings or Siblings(),
        settings,
        report(0.8, 0.9),
    )
    laps.lap("join")
    whole = reunion.scene
    if whole.images is not None:
        whole = refit_joined(whole, network, report(0.9, 1.0))
    laps.lap("memory")
    return Extended(
        _without_parent(whole, made.scene),
        len(known),
        _unconnected(made),
        tuple(dict.fromkeys((*merged.left_out, *reunion.left_out))),
        laps.seconds,
        reunion.joined,
        reunion.apart,
    )


def _mapped(
    scene: Scene,
    frames: Sequence[Frame],
    known: Mapping[int, Tensor],
    network: Vggt3,
    settings: ReconstructionSettings,
    progress: StageProgress,
) -> Reconstruction:
    """The new frames as a map of their own, where the scene has those that are known."""
    placed = [
        replace(frame, prior_world_from_cam=_prior(scene, frames, index, known))
        for index, frame in enumerate(frames)
    ]
    made = reconstruct(placed, network, settings, progress)
    if not made.scene.is_verified:
        raise CannotMergeError(
            f"the new images do not hold together as a map: {made.scene.verdict.reason}"
        )
    return made


def _unconnected(made: Reconstruction) -> tuple[tuple[str, str], ...]:
    """Names and reasons of the new frames that carry no landmarks."""
    tied = made.scene.keyframes_with_landmarks
    loose = [
        (name, "it sees too little of what the others see")
        for index, name in enumerate(made.scene.keyframes.names)
        if index not in tied
    ]
    return (*made.skipped, *loose)


def _without_parent(scene: Scene, new: Scene) -> Scene:
    """The scene, which is of whoever made the new images one; of these, nobody has the folder."""
    parents = tuple(each for each in scene.parents if each.scene_id != new.scene_id)
    return replace(scene, parents=parents, made_by=new.made_by)


def _located(
    scene: Scene, name: str, frames: Sequence[Frame], network: Vggt3, progress: StageProgress
) -> dict[int, Tensor]:
    """Poses map_from_cam (4, 4) of the frames that are found in the scene, by their index."""
    if not scene.is_verified:
        raise SceneError(
            f"{name} cannot be extended: poses in it cannot be verified"
            f" ({scene.verdict.reason}); map the place again"
        )
    localizer = Localizer(scene, network)
    known = {}
    reasons = []
    for index, frame in enumerate(frames):
        progress("localize", index / len(frames))
        answer = localizer.localize(frame)
        if answer.is_verified and answer.map_from_cam is not None:
            known[index] = answer.map_from_cam
        else:
            reasons.append(f"{frame.label}: {answer.reason}")
    if len(known) < _MIN_LOCATED:
        raise CannotMergeError(
            f"{len(known)} of {len(frames)} new images were found in {name}, {_MIN_LOCATED} are"
            f" needed ({'; '.join(reasons[:3])}); take some that show what it shows"
        )
    return known


def _in_one_place(
    scene: Scene, name: str, frames: Sequence[Frame], known: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """The frames found, without the few that odometry says were found elsewhere. Raises
    CannotMergeError where they are not few: one of the places looks like the other.
    """
    groups = places(known, [frame.prior_world_from_cam for frame in frames])
    if not scene.is_metric or not groups:
        return dict(known)
    most = len(groups[0])
    elsewhere = {number for group in groups[1:] for number in group}
    if len(elsewhere) > _MAX_ELSEWHERE * most:
        raise CannotMergeError(
            f"{len(elsewhere) + most} of the new images were found in {name}, but {len(elsewhere)}"
            f" of them not where odometry has them by the other {most}: one place looks like"
            " another, or odometry jumped"
        )
    return {number: pose for number, pose in known.items() if number not in elsewhere}


def _prior(
    scene: Scene, frames: Sequence[Frame], index: int, known: Mapping[int, Tensor]
) -> Tensor | None:
    """Where the map has a frame: by its odometry from the nearest other one that was found, or, if
    it has none, where it was found itself; None where nothing tells.

    One that was found is better known by that, but a map takes its priors to be of one accuracy:
    beside some that are exact, it would not let the others be off by as much as odometry is.
    """
    own = frames[index]
    others = [i for i in known if i != index and frames[i].prior_world_from_cam is not None]
    if own.prior_world_from_cam is None or not scene.is_metric or not others:
        return known.get(index)
    near = min(others, key=lambda i: abs(i - index))
    near_prior = frames[near].prior_world_from_cam
    assert near_prior is not None
    return known[near] @ se3_inverse(near_prior) @ own.prior_world_from_cam


def _settings(scene: Scene, how: ReconstructionSettings | None) -> ReconstructionSettings:
    """How the new frames are mapped: as the scene was."""
    how = how or ReconstructionSettings(steps=max(scene.ttt_steps, 1))
    return replace(
        how,
        anchor=AnchorSettings(priors_are_metric=scene.is_metric),
        dense=_dense(scene),
        keep_images=scene.images is not None,
        image_size=max(scene.input_size),
        map_frame=scene.map_frame,
    )


def _dense(scene: Scene) -> DenseSettings | None:
    if scene.depth is None:
        return None
    return DenseSettings(long_side=max(scene.depth.depth.shape[1:]))
