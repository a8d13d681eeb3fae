"""Loss terms. Lengths are normalised (mean point distance 1), images are H x W pixels, patches gh x
gw.

Camera, depth and points follow the published recipe; matching is what gets a small network off the
trivial solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, grid_sample, huber_loss, normalize

from vggt3_ros.geometry.camera import decode_camera, encode_camera, project, unproject
from vggt3_ros.geometry.se3 import rotation_from_quaternion, se3_inverse
from vggt3_ros.model.global_attention import GatedAttention
from vggt3_ros.model.network import TrainingOutput, Vggt3
from vggt3_ros.model.ttt_attention import TttAttention
from vggt3_ros.training.config import LossWeights, TrainConfig
from vggt3_ros.training.dense_losses import dense_truth, depth_loss, points_loss
from vggt3_ros.training.scenes import SceneBatch

_ITERATION_DECAY = 0.6
# sharpness of the unit-length q, k of a TTT layer, comparable to a softmax head of width 64
_LOGIT_SCALE = 8.0
_REPROJECTION_UNIT = 8.0  # pixels; errors beyond three of them grow logarithmically
_OCCLUSION = 0.05  # relative depth difference above which a point counts as hidden


class PatchHead(nn.Module):
    """Training aid: world point and viewing ray of every patch, read straight off the last tapped
    tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 6)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Points and rays (..., 3) of tokens (..., 2C)."""
        points, rays = self.out(self.norm(tokens)).float().split(3, dim=-1)
        return points.sign() * points.abs().expm1(), rays


@dataclass(frozen=True, eq=False)
class PatchTruth:
    """Truth at the pixel nearest to the centre of every patch, n = gh * gw."""

    grid: tuple[int, int]  # gh, gw
    pixels: Tensor  # (n, 2) x y
    points: Tensor  # (B, V, n, 3) world
    rays: Tensor  # (B, V, n, 3) unit, world
    known: Tensor  # (B, V, n) whether depth is known there; points are meaningless where it is not
    target: Tensor  # (B, V, n) patch of view 0 that shows the same point
    visible: Tensor  # (B, V, n) whether it does


def patch_truth(batch: SceneBatch, patch_size: int) -> PatchTruth:
    """Correspondences and world points of all patches, from depth and poses."""
    half = patch_size // 2
    height, width = batch.depth.shape[-2:]
    depth = batch.depth[..., half::patch_size, half::patch_size]
    rows, columns = depth.shape[-2:]
    coarse = batch.intrinsics.clone()
    coarse[:, :2] /= patch_size
    cam = unproject(depth, coarse[:, None], half / patch_size).flatten(2, 3)
    world_from_cam = se3_inverse(batch.cam_from_world)
    points = cam @ world_from_cam[..., :3, :3].transpose(-1, -2) + world_from_cam[..., None, :3, 3]
    at_one = unproject(torch.ones_like(depth), coarse[:, None], half / patch_size).flatten(2, 3)
    rays = normalize(at_one, dim=-1) @ world_from_cam[..., :3, :3].transpose(-1, -2)
    pixels, z = project(points.flatten(1, 2), batch.intrinsics)
    grid = (
        2 * torch.stack([pixels[..., 0] / (width - 1), pixels[..., 1] / (height - 1)], dim=-1) - 1
    )
    seen = grid_sample(batch.depth[:, :1], grid[:, None], align_corners=True, mode="nearest")
    seen = seen[:, 0, 0]
    known = (depth > 0).flatten(1)
    inside = (grid.abs() < 1).all(-1) & (z > 1e-3) & ((z - seen).abs() < _OCCLUSION * seen) & known
    cell = ((pixels.nan_to_num() + 0.5) / patch_size).long().clamp(min=0)
    target = cell[..., 1].clamp(max=rows - 1) * columns + cell[..., 0].clamp(max=columns - 1)
    y, x = (
        torch.arange(count, dtype=depth.dtype, device=depth.device) for count in (rows, columns)
    )
    centres = (
        torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1) * patch_size + half
    )
    shape = points.shape[:3]
    by_patch = (part.view(shape) for part in (known, target, inside))
    return PatchTruth((rows, columns), centres, points, rays, *by_patch)


def total_loss(
    network: Vggt3, aid: PatchHead, output: TrainingOutput, batch: SceneBatch, config: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum and the single terms, those of weight 0 left out."""
    weights = config.weights
    map_views = batch.images.shape[1] - config.query_views
    patches = patch_truth(batch, network.config.patch_size)
    dense = dense_truth(batch, config.dense_stride)
    final = output.pose_encodings[-1]
    all_terms: dict[str, Callable[[], Tensor]] = {
        "camera": lambda: camera_loss(output.pose_encodings, batch, weights),
        "direction": lambda: direction_loss(final, batch),
        "reprojection": lambda: reprojection_loss(final, batch, patches),
        "depth": lambda: depth_loss(output, dense, weights),
        "points": lambda: points_loss(output, dense, weights),
        "patches": lambda: patches_loss(
            aid, output.tapped[-1][:, :, network.aggregator.special :], patches
        ),
        "matching": lambda: matching_loss(network, output.tapped, patches, map_views),
    }
    terms = {name: term() for name, term in all_terms.items() if getattr(weights, name) > 0}
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum(), terms


