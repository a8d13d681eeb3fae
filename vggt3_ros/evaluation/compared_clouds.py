"""The clouds of a map beside the true surface of the place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vggt3_ros.evaluation.alignment import MappedFrames
from vggt3_ros.evaluation.clouds import CloudComparison, compare_cloud
from vggt3_ros.evaluation.sequence import Sequence
from vggt3_ros.evaluation.true_surface import TrueSurface, true_surface
from vggt3_ros.geometry.pointcloud import PointCloud

SCENE, NETWORK = "cloud", "cloud_network"  # blocks: the scene's points, and where those are refined, the network's


@dataclass(frozen=True, eq=False)
class ComparedClouds:
    """surface: the true one; clouds: what became of each, by its block. Where there is nothing to compare with, surface
    is None, clouds are none, and problem tells why.
    """

    surface: TrueSurface | None
    clouds: dict[str, CloudComparison]
    problem: str | None

    @property
    def figures(self) -> dict[str, Any]:
        """The blocks of an evaluation."""
        return {block: each.figures for block, each in self.clouds.items()}


def compare_clouds(
    sequence: Sequence,
    mapped: MappedFrames,
    clouds: Mapping[str, PointCloud],
    progress: Callable[[], None] | None = None,
) -> ComparedClouds:
    """Compare clouds in the true world, by the names of their blocks. progress may raise to cancel."""
    if mapped.collapsed:
        return ComparedClouds(None, {}, "the map does not follow the truth")
    surface = true_surface(sequence, mapped.indices, progress)
    if surface is None:
        return ComparedClouds(None, {}, "no map frame has a true depth")
    return ComparedClouds(
        surface, {block: compare_cloud(cloud.points, surface) for block, cloud in clouds.items()}, None
    )
