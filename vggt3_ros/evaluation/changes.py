"""Rooms in which a third of the furniture is moved after they were mapped: what localizes before
and after, what a refreshed map leaves out, and whether that was what had gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.averages import mean_of_known, median_or_none
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.judge import Judge
from vggt3_ros.evaluation.metrics import align_map
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.geometry.arrays import Mask
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.maps.refresh import CannotRefreshError, refresh
from vggt3_ros.maps.scene_log import SceneLog
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.scene.scene import Scene
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.moved import on_moved_furniture, plan_moved_room
from vggt3_ros.worlds.places import Planner
from vggt3_ros.worlds.probe import cast
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.sequence import held_out_seed, revisit

VIEWS = 48  # of the drive that a log is of
_ASKED = 16
_NOTHING_MOVED, _MOVED, _ASKED_AFTER = range(3)  # numbers of visits
_SAME_SURFACE_M = 0.05


@dataclass(frozen=True)
class Asked:
    """Queries in a map of a room: when nothing had moved (`as made`), after furniture was moved
    (`moved`), and then in the refreshed map (`refreshed`).

    position_m and rotation_deg: medians of those accepted; inliers and support: medians, too.
    """

    place: str
    when: str
    landmarks: int = field(metadata=figure("count"))
    asked: int = field(metadata=figure("count"))
    accepted: int = field(metadata=figure("count"))
    wrong: int = field(metadata=figure("count"))
    position_m: float | None = field(default=None, metadata=figure("m"))
    rotation_deg: float | None = field(default=None, metadata=figure("deg"))
    inliers: float | None = field(default=None, metadata=figure("count"))
    support: float | None = field(default=None, metadata=figure())


@dataclass(frozen=True)
class TakenOut:
    """Landmarks that a log of a drive calls gone, of a room as it was mapped (`nothing moved`) or
    after furniture was moved (`moved`), beside the truth.

    on_moved: of those taken out, on furniture that was moved; hidden: not on it, but most keyframes
    that saw them would now see something else before them. moved: all landmarks of the map that are
    on that furniture. reason: why there is no successor.
    """

    place: str
    drive: str
    views: int = field(metadata=figure("count"))
    landmarks: int = field(metadata=figure("count"))
    taken_out: int = field(metadata=figure("count"))
    on_moved: int = field(metadata=figure("count"))
    hidden: int = field(metadata=figure("count"))
    moved: int = field(metadata=figure("count"))
    keyframes: int = field(metadata=figure("count"))
    reason: str = ""

    @property
    def precision(self) -> float:
        """Of those taken out, the fraction on moved furniture; NaN of none."""
        return self.on_moved / self.taken_out if self.taken_out else np.nan

    @property
    def recall(self) -> float:
        """Of those on moved furniture, the fraction taken out; NaN of none."""
        return self.on_moved / self.moved if self.moved else np.nan


def changes(
    sequence: Sequence, network: Any, priors: Priors, seed: int = 0, views: int = VIEWS
) -> Iterator[Asked | TakenOut]:
    """What becomes of a room's map. priors: of the map; views: of each drive that a log is of.

    Raises InputError for places that are no rooms.
    """
    place = sequence.place
    if place is None or place.kind != "room":
        raise InputError(
            f"{sequence.name}: furniture can be moved in procedural rooms alone, room:SEED[:FRAMES]"
        )
    split = sequence.split()
    true = sequence.world_from_cam[list(split.map)]
    frames = [
        replace(sequence.frame(index), prior_world_from_cam=prior)
        for index, prior in zip(split.map, priors.poses(true, seed), strict=True)
    ]
    scene = reconstruct(frames, network, ReconstructionSettings(dense=None)).scene
    if not scene.is_verified:
        raise InputError(f"{sequence.name}: its map cannot be verified: {scene.verdict.reason}")
    room = _Room(sequence, scene, network, held_out_seed(place.seed))
    queries = [sequence.frame(index) for index in split.query]
    yield room.asked(scene, "as made", queries, sequence.world_from_cam[list(split.query)])
    yield room.taken_out("nothing moved", room.log(plan_room, views, _NOTHING_MOVED))[0]
    found, successor = room.taken_out("moved", room.log(plan_moved_room, views, _MOVED))
    later = room.visit(plan_moved_room, _ASKED, _ASKED_AFTER)
    yield room.asked(scene, "moved", *later)
    yield found
    if successor is not None:
        yield room.asked(successor, "refreshed", *later)


class _Room:
    """A room and its map; visits to it."""

    def __init__(self, sequence: Sequence, scene: Scene, network: Any, seed: int) -> None:
        self.sequence = sequence
        self.scene = scene
        self.network = network
        self.seed = seed
        mapped = list(sequence.split().map)
        self.true = sequence.world_from_cam[mapped]
        depth = torch.stack([torch.from_numpy(sequence.read_depth(index)) for index in mapped])
        self._visit = partial(revisit, seed, self.true, depth, sequence.intrinsics)
        tied = list(scene.keyframes_with_landmarks)
        alignment = align_map(scene.map_from_keyframes[tied], self.true[tied])
        self.true_from_map = alignment.true_from_estimated
        self._on_moved, self._hidden = _truth(scene, self.true, self.true_from_map, seed)

    def visit(self, plan: Planner, frames: int, number: int) -> tuple[list[Frame], Tensor]:
        """Frames of a visit, and their true poses (frames, 4, 4)."""
        images, poses = self._visit(frames, number, plan)
        intrinsics = self.sequence.intrinsics
        return [
            Frame(image, index, intrinsics, name=f"{index:06d}")
            for index, image in enumerate(images)
        ], poses

    def log(self, plan: Planner, frames: int, number: int) -> SceneLog:
        """The log of a drive."""
        log = SceneLog.of(self.scene)
        settings = LocalizerSettings(note_sightings=True)
        localizer = Localizer(self.scene, self.network, settings)
        for frame in self.visit(plan, frames, number)[0]:
            answer = localizer.localize(frame)
            if answer.sighting is not None:
                log.add(answer.sighting)
        return log

    def asked(self, scene: Scene, when: str, frames: list[Frame], true: Tensor) -> Asked:
        """What queries with true poses (n, 4, 4) find in a map."""
        settings = LocalizerSettings()
        judge = Judge(self.true_from_map, settings.locate)
        localizer = Localizer(scene, self.network, settings)
        attempts = [
            judge.attempt(frame.name, localizer.localize(frame), pose)
            for frame, pose in zip(frames, true, strict=True)
        ]
        accepted = [each for each in attempts if each.accepted]
        return Asked(
            self.sequence.name,
            when,
            landmarks=len(scene.landmarks["positions"]),
            asked=len(attempts),
            accepted=len(accepted),
            wrong=sum(not each.is_right for each in accepted),
            position_m=median_or_none([each.position_m for each in accepted]),
            rotation_deg=median_or_none([each.rotation_deg for each in accepted]),
            inliers=median_or_none([each.evidence.inliers for each in accepted]),
            support=median_or_none([each.evidence.support for each in accepted]),
        )

    def taken_out(self, drive: str, log: SceneLog) -> tuple[TakenOut, Scene | None]:
        """What a log calls gone, and the map without it, if one is made."""
        count = len(self.scene.landmarks["positions"])
        row = TakenOut(
            self.sequence.name,
            drive,
            views=len(log.views),
            landmarks=count,
            taken_out=0,
            on_moved=0,
            hidden=0,
            moved=int(self._on_moved.sum()) if drive == "moved" else 0,
            keyframes=0,
        )
        try:
            made = refresh(self.scene, self.sequence.name, [log])
        except CannotRefreshError as error:
            return replace(row, reason=str(error)), None
        gone = made.gone
        return replace(
            row,
            taken_out=int(gone.sum()),
            on_moved=int((gone & self._on_moved).sum()) if drive == "moved" else 0,
            hidden=int((gone & self._hidden).sum()) if drive == "moved" else 0,
            keyframes=len(made.keyframes_gone),
        ), made.scene


def _truth(scene: Scene, true: Tensor, true_from_map: Sim3, seed: int) -> tuple[Mask, Mask]:
    """Which landmarks (N,) of a map are on furniture that is moved; and which others most of their
    keyframes, at true poses (K, 4, 4), would see something else before, once it is.
    """
    positions = true_from_map.points(scene.landmarks["positions"].double())
    on_moved = on_moved_furniture(seed, positions.numpy())
    observed = scene.landmarks["observed"].long()
    eyes = true[scene.landmarks["observed_from"].long(), :3, 3]
    rays = positions[observed] - eyes
    moved = make_rooms([seed], plan=plan_moved_room)
    short = _SAME_SURFACE_M / rays.norm(dim=1)
    open_ = cast(moved, eyes[None], rays[None])[0].double() > 1 - short
    views = torch.bincount(observed, minlength=len(positions))
    seen = torch.bincount(observed, open_.double(), minlength=len(positions))
    hidden: Mask = (seen < 0.5 * views).numpy() & ~on_moved
    return on_moved, hidden


def line(row: Asked | TakenOut) -> str:
    """One line about a row."""
    if isinstance(row, TakenOut):
        told = (
            f"{row.taken_out} of {row.landmarks} landmarks taken out by {row.views} views, with"
            f" {row.keyframes} keyframes"
        )
        if row.moved:
            told += (
                f"; {row.on_moved} on moved furniture (precision {row.precision:.2f}), of"
                f" {row.moved} there (recall {row.recall:.2f}); {row.hidden} hidden by it now"
            )
        return f"{row.place:<18}{row.drive:<15}{row.reason or told}"
    told = f"{row.accepted} of {row.asked} accepted, {row.wrong} wrong"
    if row.position_m is not None and row.rotation_deg is not None:
        told += (
            f"; {100 * row.position_m:.2f} cm, {row.rotation_deg:.3f} deg, {row.inliers:.0f}"
            f" inliers, support {row.support:.2f}"
        )
    return f"{row.place:<18}{row.when:<15}{told}; {row.landmarks} landmarks"


def totals(rows: Items[Asked | TakenOut]) -> dict[str, dict[str, float]]:
    """Sums over rooms: of the queries of each time, and of what each drive calls gone, with
    precision and recall over all landmarks.
    """
    result: dict[str, dict[str, float]] = {}
    asked = [row for row in rows if isinstance(row, Asked)]
    for when in dict.fromkeys(row.when for row in asked):
        those = [row for row in asked if row.when == when]
        result[when] = {
            "rooms": len(those),
            **_sums(those, "landmarks", "asked", "accepted", "wrong"),
            "position_m": mean_of_known([row.position_m for row in those]),
            "rotation_deg": mean_of_known([row.rotation_deg for row in those]),
        }
    taken = [row for row in rows if isinstance(row, TakenOut)]
    for drive in dict.fromkeys(row.drive for row in taken):
        those_taken = [row for row in taken if row.drive == drive]
        sums = _sums(
            those_taken, "landmarks", "taken_out", "on_moved", "hidden", "moved", "keyframes"
        )
        result[f"taken out, {drive}"] = {
            "rooms": len(those_taken),
            **sums,
            "precision": sums["on_moved"] / sums["taken_out"] if sums["taken_out"] else np.nan,
            "recall": sums["on_moved"] / sums["moved"] if sums["moved"] else np.nan,
        }
    return result


def _sums(rows: Items[Any], *names: str) -> dict[str, int]:
    """Of each figure, over rows."""
    sums = dict.fromkeys(names, 0)
    for row in rows:
        for name in names:
            sums[name] += getattr(row, name)
    return sums
