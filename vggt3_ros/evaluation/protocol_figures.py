"""The figures of the VGG-T3 paper's protocol on 7-Scenes, and their mean over scenes."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vggt3_ros.evaluation.blocks import combined, definitions, figure, to_json
from vggt3_ros.evaluation.metrics import LocalizationErrors
from vggt3_ros.evaluation.pointmaps import PointmapErrors
from vggt3_ros.geometry.sim3 import Sim3

LIMITS = (5, 10, 20, 30)  # centimetres, and degrees


@dataclass(frozen=True)
class PoseErrors(LocalizationErrors):
    """Errors of the queries' poses, with successes within two more limits."""

    success_5cm_5deg: float = field(metadata=figure("share"))
    success_30cm_30deg: float = field(metadata=figure("share"))

    @property
    def successes(self) -> tuple[float, ...]:
        """Fractions of queries within as many centimetres and degrees as LIMITS says."""
        return (
            self.success_5cm_5deg,
            self.success_10cm_10deg,
            self.success_20cm_20deg,
            self.success_30cm_30deg,
        )


@dataclass(frozen=True)
class PoseFigures:
    """reason: why they say nothing, None if they do."""

    errors: PoseErrors = field(metadata=figure(inline=True))
    reason: str | None


@dataclass(frozen=True)
class PointmapFigures:
    """Of the points that were predicted by `of`, in so many frames of known depth; reason: why
    there are no errors.
    """

    of: str
    frames: int = field(metadata=figure("count"))
    errors: PointmapErrors = field(metadata=figure(inline=True))
    reason: str | None


@dataclass(frozen=True)
class SceneFigures:
    """Of one scene; input_size (h, w) in pixels."""

    scene: str
    input_size: tuple[int, int] = field(metadata=figure("px"))
    map_frames: int = field(
        metadata=figure(
            "count",
            "every 50th training image is mapped in 2 TTT steps, every 20th test image is a query,"
            " each counted over the sequences of the scene's two files in their order",
            named="frames",
        )
    )
    queries: int = field(metadata=figure("count"))
    pointmaps: PointmapFigures = field(
        metadata=figure(
            definition=(
                "world points of the map frames (of: the point head, or depth and camera where a"
                " network has no such head) at pixels of known true depth, after the Sim(3) to the"
                " true points of the same pixels (Umeyama) and rigid point-to-point ICP of pairs"
                " within 0.1 m. accuracy_m: from them to the nearest true points; completion_m:"
                " from the true points to the nearest of them; normal_consistency: |cos| between"
                " the normals of such neighbours, told from the nearest 20 points, mean of both"
                " ways. Of more than 150,000 points so many, drawn with a fixed seed, are asked for"
                " their nearest one (30,000 for normals). The rays of true pixels pass their"
                " centres, u + 0.5"
            ),
        )
    )
    localization: PoseFigures = field(
        metadata=figure(
            definition=(
                "the network's poses of the queries, one at a time, after the Sim(3) of the"
                " positions of the map frames (Umeyama); success_*: shares of all queries within as"
                " many centimetres and degrees; median_position_percent: of the diagonal of the box"
                " around the true positions. Where that Sim(3) draws the map together, every error"
                " is infinite (null) and reason tells why"
            ),
        )
    )
    true_from_scene: Sim3
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MeanPointmaps:
    """The mean over scenes of their PointmapFigures."""

    frames: float = field(metadata=figure("count"))
    errors: PointmapErrors = field(metadata=figure(inline=True))


@dataclass(frozen=True)
class MeanFigures:
    """The mean over scenes."""

    scene: str
    pointmaps: MeanPointmaps
    localization: PoseErrors


@dataclass(frozen=True)
class ProtocolFigures:
    """What a network does by the protocol of the VGG-T3 paper: scene by scene, and their mean."""

    protocol: str
    model: str
    model_fingerprint: str
    device: str
    ttt_steps: int = field(metadata=figure("count"))
    scenes: tuple[SceneFigures, ...]
    mean: MeanFigures = field(
        metadata=figure(
            definition="over scenes; a figure that is not defined in a scene is left out"
        )
    )

    def to_json(self) -> dict[str, Any]:
        """With the definitions, ready for json.dump in strict JSON."""
        return {**to_json(self), "definitions": definitions(ProtocolFigures)}


def mean_of_scenes(scenes: Items[SceneFigures]) -> MeanFigures:
    """Means of the figures of scenes."""
    pointmaps = [MeanPointmaps(each.pointmaps.frames, each.pointmaps.errors) for each in scenes]
    return MeanFigures(
        scene=f"mean of {len(scenes)}",
        pointmaps=combined(pointmaps, np.mean),
        localization=combined([each.localization.errors for each in scenes], np.mean),
    )
