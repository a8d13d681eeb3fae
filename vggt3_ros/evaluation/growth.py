"""What it costs to extend a scene by some frames, over how many keyframes the scene has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.metrics import align_map
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.maps.extend import extend
from vggt3_ros.maps.merge import CannotMergeError
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import save_scene

_STAGES = ("localize", "map", "join", "memory")


@dataclass(frozen=True)
class Growth:
    """One extension. keyframes: of the scene before; seconds by stage and of saving; megabytes of
    the new scene's folder; error_m: rms of its keyframes' positions after the best rigid alignment
    and scale; reason: why there is no new scene.
    """

    keyframes: int = field(metadata=figure("count"))
    new: int = field(metadata=figure("count"))
    reason: str = ""
    found: int = field(default=0, metadata=figure("count"))
    landmarks: int = field(default=0, metadata=figure("count"))
    seconds: Mapping[str, float] = field(default_factory=dict)
    saving_s: float = field(default=0.0, metadata=figure("s"))
    megabytes: float = field(default=0.0, metadata=figure("MB"))
    error_m: float | None = field(default=None, metadata=figure("m"))


def grow(
    sequence: Sequence,
    network: Any,
    priors: Priors,
    folder: Path,
    new: int = 20,
    keep_images: bool = False,
) -> Iterator[Growth]:
    """Extend a scene of `new` frames by as many again and again, and save each scene in `folder`.

    The frames of one extension are spread over the whole drive: a robot passes the same place once
    more, so that all keyframes have to do with all others, which is the hardest case. keep_images:
    as of `vggt3 map`. Raises InputError where the drive has fewer than twice as many frames, or the
    first of them give no verified map.
    """
    drive = list(sequence.split().map)
    rounds = len(drive) // new if new > 0 else 0
    if rounds < 2:
        raise InputError(
            f"{sequence.name} has {len(drive)} map frames; growing by {new} at a time takes at"
            f" least {max(2, 2 * new)}, and 1 at a time"
        )
    poses = priors.poses(sequence.world_from_cam[drive], 0)

    def frames(number: int) -> list[Frame]:
        """Frames of a round with their priors, named by their place in the sequence."""
        return [
            replace(sequence.frame(index), prior_world_from_cam=prior, name=str(index))
            for index, prior in zip(drive[number::rounds], poses[number::rounds], strict=True)
        ]

    how = ReconstructionSettings(dense=None, keep_images=keep_images)
    scene = reconstruct(frames(0), network, how).scene
    if not scene.is_verified:
        raise InputError(
            f"the first round of {sequence.name} gives no map to extend: {scene.verdict.reason}"
        )
    for number in range(1, rounds):
        shown = frames(number)
        row = Growth(len(scene.keyframes), len(shown))
        try:
            extended = extend(scene, "the scene", shown, network, how=how)
        except CannotMergeError as error:
            yield replace(row, reason=str(error))
            continue
        scene = extended.scene
        begin = time.perf_counter()
        save_scene(scene, folder)
        saving_s = time.perf_counter() - begin
        yield replace(
            row,
            found=extended.located,
            landmarks=len(scene.landmarks["positions"]),
            seconds=extended.seconds,
            saving_s=saving_s,
            megabytes=sum(file.stat().st_size for file in folder.rglob("*")) / 1e6,
            error_m=_error(scene, sequence),
        )


def _error(scene: Scene, sequence: Sequence) -> float:
    """Metres rms that keyframes are off, of those that landmarks tie."""
    tied = list(scene.keyframes_with_landmarks)
    frames = [int(scene.keyframes.names[index]) for index in tied]
    true = sequence.world_from_cam[frames]
    poses = scene.map_from_keyframes[tied]
    placed = align_map(poses, true).true_from_estimated.poses(poses)
    off = torch.linalg.norm(placed[:, :3, 3] - true[:, :3, 3], dim=-1)
    return float(off.square().mean().sqrt())


def heading() -> str:
    """First line of the table."""
    stages = "".join(f"{stage:>10}" for stage in _STAGES)
    begin = f"{'keyframes':>9}{'new':>5}{'found':>7}{'landmarks':>11}"
    return f"{begin}{stages}{'save':>7}{'MB':>8}{'cm':>7}"


def line(row: Growth) -> str:
    """One line of the table: seconds by stage, megabytes, centimetres."""
    begin = f"{row.keyframes:>9}{row.new:>5}"
    if row.reason:
        return f"{begin}  refused: {row.reason}"
    stages = "".join(f"{row.seconds.get(stage, 0.0):>10.2f}" for stage in _STAGES)
    error = 100 * (row.error_m or 0.0)
    return (
        f"{begin}{row.found:>7}{row.landmarks:>11}{stages}{row.saving_s:>7.2f}"
        f"{row.megabytes:>8.2f}{error:>7.2f}"
    )
