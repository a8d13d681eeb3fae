"""The evaluation of the VGG-T3 paper on 7-Scenes: pointmaps of every 50th training image, localization of every 20th
test image, by the network alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.metrics import (
    Alignment,
    align_positions,
    localization_summary,
    pose_errors,
    success,
    trajectory_extent,
)
from vggt3_ros.evaluation.pointmaps import compare_pointmaps, true_pointmap
from vggt3_ros.evaluation.result import combined, without_infinities
from vggt3_ros.evaluation.sequence import Sequence
from vggt3_ros.evaluation.seven_scenes import MAP_STRIDE, PROTOCOL, load_seven_scenes
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.pipeline.cameras import predicted_cameras, require_finite
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.memory import require_memory
from vggt3_ros.pipeline.preprocess import prepare

STEPS = 2
LIMITS = (5, 10, 20, 30)  # centimetres, and degrees
_CHUNK = 8  # frames that pass the network together

DEFINITIONS = {
    "frames": "every 50th training image is mapped in 2 TTT steps, every 20th test image is a query, each counted over "
    "the sequences of the scene's two files in their order",
    "pointmaps": "world points of the map frames (of: the point head, or depth and camera where a network has no such "
    "head) at pixels of known true depth, after the Sim(3) to the true points of the same pixels (Umeyama) and rigid "
    "point-to-point ICP of pairs within 0.1 m. accuracy_m: from them to the nearest true points; completion_m: from "
    "the true points to the nearest of them; normal_consistency: |cos| between the normals of such neighbours, told "
    "from the nearest 20 points, mean of both ways. Of more than 150,000 points so many, drawn with a fixed seed, are "
    "asked for their nearest one (30,000 for normals). The rays of true pixels pass their centres, u + 0.5",
    "localization": "the network's poses of the queries, one at a time, after the Sim(3) of the positions of the map "
    "frames (Umeyama); success_*: shares of all queries within as many centimetres and degrees; "
    "median_position_percent: of the diagonal of the box around the true positions. Where that Sim(3) draws the map "
    "together, every error is infinite (null) and reason tells why",
    "mean": "over scenes; a figure that is not defined in a scene is left out",
}


def load_scenes(folder: str | Path) -> list[Sequence]:
    """The 7-Scenes scene in a folder, or those in its sub-folders in alphabetical order.

    Raises InputError where there is none, where its files are damaged, or where it has too few images.
    """
    folder = Path(os.path.abspath(folder))  # so that "." has a name
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the protocol {PROTOCOL} is for 7-Scenes folders")
    found = [each for each in (folder, *sorted(folder.iterdir())) if (each / "TrainSplit.txt").exists()]
    if not found:
        raise InputError(
            f"{folder}: neither a scene of 7-Scenes, with TrainSplit.txt, TestSplit.txt and seq-XX/, nor a folder of "
            f"such scenes; the protocol {PROTOCOL} is for these alone"
        )
    return [_load_scene(each) for each in found]


def _load_scene(folder: Path) -> Sequence:
    sequence = load_seven_scenes(folder)
    if PROTOCOL not in sequence.splits:
        raise InputError(
            f"{folder}: {len(sequence.split('standard').map)} training images are too few for the protocol "
            f"{PROTOCOL}: every {MAP_STRIDE}th of them is mapped, and a map takes two or more"
        )
    return sequence


def evaluate_scene(
    sequence: Sequence, network: Any, progress: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """Figures of a network (a Vggt3) on the frames of the split `vgg-t3`; they may be infinite or NaN.

    A softmax network localizes no query, which counts as infinite errors. progress(stage, 0..1) is called now and then;
    what it raises cancels. Raises InputError for unreadable images, or images of several sizes, or too little memory.
    """
    tell = progress or (lambda stage, share: None)
    split, config = sequence.split(PROTOCOL), network.config
    frames = _read(sequence, split.map, lambda share: tell("read", 0.1 * share))
    images = prepare(frames, config.image_size, config.patch_size).images
    height, width = images.shape[-2:]
    require_memory(network, len(images), (height, width), _CHUNK)
    prediction, memory = network.map(images, STEPS, _CHUNK, lambda stage, share: tell(stage, 0.1 + 0.3 * share))
    prediction = prediction.to("cpu")
    require_finite(prediction)

    true = sequence.world_from_cam[list(split.map)]
    truths = [true_pointmap(*each, config.image_size, config.patch_size) for each in zip(frames, true, strict=True)]
    alignment = align_positions(se3_inverse(predicted_cameras(prediction)[0]), true)
    answers: list[Tensor | None] = []
    for done, index in enumerate(split.query):
        tell("localize", 0.4 + 0.4 * done / len(split.query))
        query = prepare([sequence.frame(index)], config.image_size, config.patch_size).images
        answers.append(None if memory is None else _located(network, memory, query))
    localization = _localization(sequence, answers, alignment)
    if memory is None:
        localization["reason"] = "a softmax network keeps no memory to localize in"
    return {
        "scene": sequence.name,
        "input_size": [height, width],
        "map_frames": len(split.map),
        "queries": len(split.query),
        "pointmaps": _pointmaps(prediction, truths, lambda share: tell("pointmaps", 0.8 + 0.2 * share)),
        "localization": localization,
        "true_from_scene": alignment.true_from_estimated.to_dict(),
        "notes": list(sequence.notes),
    }


def mean_of_scenes(scenes: Items[dict[str, Any]]) -> dict[str, Any]:
    """Means, in the layout of one scene, of the figures of scenes."""
    blocks = [{key: each[key] for key in ("pointmaps", "localization")} for each in scenes]
    return {"scene": f"mean of {len(scenes)}", **combined(blocks, np.mean)}


def to_json(network: Any, scenes: Items[dict[str, Any]]) -> dict[str, Any]:
    """Everything about scenes and their mean, ready for json.dump in strict JSON."""
    return without_infinities(
        {
            "protocol": PROTOCOL,
            "model": network.model_id,
            "model_fingerprint": network.fingerprint(),
            "device": str(network.device),
            "ttt_steps": STEPS if network.config.attn == "ttt" else 0,
            "scenes": list(scenes),
            "mean": mean_of_scenes(scenes),
            "definitions": DEFINITIONS,
        }
    )


def _read(sequence: Sequence, indices: Items[int], progress: Callable[[float], None]) -> list[Frame]:
    frames: list[Frame] = []
    for index in indices:
        progress(len(frames) / len(indices))
        frames.append(sequence.frame(index, with_depth=True))
        if frames[-1].size_hw != frames[0].size_hw:
            sizes = [f"{each.name} has {each.size_hw[1]}x{each.size_hw[0]}" for each in (frames[0], frames[-1])]
            raise InputError(f"{sequence.name}: the images of a scene have one size, but {' and '.join(sizes)} pixels")
    return frames


def _located(network: Any, memory: Any, image: Tensor) -> Tensor | None:
    """Pose (4, 4) of one image (1, 3, h, w) in the scene; None where it is not finite."""
    prediction = network.query(image, memory).to("cpu")
    if not bool(prediction.pose_encoding.isfinite().all()):
        return None
    return se3_inverse(predicted_cameras(prediction)[0])[0]


def _pointmaps(prediction: Any, truths: Items[Tensor | None], progress: Callable[[float], None]) -> dict[str, Any]:
    head = prediction.pointmap is not None
    predicted = prediction.pointmap if head else prediction.pointmap_from_depth
    unknown = torch.full(predicted.shape[1:], math.nan)
    known = sum(truth is not None for truth in truths)
    true = torch.stack([unknown if truth is None else truth for truth in truths])
    figures = compare_pointmaps(predicted, true, progress)
    if not known:
        figures["reason"] = "no map frame has a true depth"
    return {"of": "point head" if head else "depth and camera", "frames": known, **figures}


def _localization(sequence: Sequence, answers: Items[Tensor | None], alignment: Alignment) -> dict[str, Any]:
    split = sequence.split(PROTOCOL)
    in_world = [
        None if answer is None or alignment.collapsed else alignment.true_from_estimated.poses(answer)
        for answer in answers
    ]
    position, rotation = pose_errors(in_world, sequence.world_from_cam[list(split.query)])
    extent = trajectory_extent(sequence.world_from_cam[[*split.map, *split.query]])
    return {
        **localization_summary(position, rotation, extent),
        **{f"success_{limit}cm_{limit}deg": success(position, rotation, limit) for limit in LIMITS},
        "reason": alignment.problem,
    }