def camera_loss(encodings: Tensor, batch: SceneBatch, weights: LossWeights) -> Tensor:
    """Absolute errors of translation, quaternion and field of view; later iterations count more."""
    intrinsics = batch.intrinsics[:, None].expand(*batch.cam_from_world.shape[:2], 3, 3)
    truth = encode_camera(batch.cam_from_world, intrinsics, _size(batch))
    loss = encodings.new_zeros(())
    for index, encoding in enumerate(encodings.float()):
        translation, quaternion, view = (encoding - truth).split([3, 4, 2], dim=-1)
        part = _absolute(translation).mean() + weights.quaternion * _absolute(quaternion).mean()
        part = part + weights.field_of_view * _absolute(view).mean()
        loss = loss + _ITERATION_DECAY ** (len(encodings) - 1 - index) * part
    return loss / len(encodings)


def direction_loss(encoding: Tensor, batch: SceneBatch) -> Tensor:
    """1 - cos between estimated and true direction from each camera centre to every other, in the
    world frame.
    """
    estimated = _centres(encoding.float())
    truth = se3_inverse(batch.cam_from_world)[..., :3, 3]
    pairs = torch.triu_indices(truth.shape[1], truth.shape[1], 1, device=truth.device)
    a = estimated[:, pairs[0]] - estimated[:, pairs[1]]
    b = truth[:, pairs[0]] - truth[:, pairs[1]]
    length = torch.linalg.vector_norm(b, dim=-1)
    apart = length > 0.02
    cosine = (normalize(a, dim=-1, eps=1e-3) * normalize(b, dim=-1, eps=1e-3)).sum(-1)
    return ((1 - cosine) * apart).sum() / apart.sum().clamp(min=1)


def reprojection_loss(encoding: Tensor, batch: SceneBatch, truth: PatchTruth) -> Tensor:
    """How far true points land from their pixels under the estimated cameras, in eights of pixels,
    then logarithmic.
    """
    cam_from_world, intrinsics = decode_camera(encoding.float(), _size(batch))
    points = (
        truth.points @ cam_from_world[..., :3].transpose(-1, -2) + cam_from_world[..., None, :, 3]
    )
    rays = points @ intrinsics.transpose(-1, -2)
    pixels = rays[..., :2] / rays[..., 2:].clamp(min=0.05)
    error = torch.linalg.vector_norm(pixels - truth.pixels, dim=-1) / _REPROJECTION_UNIT
    bounded = torch.where(error < 3, error, 3 * (1 + (error.clamp(min=3) / 3).log()))
    return (bounded * truth.known).sum() / truth.known.sum().clamp(min=1)


def patches_loss(aid: PatchHead, tokens: Tensor, truth: PatchTruth) -> Tensor:
    """Absolute errors of the world points and, four times, of the rays that the aid reads off the
    patch tokens.
    """
    points, rays = aid(tokens)
    known = truth.known[..., None]
    missed = (_absolute(points - truth.points) * known).sum() / (3 * known.sum().clamp(min=1))
    return missed + 4 * _absolute(rays - truth.rays).mean()


def matching_loss(
    network: Vggt3, tapped: list[Tensor], truth: PatchTruth, map_views: int
) -> Tensor:
    """InfoNCE in the first head of the first two tapped global layers that see other views: a
    patch's query finds its match in view 0.

    The match competes with the keys of all mapped views, the patch's own included: attention has to
    prefer the reference view, since what it retrieves there is the patch's place in the world.
    """
    aggregator = network.aggregator
    grid = truth.grid
    dim = network.config.embed_dim
    special = aggregator.special
    rope = aggregator.rope(grid, bf16=False)
    losses = []
    matching = []
    for layer, tokens in zip(network.config.intermediate_layers, tapped, strict=True):
        if network.config.global_kinds[layer] != "frame":
            matching.append((layer, tokens))
    for layer, tokens in matching[:2]:
        x = aggregator.global_block(layer).norm1(tokens[..., :dim])
        attn = aggregator.global_attention(layer)
        if isinstance(attn, GatedAttention):
            attn = attn.anchored
        if isinstance(attn, TttAttention):
            q = attn.queries(x, rope, grid)[:, 0].unflatten(1, x.shape[1:3])
            k = attn.training_signals(x, rope, grid)[0][:, 0].unflatten(1, x.shape[1:3])
            scale = _LOGIT_SCALE
        else:
            q, k, _ = (part[:, :, 0] for part in attn.project(x, rope))  # (B, V, P, d)
            scale = q.shape[-1] ** -0.5
        # view 0 first, so a patch of it is its own index
        keys = k[:, :map_views, special:].flatten(1, 2)
        logits = (q[:, 1:, special:].flatten(1, 2) @ keys.transpose(-1, -2)).float() * scale
        per_patch = cross_entropy(
            logits.flatten(0, 1), truth.target[:, 1:].flatten(), reduction="none"
        )
        visible = truth.visible[:, 1:].flatten()
        losses.append((per_patch * visible).sum() / visible.sum().clamp(min=1))
    return torch.stack(losses).mean()


def _absolute(error: Tensor) -> Tensor:
    """Absolute error, smooth within 0.02: squares would fade out long before poses are good."""
    return huber_loss(error, torch.zeros_like(error), delta=0.02, reduction="none") / 0.02


def _centres(encoding: Tensor) -> Tensor:
    """Camera centres (..., 3) in the world, of pose encodings (..., 9)."""
    rotation = rotation_from_quaternion(encoding[..., 3:7])
    return -(rotation.transpose(-1, -2) @ encoding[..., :3, None]).squeeze(-1)


def _size(batch: SceneBatch) -> tuple[int, int]:
    return batch.depth.shape[-2], batch.depth.shape[-1]
