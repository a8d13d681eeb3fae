"""Depth of many views fused into one field of signed distances (Curless and Levoy 1996), in sparse
blocks.

Distances are to the tangent plane of the pixel that a voxel falls into (Bylow et al. 2013) rather
than along its ray: exact for planes, whatever the angle. Behind a surface, weights fall to nothing,
so that the other side of a thin wall holds against it; before it, views that see through a place
speak against a surface there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vggt3_ros.dense.blocks import Blocks
from vggt3_ros.dense.tsdf_view import TsdfView
from vggt3_ros.dense.tsdf_volume import BLOCK_BYTES, TsdfSettings, TsdfVolume
from vggt3_ros.errors import InputError
from vggt3_ros.progress import Progress

_COARSER = 1.2  # voxels, when smaller ones do not fit into memory
# pixels: where voxels are smaller, blocks do not cover surfaces that are seen at a slant
_FINEST = 0.25
_LOOKING = 0.15  # share of the time until it is known which blocks are needed


@torch.no_grad()
def fuse(
    depth: Tensor,
    weights: Tensor,
    images: Tensor,
    intrinsics: Tensor,
    world_from_cam: Tensor,
    settings: TsdfSettings | None = None,
    progress: Progress | None = None,
) -> TsdfVolume:
    """Fuse depth (S, h, w) along z, 0 for none, into one field on the tensors' device.

    weights (S, h, w), 0 or more, multiply 1 / z^2 and the cosine of incidence; images (S, 3, h, w)
    of 0..255; intrinsics (S, 3, 3) of these pixels; world_from_cam (S, 4, 4), in the depth's unit.
    Keyframes are taken one by one. progress(0..1) may raise to cancel. Raises InputError for input
    of wrong shape or without any depth, and for voxels that do not fit into memory or are far
    smaller than pixels.
    """
    settings = settings or TsdfSettings()
    tell = progress or (lambda share: None)
    _check(depth, weights, images, intrinsics, world_from_cam)

    def views() -> Iterator[TsdfView]:
        for each in zip(depth, weights, images, intrinsics, world_from_cam, strict=True):
            yield TsdfView.of(*each, settings)

    count = len(depth)
    pixel = pixel_size(torch.where(weights > 0, depth, 0.0), intrinsics)
    wanted = settings.voxel or pixel
    if wanted < _FINEST * pixel:
        raise InputError(
            f"voxels of {wanted:.3g} are too small for pixels of {pixel:.3g}: give"
            f" {_FINEST * pixel:.2g} or more"
        )
    voxel, blocks = _blocks(views, wanted, settings, lambda done: tell(_LOOKING * done / count))
    volume = TsdfVolume.empty(voxel, wanted, settings.truncation, blocks)
    for done, view in enumerate(views()):
        tell(_LOOKING + (1 - _LOOKING) * done / count)
        view.add_to(volume)
    tell(1.0)
    return volume


def pixel_size(depth: Tensor, intrinsics: Tensor) -> float:
    """Median size of a pixel on the surfaces, to two digits, in the unit of depth (S, h, w);
    intrinsics (S, 3, 3).
    """
    sizes = depth / intrinsics[:, 0, 0, None, None]
    return float(f"{float(sizes[depth > 0].median()):.1e}")


def _blocks(
    views: Callable[[], Iterator[TsdfView]],
    wanted: float,
    settings: TsdfSettings,
    tell: Callable[[int], None],
) -> tuple[float, Blocks]:
    """Side of voxels, and the blocks about all surfaces. Larger voxels than wanted where these do
    not fit.
    """
    voxel = wanted
    blocks = None
    while blocks is None:
        blocks = _fitting_blocks(views(), voxel, settings.memory // BLOCK_BYTES, tell)
        if blocks is None:
            voxel = float(f"{_COARSER * voxel:.2g}")
    if settings.voxel is not None and voxel > settings.voxel:
        raise InputError(
            f"voxels of {settings.voxel:.3g} do not fit into {settings.memory / 1e9:.3g} GB; give"
            f" {voxel:.2g}, or none"
        )
    return voxel, blocks


def _fitting_blocks(
    views: Iterator[TsdfView], voxel: float, limit: int, tell: Callable[[int], None]
) -> Blocks | None:
    """The blocks about all surfaces, None if they are more than `limit`."""
    blocks: Blocks | None = None
    for done, view in enumerate(views):
        tell(done)
        needed = view.blocks_needed(voxel)
        if blocks is not None:
            needed = torch.cat([blocks.coordinates, needed])
        if len(needed) > 0:
            blocks = Blocks.covering(needed)
        if blocks is not None and len(blocks) > limit:
            return None
    if blocks is None:
        raise InputError(
            "the depth shows no surface: no pixel has neighbours on it; there is nothing to fuse"
        )
    return blocks


def _check(
    depth: Tensor, weights: Tensor, images: Tensor, intrinsics: Tensor, world_from_cam: Tensor
) -> None:
    if depth.ndim != 3 or len(depth) == 0:
        raise InputError(
            f"depth must be (S, h, w) with at least one keyframe, got {tuple(depth.shape)}"
        )
    count, height, width = depth.shape
    expected = {
        "weights": (weights, (count, height, width)),
        "images": (images, (count, 3, height, width)),
        "intrinsics": (intrinsics, (count, 3, 3)),
        "world_from_cam": (world_from_cam, (count, 4, 4)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise InputError(
                f"{name} must be {shape} for depth {tuple(depth.shape)}, got {tuple(value.shape)}"
            )
    for name, value in (("depth", depth), ("weights", weights)):
        if not bool(torch.isfinite(value).all()) or bool((value < 0).any()):
            raise InputError(f"{name} must be finite and 0 or more; put 0 where nothing is known")
    if not bool(torch.isfinite(world_from_cam).all()) or not bool(
        (intrinsics.diagonal(dim1=1, dim2=2) > 0).all()
    ):
        raise InputError("poses must be finite and focal lengths above 0; leave such keyframes out")
    if not bool(((depth > 0) & (weights > 0)).any()):
        raise InputError("no pixel has depth and a weight above 0; there is nothing to fuse")
