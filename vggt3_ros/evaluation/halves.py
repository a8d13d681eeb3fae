"""Drives mapped in two halves that share a tenth of their frames, joined, and compared with the
same drive mapped at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.averages import mean_of_known, median_or_none
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.judge import Judge
from vggt3_ros.evaluation.metrics import align_map, pose_errors
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.maps.extend import extend
from vggt3_ros.maps.merge import CannotMergeError, merge
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.refit import refit_joined
from vggt3_ros.scene.scene import Scene
from vggt3_ros.worlds.sequence import room_sequence

_SHARED = 0.1  # of the frames, in both halves
_MEDIANS = ("position_m", "rotation_deg", "network_m", "network_deg")
_OTHER = 100  # added to a seed: another place, that wears the textures of the first


@dataclass(frozen=True)
class Half:
    """What a map of a drive is worth: of its `first` or `second` half, `merged`, `extended` or made
    `at once`.

    reason: why there is none. position_m and rotation_deg: medians of accepted queries, after the
    similarity of the keyframes; network_m and network_deg: of what the network proposes for all of
    them; seconds: of making it, without the halves it is made of.
    """

    place: str
    way: str
    reason: str = ""
    keyframes: int = field(default=0, metadata=figure("count"))
    landmarks: int = field(default=0, metadata=figure("count"))
    asked: int = field(default=0, metadata=figure("count"))
    accepted: int = field(default=0, metadata=figure("count"))
    wrong: int = field(default=0, metadata=figure("count"))
    position_m: float | None = field(default=None, metadata=figure("m"))
    rotation_deg: float | None = field(default=None, metadata=figure("deg"))
    network_m: float | None = field(default=None, metadata=figure("m"))
    network_deg: float | None = field(default=None, metadata=figure("deg"))
    seconds: float = field(default=0.0, metadata=figure("s"))


def halves(
    sequence: Sequence, network: Any, priors: Priors, seed: int = 0, keep_images: bool = False
) -> Iterator[Half]:
    """The five maps of a drive. priors: of each map, with noise of its own. keep_images: maps keep
    images of their keyframes, so that what the network remembers is fitted anew to all of them.
    """
    split = sequence.split()
    mapped = split.map
    shared = max(1, round(_SHARED * len(mapped) / 2))
    middle = len(mapped) // 2
    first, second = mapped[: middle + shared], mapped[middle - shared :]

    def frames(indices: Items[int], noise: int) -> list[Frame]:
        poses = priors.poses(sequence.world_from_cam[list(indices)], noise)
        return [
            replace(sequence.frame(index), prior_world_from_cam=prior)
            for index, prior in zip(indices, poses, strict=True)
        ]

    def made(way: str, indices: Items[int], make: Callable[[], Scene]) -> tuple[Half, Scene | None]:
        begin = time.perf_counter()
        row = Half(sequence.name, way, asked=len(split.query))
        try:
            scene = make()
        except CannotMergeError as error:
            return replace(row, reason=str(error)), None
        row = replace(row, seconds=time.perf_counter() - begin, keyframes=len(scene.keyframes))
        if not scene.is_verified:
            return replace(row, reason=scene.verdict.reason), None
        true = sequence.world_from_cam[list(indices)]
        return _asked(row, scene, true, sequence, network), scene

    def mapped_at_once(indices: Items[int], noise: int) -> Callable[[], Scene]:
        how = ReconstructionSettings(dense=None, keep_images=keep_images)
        return lambda: reconstruct(frames(indices, noise), network, how).scene

    def merged(a: Scene, b: Scene) -> Scene:
        scene = merge([a, b], ["first", "second"]).scene
        return scene if scene.images is None else refit_joined(scene, network)

    row, a = made("first", first, mapped_at_once(first, seed))
    yield row
    row, b = made("second", second, mapped_at_once(second, seed + 1))
    yield row
    both = (*first, *second)
    if a is not None and b is not None:
        yield made("merged", both, lambda: merged(a, b))[0]
    if a is not None:
        new = frames(second, seed + 1)
        yield made("extended", both, lambda: extend(a, "first", new, network).scene)[0]
    yield made("at once", mapped, mapped_at_once(mapped, seed + 2))[0]


def strangers(sequence: Sequence, network: Any, priors: Priors, seed: int = 0) -> str:
    """What becomes of merging a procedural place with another one that wears its textures: why it
    is refused; empty where it is not.
    """
    place = sequence.place
    assert place is not None
    mapped = sequence.split().map
    other = room_sequence(
        place.seed + _OTHER, len(mapped), 0, painted_like=place.seed, plan=place.plan
    )
    scenes = []
    for true, read, intrinsics in (
        (sequence.world_from_cam[list(mapped)], lambda i: sequence.frame(mapped[i]).image, None),
        (other.world_from_cam, lambda i: other.images[i], other.intrinsics),
    ):
        own = sequence.frame(mapped[0]).intrinsics if intrinsics is None else intrinsics
        frames = [
            Frame(read(i), i, own, prior_world_from_cam=prior, name=f"{i:06d}")
            for i, prior in enumerate(priors.poses(true, seed))
        ]
        scenes.append(reconstruct(frames, network, ReconstructionSettings(dense=None)).scene)
    for scene in scenes:
        if not scene.is_verified:
            return scene.verdict.reason
    try:
        merge(scenes, [sequence.name, "the other"])
    except CannotMergeError as error:
        return str(error)
    return ""


def _asked(row: Half, scene: Scene, true: Tensor, sequence: Sequence, network: Any) -> Half:
    """The row, with what the queries say; true (K, 4, 4): poses of the scene's keyframes."""
    tied = list(scene.keyframes_with_landmarks)
    alignment = align_map(scene.map_from_keyframes[tied], true[tied])
    settings = LocalizerSettings()
    true_from_map = alignment.true_from_estimated
    judge = Judge(true_from_map, settings.locate)
    localizer = Localizer(scene, network, settings)
    attempts = []
    proposed = []
    for index in sequence.split().query:
        true_pose = sequence.world_from_cam[index]
        answer = localizer.localize(sequence.frame(index))
        attempts.append(judge.attempt(sequence.names[index], answer, true_pose))
        if answer.network_map_from_cam is not None:
            proposed.append((true_from_map.poses(answer.network_map_from_cam), true_pose))
    accepted = [each for each in attempts if each.accepted]
    network_m, network_deg = pose_errors(
        [pose for pose, _ in proposed], torch.stack([pose for _, pose in proposed])
    )
    return replace(
        row,
        landmarks=len(scene.landmarks["positions"]),
        accepted=len(accepted),
        wrong=sum(not each.is_right for each in accepted),
        position_m=median_or_none([each.position_m for each in accepted]),
        rotation_deg=median_or_none([each.rotation_deg for each in accepted]),
        network_m=median_or_none(network_m.tolist()),
        network_deg=median_or_none(network_deg.tolist()),
    )


