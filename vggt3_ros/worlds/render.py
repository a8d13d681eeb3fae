"""Images and z-depth of many views of many rooms: tiles of pixels are tested only against
primitives that they see.

1. Bounding boxes of primitives are clipped against the frustum of each tile of 16 x 16 pixels
   (conservative).
2. Rays of a tile are intersected with the tile's candidates; depth and primitive number share one
   integer key.
3. The winners are shaded (shading.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.worlds.intersect import Triple, enter_cube, enter_round, leave_cube
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.shading import Rays, shade

TILE = 16
# lowest bits of a key hold the primitive's number; depth keeps 17 bits (8e-6 relative)
_NUMBER_BITS = 63
# Views per pass (of 96 x 128), tile-primitive pairs and shaded pixels at a time: on CPUs what stays
# in a core's cache.
_CPU_CHUNK = 16
_CPU_PAIRS = 256
_CPU_SHADED = 32768
_GPU_CHUNK = 256
_GPU_PAIRS = 1 << 16
_GPU_SHADED = 1 << 22


@dataclass(frozen=True)
class Views:
    """images (B, V, 3, H, W) float32 in [0, 1]; depth (B, V, H, W) z-depth in metres, float32; no
    pixel is empty.
    """

    images: Tensor
    depth: Tensor


@torch.no_grad()
def render(
    rooms: RoomBatch,
    world_from_cam: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
    supersample: int = 1,
) -> Views:
    """Render V views of each of B rooms.

    world_from_cam (B, V, 4, 4); intrinsics (3, 3), (B, 3, 3) or (B, V, 3, 3), pixels, no skew.
    Pixel (column, row) has its ray through exactly (column, row): geometry.unproject with
    pixel_offset 0 inverts it. `supersample` n averages n x n rays a pixel for the image (depth
    stays that of the pixel's own ray). Cameras must be inside the shell and outside the obstacles.
    Raises InputError for wrong shapes.
    """
    if supersample > 1:
        return Views(
            render_images(rooms, world_from_cam, intrinsics, height, width, supersample),
            render_depth(rooms, world_from_cam, intrinsics, height, width),
        )
    batch, views, owners, poses, cameras = _views(rooms, world_from_cam, intrinsics)
    images, depth = _render_all(rooms, owners, poses, cameras, height, width)
    return Views(images.unflatten(0, (batch, views)), depth.unflatten(0, (batch, views)))


@torch.no_grad()
def render_images(
    rooms: RoomBatch,
    world_from_cam: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
    supersample: int = 1,
) -> Tensor:
    """The images of `render` alone, (B, V, 3, H, W)."""
    batch, views, owners, poses, cameras = _views(rooms, world_from_cam, intrinsics)
    finer = cameras * supersample
    finer[:, :2, 2] += (supersample - 1) / 2
    finer[:, 2, 2] = 1
    images, _ = _render_all(rooms, owners, poses, finer, height * supersample, width * supersample)
    images = torch.nn.functional.avg_pool2d(images, supersample)
    return images.unflatten(0, (batch, views))


@torch.no_grad()
def render_depth(
    rooms: RoomBatch, world_from_cam: Tensor, intrinsics: Tensor, height: int, width: int
) -> Tensor:
    """The depth of `render` alone, (B, V, H, W). Cameras may be outside the shell as well: they
    look into it.
    """
    batch, views, owners, poses, cameras = _views(rooms, world_from_cam, intrinsics)
    _, depth = _render_all(rooms, owners, poses, cameras, height, width, shaded=False)
    return depth.unflatten(0, (batch, views))


def _views(
    rooms: RoomBatch, world_from_cam: Tensor, intrinsics: Tensor
) -> tuple[int, int, Tensor, Tensor, Tensor]:
    """Rooms, views of each, and per view its room, its pose and its intrinsics, checked."""
    batch = len(rooms)
    if (
        world_from_cam.dim() != 4
        or world_from_cam.shape[0] != batch
        or world_from_cam.shape[2:] != (4, 4)
    ):
        raise InputError(
            f"world_from_cam must be ({batch}, V, 4, 4), got {tuple(world_from_cam.shape)}"
        )
    views = world_from_cam.shape[1]
    if intrinsics.dim() == 3 and intrinsics.shape[0] == batch:
        intrinsics = intrinsics[:, None]
    if intrinsics.shape not in ((3, 3), (batch, 1, 3, 3), (batch, views, 3, 3)):
        expected = f"(3, 3), ({batch}, 3, 3) or ({batch}, {views}, 3, 3)"
        raise InputError(f"intrinsics must be {expected}, got {tuple(intrinsics.shape)}")
    device = rooms.device
    poses = world_from_cam.to(device, torch.float64).reshape(-1, 4, 4)
    cameras = intrinsics.to(device, torch.float64).expand(batch, views, 3, 3).reshape(-1, 3, 3)
    owners = torch.arange(batch, device=device).repeat_interleave(views)
    return batch, views, owners, poses, cameras


def _render_all(
    rooms: RoomBatch,
    owners: Tensor,
    poses: Tensor,
    cameras: Tensor,
    height: int,
    width: int,
    shaded: bool = True,
) -> tuple[Tensor, Tensor]:
    pixels = height * width
    chunk = max(1, (_CPU_CHUNK if owners.device.type == "cpu" else _GPU_CHUNK) * 96 * 128 // pixels)
    each = len(owners) // len(rooms)
    parts = []
    for i in range(0, len(owners), chunk):
        part = slice(i, i + chunk)
        first = i // each
        some = rooms.select(slice(first, (min(i + chunk, len(owners)) - 1) // each + 1))
        parts.append(
            _render_chunk(
                some, owners[part] - first, poses[part], cameras[part], height, width, shaded
            )
        )
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _render_chunk(
    rooms: RoomBatch,
    owners: Tensor,
    poses: Tensor,
    cameras: Tensor,
    height: int,
    width: int,
    shaded: bool,
) -> tuple[Tensor, Tensor]:
    """Images (n, 3, H, W), empty unless shaded, and depth (n, H, W) of n views; owners (n,) are
    their rooms.
    """
    device = owners.device
    n = len(owners)
    rows = -(-height // TILE)
    columns = -(-width // TILE)
    # Setting up is done in float64: it is small, exact, and untouched by TF32 and autocast.
    local = rooms.local_from_world.double()[owners]  # (n, P, 3, 4)
    # (n, P, 3, 3) local from camera directions
    directions = local[..., :3] @ poses[:, None, :3, :3]
    origins = (local @ poses[:, None, :, 3:]).squeeze(-1).float()  # (n, P, 3)
    fx, fy, cx, cy = (cameras[:, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    # directions as affine functions of integer pixel coordinates: per_pixel @ (column, row, 1)
    inverse = torch.zeros(n, 1, 3, 3, dtype=torch.float64, device=device)
    inverse[:, 0, 0, 0] = 1 / fx
    inverse[:, 0, 1, 1] = 1 / fy
    inverse[:, 0, 2, 2] = 1.0
    inverse[:, 0, 0, 2] = -cx / fx
    inverse[:, 0, 1, 2] = -cy / fy
    per_pixel = directions @ inverse
    tile_row, tile_column = torch.meshgrid(
        torch.arange(rows, device=device) * TILE,
        torch.arange(columns, device=device) * TILE,
        indexing="ij",
    )
    # (tiles, 2)
    corner = torch.stack([tile_column.reshape(-1), tile_row.reshape(-1)], dim=-1).double()

    keys = _shell_keys(per_pixel[:, 0], origins[:, 0], corner)  # (n * tiles, TILE * TILE)
    seen = _candidates(rooms, owners, poses, inverse.squeeze(1), rows, columns)  # (n, tiles, P)
    boxes = torch.arange(seen.shape[-1], device=device) < rooms.box_counts[owners, None, None]
    sphere = rooms.sphere[owners]
    for mask, kind in ((seen & boxes, None), (seen & ~boxes, sphere)):
        _meet(keys, mask, per_pixel, origins, corner, kind)

    depth = (keys & ~_NUMBER_BITS).add_(_NUMBER_BITS // 2 + 1).view(torch.float32).view(n, -1)
    planar = _untile(depth, rows, columns, height, width)
    if not shaded:
        return planar.new_empty(0), planar
    offset = _tile_offsets(device)
    u = (corner[:, :1].float() + offset[0]).reshape(1, -1)  # (1, tiles * TILE * TILE) columns
    v = (corner[:, 1:].float() + offset[1]).reshape(1, -1)
    rays = Rays(
        owners,
        poses[:, :3, 3].float(),
        (poses[:, :3, :3] @ inverse.squeeze(1)).float(),
        u,
        v,
        depth,
        (keys & _NUMBER_BITS).view(n, -1),
        (-torch.log2(fx * fy)).float(),
    )
    block = max(1, (_CPU_SHADED if device.type == "cpu" else _GPU_SHADED) // depth.shape[1])
    colours = [shade(rooms, rays.select(slice(i, i + block))) for i in range(0, n, block)]
    image = _untile(torch.cat(colours, dim=1), rows, columns, height, width)
    return image.transpose(0, 1), planar


def _untile(values: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Pixels in tile order (..., tiles * TILE * TILE) as images (..., height, width)."""
    grid = (
        values.unflatten(-1, (rows, columns, TILE, TILE))
        .transpose(-3, -2)
        .flatten(-4, -3)
        .flatten(-2, -1)
    )
    return grid[..., :height, :width]


def _tile_offsets(device: torch.device) -> Tensor:
    """Column and row (2, 1, TILE * TILE) of the pixels in a tile."""
    step = torch.arange(TILE * TILE, device=device)
    return torch.stack([step % TILE, step // TILE]).float()[:, None]


def _lines(per_pixel: Tensor, corner: Tensor) -> Triple:
    """Local directions, three of (m, TILE * TILE), of m tiles: per_pixel (m, 3, 3) float64, corner
    (m, 2).
    """
    start = (
        per_pixel[..., 0] * corner[:, :1] + per_pixel[..., 1] * corner[:, 1:] + per_pixel[..., 2]
    )
    start = start.float()
    step = per_pixel[..., :2].float()
    column, row = _tile_offsets(per_pixel.device)
    x, y, z = (
        torch.addcmul(start[:, k : k + 1] + step[:, k, :1] * column, step[:, k, 1:], row)
        for k in range(3)
    )
    return x, y, z


def _columns(vectors: Tensor) -> Triple:
    x, y, z = (vectors[:, k : k + 1] for k in range(3))
    return x, y, z


def _shell_keys(per_pixel: Tensor, origin: Tensor, corner: Tensor) -> Tensor:
    tiles = len(corner)
    lines = _lines(per_pixel.repeat_interleave(tiles, 0), corner.repeat(len(per_pixel), 1))
    depth = leave_cube(_columns(origin.repeat_interleave(tiles, 0)), lines)
    return depth.view(torch.int32).bitwise_and_(~_NUMBER_BITS)


def _candidates(
    rooms: RoomBatch, owners: Tensor, poses: Tensor, inverse: Tensor, rows: int, columns: int
) -> Tensor:
    """Which primitives (n, tiles, P) bool may be seen in which tile: their box is cut by the tile's
    four planes.
    """
    centre = rooms.centres[owners].double() - poses[:, None, :3, 3]  # (n, P, 3)
    camera_from_world = poses[:, :3, :3].transpose(1, 2)
    centre = centre @ camera_from_world.transpose(1, 2)
    # columns
    axes = (
        camera_from_world[:, None]
        @ (rooms.rotations * rooms.half_sizes[..., None, :])[owners].double()
    )

    def extent(normal: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest of normal . point over the box; normal (n, 1 | K, 3) in camera axes ->
        (n, K, P).
        """
        middle = normal @ centre.transpose(1, 2)
        reach = torch.einsum("nkc,npca->nkpa", normal, axes).abs().sum(-1)
        return middle - reach, middle + reach

    def between(count: int, axis: int) -> Tensor:
        """(n, count, P): the box reaches into the strip between two neighbouring tile borders."""
        border = (torch.arange(count + 1, device=owners.device) * TILE - 0.5).double()
        normal = torch.zeros(len(owners), count + 1, 3, dtype=torch.float64, device=owners.device)
        normal[..., axis] = 1
        normal[..., 2] = -(border * inverse[:, axis, axis, None] + inverse[:, axis, 2, None])
        low, high = extent(normal)
        return (high[:, :-1] >= 0) & (low[:, 1:] <= 0)

    forward = torch.zeros(len(owners), 1, 3, dtype=torch.float64, device=owners.device)
    forward[..., 2] = 1
    real = (rooms.half_sizes[owners][:, None, :, 0] > 0) & (extent(forward)[1] > 0)  # (n, 1, P)
    real[..., 0] = False  # the shell is dealt with already
    seen = between(rows, 1)[:, :, None] & (between(columns, 0) & real)[:, None]
    return seen.flatten(1, 2)


def _meet(
    keys: Tensor,
    mask: Tensor,
    per_pixel: Tensor,
    origins: Tensor,
    corner: Tensor,
    sphere: Tensor | None,
) -> None:
    """Lower keys (n * tiles, TILE * TILE) int32 in place to the nearest hit of the candidates in
    mask (n, tiles, P).
    """
    tiles = mask.shape[1]
    view, tile, primitive = mask.nonzero(as_tuple=True)
    # place among its tile's candidates, from 1
    rank = mask.cumsum(-1, dtype=torch.int32)[view, tile, primitive]
    order = rank.argsort(stable=True)
    view = view[order]
    tile = tile[order]
    primitive = primitive[order]
    ranks = torch.arange(1, mask.shape[2] + 1, device=mask.device)
    # pairs of every rank; bincount would wait
    counts = (mask.sum(-1, keepdim=True) >= ranks).sum((0, 1))
    ends = sorted({0, *counts.cumsum(0).tolist()})
    found = torch.empty(len(view), TILE * TILE, dtype=torch.int32, device=keys.device)
    block = _CPU_PAIRS if keys.device.type == "cpu" else _GPU_PAIRS
    for first in range(0, len(view), block):
        part = slice(first, first + block)
        lines = _lines(per_pixel[view[part], primitive[part]], corner[tile[part]])
        origin = _columns(origins[view[part], primitive[part]])
        if sphere is None:
            depth = enter_cube(origin, lines)
        else:
            depth = enter_round(origin, lines, sphere[view[part], primitive[part], None])
        key = depth.view(torch.int32).bitwise_and_(~_NUMBER_BITS)
        torch.add(key, primitive[part, None].int(), out=found[part])
    target = view * tiles + tile
    # within one rank every tile appears once
    for first, last in zip(ends[:-1], ends[1:], strict=True):
        rows = target[first:last]
        keys.index_copy_(0, rows, torch.minimum(keys.index_select(0, rows), found[first:last]))
