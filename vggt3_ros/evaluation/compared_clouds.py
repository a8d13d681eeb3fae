"""The clouds of a map beside the true surface of the place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.clouds import CloudComparison, CloudFigures, compare_cloud
from vggt3_ros.evaluation.map_alignment import MappedFrames
from vggt3_ros.evaluation.true_surface import true_surface
from vggt3_ros.geometry.pointcloud import PointCloud

# blocks: the scene's points, and where those are refined, the network's
SCENE = "cloud"
NETWORK = "cloud_network"


@dataclass(frozen=True, eq=False)
class ComparedClouds:
    """truth (K, 3) float64: points of the true surface, in metres; clouds: what became of each, by
    its block. Where there is nothing to compare with, truth is None, clouds are none, and problem
    says why.
    """

    truth: Tensor | None
    clouds: dict[str, CloudComparison]
    problem: str | None

    def figures(self, block: str) -> CloudFigures | None:
        """Those of a block, None where it was not compared."""
        return self.clouds[block].figures if block in self.clouds else None


def compare_clouds(
    sequence: Sequence,
    mapped: MappedFrames,
    clouds: Mapping[str, PointCloud],
    progress: Callable[[], None] | None = None,
) -> ComparedClouds:
    """Compare clouds in the true world, by the names of their blocks. progress may raise to
    cancel.
    """
    if mapped.collapsed:
        return ComparedClouds(None, {}, "the map does not follow the truth")
    surface = true_surface(sequence, mapped.indices, progress)
    if surface is None:
        return ComparedClouds(None, {}, "no map frame has a true depth")
    compared = {block: compare_cloud(cloud.points, surface) for block, cloud in clouds.items()}
    return ComparedClouds(surface.points[surface.sample], compared, None)
