"""A successor of a scene without what has gone since it was made, by logs of verified poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.landmarks.ageing import REACH, examine
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.part import part
from vggt3_ros.landmarks.verdict import MIN_LANDMARKS, MIN_SHARED
from vggt3_ros.maps.part import part_of
from vggt3_ros.maps.scene_log import SceneLog
from vggt3_ros.scene.scene import Parent, Scene
from vggt3_ros.scene.verification import MapVerdict

_MAX_GONE = 0.5  # of the landmarks that were looked for: beyond it, it is another place
_NEARLY_ALL = 0.9  # of its landmarks: a keyframe that loses so many goes, too


class CannotRefreshError(SceneError):
    """Nothing has gone, or so much that there is no telling what is left."""


@dataclass(frozen=True, eq=False)
class Refreshed:
    """The successor of a scene; names of the keyframes that went; numbers of landmarks before, of
    those looked for often enough to tell, and of those left; which have gone (before,); numbers of
    the views in the logs, and of those believed; and what does not follow, in sentences.
    """

    scene: Scene
    keyframes_gone: tuple[str, ...]
    before: int
    looked_for: int
    gone: Mask
    left: int
    views: int
    believed: int
    does_not_follow: tuple[str, ...]


def refresh(scene: Scene, name: str, logs: Sequence[SceneLog], least: int = 1) -> Refreshed:
    """The successor of a scene, whose folder is called `name`, in the same frame, without the
    landmarks that have gone, the points and the depth of keyframes around them, and keyframes that
    lose nearly all of their landmarks.

    logs: of this scene, the oldest first; least: landmarks that have to have gone. Raises
    InputError for a log of another scene, SceneError for a scene without landmarks,
    CannotRefreshError where fewer have gone, or more than a map may lose.
    """
    if not scene.is_verified:
        raise SceneError(
            f"{name} cannot be refreshed: poses in it cannot be verified"
            f" ({scene.verdict.reason}); map the place again"
        )
    for number, log in enumerate(logs):
        log.check_is_of(scene, f"log {number + 1}")
    landmarks = Landmarks.from_tensors(scene.landmarks)
    examined = examine(landmarks, [view for log in logs for view in log.views])
    gone = examined.gone
    told = (
        f"{examined.believed} of {examined.views} views can be believed, and tell of"
        f" {int(examined.looked_for.sum())} of {len(landmarks)} landmarks"
    )
    if gone.sum() < least:
        what = f"only {int(gone.sum())} landmarks" if gone.any() else "nothing"
        raise CannotRefreshError(f"{what} of {name} has gone: {told}; no scene was made")
    left = part(landmarks, np.ones(len(landmarks.world_from_cam), dtype=bool), ~gone)
    if gone.sum() > _MAX_GONE * examined.looked_for.sum() or len(left) < MIN_LANDMARKS:
        raise CannotRefreshError(
            f"{int(gone.sum())} landmarks of {name} have gone, {len(left)} would be left: {told}."
            " That is no moved furniture but another place, or one to be mapped again; no scene was"
            " made"
        )
    kept = _kept(landmarks, left)
    made = _without(scene, landmarks, gone, kept)
    made = made.successor(parents=(Parent(scene.scene_id, name, same_frame=True),), made_by="")
    lost = np.flatnonzero(~kept).tolist()
    return Refreshed(
        scene=made,
        keyframes_gone=tuple(scene.keyframes.names[row] for row in lost),
        before=len(landmarks),
        looked_for=int(examined.looked_for.sum()),
        gone=gone,
        left=len(made.landmarks["positions"]),
        views=examined.views,
        believed=examined.believed,
        does_not_follow=tuple(_stays(scene)),
    )


def _kept(landmarks: Landmarks, left: Landmarks) -> Mask:
    """Which keyframes (K,) keep enough landmarks to be of use, or had few all along."""
    count = len(landmarks.world_from_cam)
    before = np.bincount(landmarks.observed_from, minlength=count)
    after = np.bincount(left.observed_from, minlength=count)
    useless = (after < MIN_SHARED) | (after < (1 - _NEARLY_ALL) * before)
    kept: Mask = ~(useless & (after < before))
    return kept


def _without(scene: Scene, landmarks: Landmarks, gone: Mask, kept: Mask) -> Scene:
    """The scene of the kept keyframes (K,), without the landmarks that have gone (N,), and without
    points and depth that lie nearer to these than to any other.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(landmarks.positions.astype(np.float64))
    reach = REACH * landmarks.usual_distance
    has_gone = np.append(gone, False)

    def stays(points: Tensor) -> Tensor:
        flat: Floats = points.reshape(-1, 3).double().numpy()
        _, nearest = tree.query(flat, distance_upper_bound=reach)
        return torch.from_numpy(~has_gone[nearest]).view(points.shape[:-1])

    made = part_of(scene, torch.from_numpy(kept), stays)
    number = len(made.landmarks["positions"])
    verdict = MapVerdict(
        True,
        f"{number} landmarks tie {len(made.keyframes_with_landmarks)} of {len(made.keyframes)}"
        f" keyframes, {len(landmarks) - number} of an earlier scene have gone",
        scene.verdict.poses,
    )
    report = {**scene.report, **made.report} if kept.all() else made.report
    return replace(made, verdict=verdict, report=report)


def _stays(scene: Scene) -> list[str]:
    """What still shows what has gone, in sentences."""
    sentences = ["the network's memory, which may propose poses by what has gone"]
    if scene.images is not None:
        sentences.append("images of keyframes, which still show it")
    sentences.append("what is new is not added: `vggt3 extend` with new images does that")
    return sentences
