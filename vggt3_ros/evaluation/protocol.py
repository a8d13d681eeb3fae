"""The evaluation of the VGG-T3 paper on 7-Scenes: pointmaps of every 50th training image,
localization of every 20th test image, by the network alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.datasets.seven_scenes import MAP_STRIDE, PROTOCOL, load_seven_scenes
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.metrics import (
    Alignment,
    align_positions,
    localization_errors,
    pose_errors,
    success,
    trajectory_extent,
)
from vggt3_ros.evaluation.pointmaps import compare_pointmaps, true_pointmap
from vggt3_ros.evaluation.protocol_figures import (
    PointmapFigures,
    PoseErrors,
    PoseFigures,
    ProtocolFigures,
    SceneFigures,
    mean_of_scenes,
)
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.memory_check import fit_map
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.progress import Progress, StageProgress

STEPS = 2


def load_scenes(folder: str | Path) -> list[Sequence]:
    """The 7-Scenes scene in a folder, or those in its sub-folders in alphabetical order.

    Raises InputError where there is none, where its files are damaged, or where it has too few
    images.
    """
    folder = Path(os.path.abspath(folder))  # so that "." has a name
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; the protocol {PROTOCOL} is for 7-Scenes folders"
        )
    found = [
        each for each in (folder, *sorted(folder.iterdir())) if (each / "TrainSplit.txt").exists()
    ]
    if not found:
        raise InputError(
            f"{folder}: neither a scene of 7-Scenes, with TrainSplit.txt, TestSplit.txt and"
            f" seq-XX/, nor a folder of such scenes; the protocol {PROTOCOL} is for these alone"
        )
    return [_load_scene(each) for each in found]


def _load_scene(folder: Path) -> Sequence:
    sequence = load_seven_scenes(folder)
    if PROTOCOL not in sequence.splits:
        raise InputError(
            f"{folder}: {len(sequence.split('standard').map)} training images are too few for the"
            f" protocol {PROTOCOL}: every {MAP_STRIDE}th of them is mapped, and a map takes two or"
            " more"
        )
    return sequence


def evaluate_scene(
    sequence: Sequence, network: Any, progress: StageProgress | None = None
) -> SceneFigures:
    """Figures of a network (a Vggt3) on the frames of the split `vgg-t3`; they may be infinite or
    NaN.

    progress(stage, 0..1) is called now and then; what it raises cancels. Raises InputError for
    unreadable images, or images of several sizes, or too little memory.
    """
    report = progress or (lambda stage, done: None)
    split = sequence.split(PROTOCOL)
    config = network.config
    frames = _read(sequence, split.map, lambda done: report("read", 0.1 * done))
    images = prepare(frames, config.image_size, config.patch_size).images
    height, width = images.shape[-2:]
    fit = fit_map(network, len(images), (height, width))
    prediction, memory = network.map(
        images,
        STEPS,
        fit.chunk,
        lambda stage, done: report(stage, 0.1 + 0.3 * done),
        resident=fit.resident,
    )
    prediction = prediction.to("cpu")
    prediction.require_finite_cameras()

    true = sequence.world_from_cam[list(split.map)]
    truths = [
        true_pointmap(*each, config.image_size, config.patch_size)
        for each in zip(frames, true, strict=True)
    ]
    alignment = align_positions(prediction.cameras.world_from_cam, true)
    answers: list[Tensor | None] = []
    for done, index in enumerate(split.query):
        report("localize", 0.4 + 0.4 * done / len(split.query))
        query = prepare([sequence.frame(index)], config.image_size, config.patch_size).images
        answers.append(_located(network, memory, query))
    return SceneFigures(
        scene=sequence.name,
        input_size=(height, width),
        map_frames=len(split.map),
        queries=len(split.query),
        pointmaps=_pointmaps(
            prediction, truths, lambda done: report("pointmaps", 0.8 + 0.2 * done)
        ),
        localization=PoseFigures(_pose_errors(sequence, answers, alignment), alignment.problem),
        true_from_scene=alignment.true_from_estimated,
        notes=tuple(sequence.notes),
    )


def protocol_figures(network: Any, scenes: Items[SceneFigures]) -> ProtocolFigures:
    """Everything about scenes and their mean."""
    return ProtocolFigures(
        protocol=PROTOCOL,
        model=network.model_id,
        model_fingerprint=network.fingerprint(),
        device=str(network.device),
        ttt_steps=STEPS if network.config.has_fast_weights else 0,
        scenes=tuple(scenes),
        mean=mean_of_scenes(scenes),
    )


def _read(sequence: Sequence, indices: Items[int], progress: Progress) -> list[Frame]:
    frames: list[Frame] = []
    for index in indices:
        progress(len(frames) / len(indices))
        frames.append(sequence.frame(index, with_depth=True))
        if frames[-1].size_hw != frames[0].size_hw:
            sizes = [
                f"{each.name} has {each.size_hw[1]}x{each.size_hw[0]}"
                for each in (frames[0], frames[-1])
            ]
            raise InputError(
                f"{sequence.name}: the images of a scene have one size, but {' and '.join(sizes)}"
                " pixels"
            )
    return frames


def _located(network: Any, memory: Any, image: Tensor) -> Tensor | None:
    """Pose (4, 4) of one image (1, 3, h, w) in the scene; None where it is not finite."""
    prediction = network.query(image, memory).to("cpu")
    if not bool(prediction.pose_encoding.isfinite().all()):
        return None
    pose: Tensor = prediction.cameras.world_from_cam[0]
    return pose


def _pointmaps(
    prediction: Any, truths: Items[Tensor | None], progress: Progress
) -> PointmapFigures:
    head = prediction.pointmap is not None
    predicted = prediction.pointmap if head else prediction.cameras.points(prediction.depth)
    unknown = torch.full(predicted.shape[1:], math.nan)
    known = sum(truth is not None for truth in truths)
    true = torch.stack([unknown if truth is None else truth for truth in truths])
    errors, reason = compare_pointmaps(predicted, true, progress)
    return PointmapFigures(
        of="point head" if head else "depth and camera",
        frames=known,
        errors=errors,
        reason=reason if known else "no map frame has a true depth",
    )


def _pose_errors(
    sequence: Sequence, answers: Items[Tensor | None], alignment: Alignment
) -> PoseErrors:
    split = sequence.split(PROTOCOL)
    in_world = [
        (
            None
            if answer is None or alignment.collapsed
            else alignment.true_from_estimated.poses(answer)
        )
        for answer in answers
    ]
    position, rotation = pose_errors(in_world, sequence.world_from_cam[list(split.query)])
    extent = trajectory_extent(sequence.world_from_cam[[*split.map, *split.query]])
    return PoseErrors(
        **vars(localization_errors(position, rotation, extent)),
        success_5cm_5deg=success(position, rotation, 5),
        success_30cm_30deg=success(position, rotation, 30),
    )
