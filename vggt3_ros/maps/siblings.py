"""Parts of one drive, each a scene of its own, become one where later images tie them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vggt3_ros.errors import SceneError
from vggt3_ros.maps.merge import MergeSettings, merge
from vggt3_ros.maps.part import part_of
from vggt3_ros.progress import StageProgress
from vggt3_ros.scene.library import folders_of
from vggt3_ros.scene.scene import Parent, Scene
from vggt3_ros.scene.storage import load_scene


@dataclass(frozen=True, eq=False)
class NamedScene:
    """A scene and what its folder is called."""

    scene: Scene
    name: str


@dataclass(frozen=True, eq=False)
class Siblings:
    """Siblings of a scene that were found, and names and reasons of those that were not."""

    found: tuple[NamedScene, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Reunion:
    """A scene, the names of the siblings that it holds now, names and reasons of those that stay
    apart, and what it lacks of what it was made from, in sentences.
    """

    scene: Scene
    joined: tuple[str, ...]
    apart: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]


def siblings_beside(folder: Path, scene: Scene) -> Siblings:
    """The siblings of a scene in `folder` that lie in the folder around it, whatever they are
    called now. One that is damaged, or of another network, counts as missing.
    """
    wanted = {sibling.scene_id for sibling in scene.siblings}
    there = folders_of(wanted, folder.parent) if wanted else {}
    found = []
    missing = []
    for sibling in scene.siblings:
        place = there.get(sibling.scene_id)
        if place is None:
            missing.append((sibling.name, f"no scene {sibling.scene_id[:8]} lies beside {folder}"))
            continue
        try:
            found.append(NamedScene(load_scene(place, scene.model_fingerprint), place.name))
        except SceneError as error:
            missing.append((place.name, str(error)))
    return Siblings(tuple(found), tuple(missing))


def join_siblings(
    whole: NamedScene,
    siblings: Siblings,
    settings: MergeSettings | None = None,
    progress: StageProgress | None = None,
) -> Reunion:
    """A scene merged with those of its siblings that overlap with it, or with one that does, by the
    rules of `merge`, in its own frame. progress(stage, 0..1) may raise to cancel.
    """
    scene = whole.scene
    left = list(siblings.found)
    joined: list[NamedScene] = []
    left_out: tuple[str, ...] = ()
    reasons: dict[str, str] = {}
    number = 0
    while number < len(left):
        other = left[number]
        done = len(joined) + number

        def report(stage: str, fraction: float, done: int = done) -> None:
            if progress is not None:
                progress(stage, (done + fraction) / len(siblings.found))

        pair = [_without_frames_of(scene, other.scene), other.scene]
        try:
            merged = merge(pair, [whole.name, other.name], settings, report, frame_of=0)
        except SceneError as error:
            reasons[other.name] = str(error)
            number += 1
            continue
        scene = merged.scene
        left_out += merged.left_out
        joined.append(left.pop(number))
        number = 0  # it may overlap with those that were tried before
    if joined:
        scene = _descendant(scene, whole.scene, joined)
    apart = [(other.name, reasons[other.name]) for other in left]
    return Reunion(
        scene,
        tuple(other.name for other in joined),
        (*apart, *siblings.missing),
        tuple(dict.fromkeys(left_out)),
    )


def _descendant(scene: Scene, whole: Scene, joined: Sequence[NamedScene]) -> Scene:
    """The merged scene as one that goes on where `whole` ended: the siblings that it holds are
    parents of it.
    """
    ids = {other.scene.scene_id for other in joined}
    parents = [Parent(other.scene.scene_id, other.name) for other in joined]
    return replace(
        scene,
        parents=(*whole.parents, *parents),
        siblings=tuple(each for each in whole.siblings if each.scene_id not in ids),
        made_by=whole.made_by,
    )


def _without_frames_of(scene: Scene, sibling: Scene) -> Scene:
    """The scene without keyframes that carry none of its landmarks, but those of the sibling: they
    stand wherever the network put them, and would be there twice.
    """
    carrying = set(scene.keyframes_with_landmarks)
    elsewhere = set(sibling.own_frames)
    kept = [
        row in carrying or name not in elsewhere for row, name in enumerate(scene.keyframes.names)
    ]
    if all(kept):
        return scene
    return replace(part_of(scene, torch.tensor(kept)), report=scene.report)
