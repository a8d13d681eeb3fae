"""Scenes laid out as they would be merged, for whoever wants to see that first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.arrays import Floats, Indices, Mask
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.maps.merge import check_mergeable, side_of
from vggt3_ros.maps.overlap import NoOverlap, Overlap, find_overlap
from vggt3_ros.maps.transform import transformed
from vggt3_ros.progress import Progress
from vggt3_ros.scene.scene import Scene

_GAP = 0.1  # of the width of the scenes laid out so far, before the next one beside them


@dataclass(frozen=True, eq=False)
class Placed:
    """A scene in the frame of the first one, and what speaks for its place, in words.

    joined_to: the number of the scene it overlaps with; None for the first, and for those that
    stand beside it because nothing ties them. ties (M, 2): keyframes of that scene and of this one
    that see the same, one of which was found in the other scene. common (N,): its landmarks that
    another scene has, too.
    """

    name: str
    scene: Scene
    evidence: str
    joined_to: int | None
    ties: Indices
    common: Mask


def place(
    scenes: Sequence[Scene], names: Sequence[str], progress: Progress | None = None
) -> list[Placed]:
    """Each scene in the frame of the first: where it would be merged with one that lies there
    already, or beside them; in the order given.

    Merging adjusts them to each other, this does not. progress(0..1) may raise to cancel.
    """
    finds = _Finds(scenes, names, progress)
    layout = {0: Sim3.identity()}
    joins: dict[int, _Find] = {}
    left = list(range(1, len(scenes)))
    while (best := finds.best(layout, left)) is not None:
        layout[best.scene] = layout[best.other] @ best.overlap.a_from_b
        joins[best.scene] = best
        left.remove(best.scene)
    common = [_none(scene) for scene in scenes]
    for index, find in joins.items():
        common[find.other][find.overlap.pairs[:, 0]] = True
        common[index][find.overlap.pairs[:, 1]] = True
    moved = {index: transformed(scenes[index], layout[index]) for index in sorted(layout)}
    for index in left:
        moved[index] = _beside(list(moved.values()), scenes[index])
    placed = []
    for index, name in enumerate(names):
        joined_to, ties = None, np.zeros((0, 2), dtype=np.int64)
        evidence = "gives the frame"
        if index in joins:
            joined_to = joins[index].other
            ties = _tied_keyframes(scenes[joined_to], scenes[index], joins[index].overlap)
            metric = scenes[joined_to].is_metric
            evidence = _evidence(joins[index].overlap, names[joined_to], name, metric)
        elif index:
            evidence = f"stands beside the others, to compare: {finds.reason(index)}"
        placed.append(Placed(name, moved[index], evidence, joined_to, ties, common[index]))
    return placed


class _Find(NamedTuple):
    """How a scene, by its number, lies in another one."""

    other: int
    scene: int
    overlap: Overlap


class _Finds:
    """What is known of how scenes lie in each other; each pair is looked at once."""

    def __init__(
        self, scenes: Sequence[Scene], names: Sequence[str], progress: Progress | None
    ) -> None:
        self._scenes = scenes
        self._names = names
        self._progress = progress or (lambda fraction: None)
        self._known: dict[tuple[int, int], Overlap | str] = {}

    def best(self, others: Iterable[int], left: Sequence[int]) -> _Find | None:
        """That of a scene that is left in one of the others which most landmarks speak for, if any
        does.
        """
        best = None
        for other in others:
            for index in left:
                found = self._found(other, index)
                if not isinstance(found, str) and (
                    best is None or len(found.pairs) > len(best.overlap.pairs)
                ):
                    best = _Find(other, index, found)
        return best

    def reason(self, index: int) -> str:
        """Why a scene lies in none of those it was compared with, in words for the first."""
        return next(str(why) for (_, of), why in self._known.items() if of == index)

    def _found(self, other: int, index: int) -> Overlap | str:
        """How scene `index` lies in scene `other`, or why that cannot be told."""
        pair = (other, index)
        if pair not in self._known:
            total = len(self._scenes) * (len(self._scenes) - 1) / 2
            self._progress(len(self._known) / total)
            a, b = (self._scenes[i] for i in pair)
            self._known[pair] = _overlap(a, b, self._names[other], self._names[index])
        return self._known[pair]


def _overlap(a: Scene, b: Scene, a_name: str, b_name: str) -> Overlap | str:
    try:
        check_mergeable(a, a_name, a.model_fingerprint)
        check_mergeable(b, b_name, a.model_fingerprint)
    except SceneError as error:
        return str(error)
    if a.scene_id == b.scene_id:
        return f"{b_name} is the same scene as {a_name}"
    found = find_overlap(side_of(a), side_of(b))
    return found.reason if isinstance(found, NoOverlap) else found


def _evidence(overlap: Overlap, a: str, b: str, is_metric: bool) -> str:
    """What speaks for b in a, which may be in metres."""
    of_a, of_b = (len(found) for found in overlap.keyframes)
    apart = f"{overlap.residual:.4f} m" if is_metric else f"{overlap.residual:.2g} of its units"
    return (
        f"lies in {a}: {of_b} keyframes of {b} were found in {a} and {of_a} of {a} in {b};"
        f" {len(overlap.pairs)} landmarks are in both, {apart} apart (median), scale"
        f" {overlap.a_from_b.scale:.3f}"
    )


def _none(scene: Scene) -> Mask:
    """False for every landmark of a scene."""
    return np.zeros(len(scene.landmarks["positions"]) if scene.landmarks else 0, dtype=bool)


def _tied_keyframes(a: Scene, b: Scene, overlap: Overlap) -> Indices:
    """Keyframes of a and b (M, 2): each that was found in the other scene, and the one there that
    sees most of the same landmarks.
    """
    in_a = _sees(a, overlap.pairs[:, 0])
    in_b = _sees(b, overlap.pairs[:, 1])
    shared = in_a @ in_b.T
    of_a, of_b = overlap.keyframes
    ties = {(int(shared[:, keyframe].argmax()), keyframe) for keyframe in of_b}
    ties |= {(keyframe, int(shared[keyframe].argmax())) for keyframe in of_a}
    return np.array(sorted(ties), dtype=np.int64).reshape(-1, 2)


def _sees(scene: Scene, chosen: Indices) -> Floats:
    """1 where a keyframe (K, M) sees one of the chosen landmarks (M,)."""
    landmarks = Landmarks.from_tensors(scene.landmarks)
    seen = np.zeros((len(scene.keyframes), len(landmarks)))
    seen[landmarks.observed_from, landmarks.observed] = 1.0
    return np.asarray(seen[:, chosen])


def _beside(others: Sequence[Scene], scene: Scene) -> Scene:
    """A scene to the right of the others: in its own metres where the first has metres, too, and
    otherwise as large as that.
    """
    boxes = torch.tensor([other.bounds for other in others], dtype=torch.float64)
    low = boxes[:, 0].amin(0)
    high = boxes[:, 1].amax(0)
    own = torch.tensor(scene.bounds, dtype=torch.float64)
    scale = 1.0
    if not (scene.is_metric and others[0].is_metric):
        sizes = [float((box[1] - box[0]).norm()) or 1.0 for box in (boxes[0], own)]
        scale = sizes[0] / sizes[1]
    corner = torch.stack([high[0] + _GAP * (high[0] - low[0]), low[1], low[2]])
    unturned = torch.eye(3, dtype=torch.float64)
    return transformed(scene, Sim3(scale, unturned, corner - scale * own[0]))
