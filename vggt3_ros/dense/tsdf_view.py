"""What one keyframe tells of the voxels that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vggt3_ros.dense.blocks import POINTS, SIDE, Blocks, offsets
from vggt3_ros.dense.tangents import tangent_planes
from vggt3_ros.dense.tsdf_volume import TsdfSettings, TsdfVolume
from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points

# weight of a view that sees through a place, against one that sees a surface there
_SEEN_THROUGH = 0.25
_MIN_DEPTH = 0.25  # of a pixel's depth: what lies nearer counts no more
_PART = 2048  # blocks worked on at a time: a million voxels
_QUARTER = 0.25  # pixels off the centre at which a surface is sampled for the blocks it needs


@dataclass(frozen=True, eq=False)
class TsdfView:
    """A keyframe; all float32 but the pose.

    depth and weights (h, w); planes (h, w, 3): tangent planes, 0 where a pixel tells nothing;
    cosine (h, w): of the angle of incidence; colors (h, w, 3) of 0..255; intrinsics (3, 3);
    world_from_cam (4, 4) float64.
    """

    depth: Tensor
    weights: Tensor
    planes: Tensor
    cosine: Tensor
    colors: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor
    settings: TsdfSettings

    @staticmethod
    def of(
        depth: Tensor,
        weights: Tensor,
        image: Tensor,
        intrinsics: Tensor,
        world_from_cam: Tensor,
        settings: TsdfSettings,
    ) -> TsdfView:
        """From depth and weights (h, w), image (3, h, w), intrinsics (3, 3) and world_from_cam (4,
        4).
        """
        intrinsics = intrinsics.float()
        depth = torch.where(weights > 0, depth.float(), 0.0)
        planes = tangent_planes(depth, intrinsics)
        rays = unproject(torch.ones_like(depth), intrinsics)
        steepness = planes.norm(dim=-1) * depth * rays.norm(dim=-1)
        usable = (steepness > 0) & (steepness * settings.least_cosine <= 1)
        return TsdfView(
            depth=depth,
            weights=weights.float(),
            planes=torch.where(usable[..., None], planes, 0.0),
            cosine=1 / steepness.clamp(min=1.0),
            colors=image.permute(1, 2, 0).float(),
            intrinsics=intrinsics,
            world_from_cam=world_from_cam.double(),
            settings=settings,
        )

    def blocks_needed(self, voxel: float) -> Tensor:
        """Coordinates (N, 3) int64 of the blocks within the truncation of the surface, each
        once.
        """
        samples = self._samples()
        if len(samples) == 0:
            return samples.long()
        points = transform_points(self.world_from_cam, samples.double())
        sides = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=points.device)
        corners = self.settings.truncation * voxel * torch.cartesian_prod(sides, sides, sides)
        around = (points[:, None] + corners).flatten(0, 1)
        return Blocks.covering(torch.floor(around / (voxel * SIDE)).long()).coordinates

    def _samples(self) -> Tensor:
        """Points (N, 3) of the surface in camera axes, four in each pixel that tells something."""
        told = (self.planes != 0).any(-1)
        rays = unproject(torch.ones_like(self.depth), self.intrinsics)[told]
        shifts = torch.tensor([(-1, -1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, 0)]).to(rays)
        shifts[:, :2] *= _QUARTER / self.intrinsics.diagonal()[:2]
        moved = rays[:, None] + shifts
        inverse = (self.planes[told][:, None] * moved).sum(-1)
        least = 0.5 / self.depth[told][:, None]
        return (moved / torch.maximum(inverse, least)[..., None]).flatten(0, 1)

    def add_to(self, volume: TsdfVolume) -> None:
        """Add to every voxel what this keyframe tells of it."""
        cam_from_world = se3_inverse(self.world_from_cam)
        edge = volume.voxel * SIDE
        truncation = self.settings.truncation * volume.voxel
        starts = transform_points(cam_from_world, volume.blocks.coordinates.double() * edge).float()
        inner = offsets(self.depth.device).double() * volume.voxel @ cam_from_world[:3, :3].T
        inner = inner.float()
        table = self._table(truncation)
        reached = self._reached(starts + inner.mean(0), 0.5 * 3**0.5 * edge, truncation)
        for part in reached.split(_PART):
            self._add_part(volume, part, starts[part], inner, table)

    def _reached(self, centres: Tensor, radius: float, truncation: float) -> Tensor:
        """Indices of the blocks, in spheres about centres (B, 3) in camera axes, that a pixel may
        tell something of.
        """
        height, width = self.depth.shape
        across, down, ahead = self.intrinsics
        left = across + 0.5 * ahead
        right = (width - 0.5) * ahead - across
        top = down + 0.5 * ahead
        bottom = (height - 0.5) * ahead - down
        inwards = normalize(torch.stack([left, right, top, bottom, ahead]), dim=1)
        farthest = self.depth.max() + truncation / max(self.settings.least_cosine, 0.01)
        inside = (centres @ inwards.T >= -radius).all(1) & (centres[:, 2] - radius <= farthest)
        return inside.nonzero()[:, 0]

    def _table(self, truncation: float) -> Tensor:
        """Pixels (h w, 10): plane in truncations, its distance from the camera, depth, two weights,
        colour.

        A point's distance is that of the plane minus the product of plane and point; 0 of both
        where nothing is told.
        """
        length = self.planes.norm(dim=-1, keepdim=True)
        scale = torch.where(length > 0, 1 / (truncation * length.clamp(min=1e-12)), 0.0)
        at_surface = (self.weights * self.cosine)[..., None]
        through = _SEEN_THROUGH * self.weights[..., None]
        columns = [
            self.planes * scale,
            scale,
            self.depth[..., None],
            at_surface,
            through,
            self.colors,
        ]
        return torch.cat(columns, dim=-1).flatten(0, 1)

    def _add_part(
        self, volume: TsdfVolume, part: Tensor, starts: Tensor, inner: Tensor, table: Tensor
    ) -> None:
        """Add to blocks `part` (b,) that begin at starts (b, 3) and have points at starts + inner
        (512, 3).
        """
        height, width = self.depth.shape
        points = (starts[:, None] + inner).flatten(0, 1)
        column, row, z = (points @ self.intrinsics.T).unbind(1)
        column = (column / z).round()
        row = (row / z).round()
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = inside.nonzero()[:, 0]
        pixels = table[(row[index] * width + column[index]).long()]
        distance = pixels[:, 3] - (pixels[:, :3] * points[index]).sum(1)
        told = (pixels[:, 3] > 0) & (distance > -1)
        index = index[told]
        pixels = pixels[told]
        distance = distance[told]

        scale = 1 / torch.maximum(z[index], _MIN_DEPTH * pixels[:, 4]).square()
        at_surface = torch.where(
            distance < 1, pixels[:, 5] * (1 + distance).clamp(max=1.0) * scale, 0.0
        )
        weight = torch.where(distance < 1, at_surface, pixels[:, 6] * scale)
        place = part[index // POINTS] * POINTS + index % POINTS
        volume.distance.view(-1)[place] += weight * distance.clamp(max=1.0)
        volume.weight.view(-1)[place] += weight
        volume.color.view(-1, 3)[place] += at_surface[:, None] * pixels[:, 7:]
        volume.color_weight.view(-1)[place] += at_surface