def heading() -> str:
    """First line of the table."""
    return (
        f"{'place':<22}{'map':<10}{'keyframes':>10}{'landmarks':>11}{'accepted':>10}{'wrong':>7}"
        f"{'cm':>7}{'deg':>7}{'net cm':>8}{'net deg':>8}{'s':>7}"
    )


def line(row: Half) -> str:
    """One line of the table."""
    errors = (
        _cell(row.position_m, 7, 100, 2)
        + _cell(row.rotation_deg, 7, 1, 3)
        + _cell(row.network_m, 8, 100, 1)
        + _cell(row.network_deg, 8, 1, 1)
    )
    accepted = f"{row.accepted}/{row.asked}"
    return (
        f"{row.place:<22}{row.way:<10}{row.keyframes:>10}{row.landmarks:>11}{accepted:>10}"
        f"{row.wrong:>7}{errors}{row.seconds:>7.1f}  {row.reason}"
    ).rstrip()


def _cell(value: float | None, width: int, unit: float, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{unit * value:>{width}.{digits}f}"


def totals(rows: Items[Half]) -> dict[str, dict[str, float]]:
    """Of each way: places, queries asked, accepted and wrong, and the means over places of the
    medians, of those that have any.
    """
    result: dict[str, dict[str, float]] = {}
    for way in dict.fromkeys(row.way for row in rows):
        those = [row for row in rows if row.way == way]
        result[way] = {
            "places": len(those),
            "asked": sum(row.asked for row in those),
            "accepted": sum(row.accepted for row in those),
            "wrong": sum(row.wrong for row in those),
        }
        for name in _MEDIANS:
            result[way][name] = mean_of_known([getattr(row, name) for row in those])
    return result
