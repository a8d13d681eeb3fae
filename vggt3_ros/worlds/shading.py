"""From hit points to colours: two texture layers, Lambert's law with point lights and ambient
light, contact shade.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.worlds import surfaces as s
from vggt3_ros.worlds.room import RoomBatch
from vggt3_ros.worlds.textures import (
    LANE_MAX,
    TextureBank,
    lane,
    sample,
    sample_detail,
    texture_bank,
)


@dataclass(frozen=True)
class Rays:
    """N rays of each of n views with their hits.

    owner (n,) room; centre (n, 3) camera in the world; direction (n, 3, 3) maps (column, row, 1) to
    a world direction with camera z 1; column, row (1, N); depth (n, N) metres; primitive (n, N)
    int32; log_pixel (n,) log2 of the area of a pixel at depth 1.
    """

    owner: Tensor
    centre: Tensor
    direction: Tensor
    column: Tensor
    row: Tensor
    depth: Tensor
    primitive: Tensor
    log_pixel: Tensor

    def select(self, part: slice) -> Rays:
        """The rays of a slice of the views."""
        return Rays(
            self.owner[part],
            self.centre[part],
            self.direction[part],
            self.column,
            self.row,
            self.depth[part],
            self.primitive[part],
            self.log_pixel[part],
        )


def shade(rooms: RoomBatch, rays: Rays) -> Tensor:
    """Colours (3, n, N) in [0, 1]."""
    n, count = rays.depth.shape
    most = rooms.half_sizes.shape[1]
    # (n, 3, 1)
    per_column, per_row, start = (rays.direction[..., j].unsqueeze(-1) for j in range(3))
    heading = [
        torch.addcmul(start[:, k] + per_column[:, k] * rays.column, per_row[:, k], rays.row)
        for k in range(3)
    ]
    point = [torch.addcmul(rays.centre[:, k : k + 1], rays.depth, heading[k]) for k in range(3)]
    owner = rays.owner.int()[:, None]
    number = (rays.primitive + owner * most).view(-1)
    transform = rooms.local_from_world.flatten(0, 1).flatten(1).t().contiguous()  # (12, B * P)
    local_map = transform.index_select(1, number).view(12, n, count)
    local = [
        torch.addcmul(local_map[4 * k + 3], local_map[4 * k], point[0])
        .addcmul_(local_map[4 * k + 1], point[1])
        .addcmul_(local_map[4 * k + 2], point[2])
        for k in range(3)
    ]
    face = _face(local)
    boxes = rooms.box_counts.int()[rays.owner][:, None]
    rounded = (rays.primitive >= boxes).view(-1).nonzero().squeeze(1)
    normal_rounded = None
    if len(rounded):
        flat = [x.view(-1).index_select(0, rounded) for x in local]
        sphere = rooms.sphere.view(-1).index_select(0, number.index_select(0, rounded))
        round_face, normal_rounded = _round_surface(
            flat, sphere, local_map.view(12, -1).index_select(1, rounded)
        )
        face.view(-1).index_copy_(0, rounded, round_face)
    table = rooms.faces.flatten(0, 1).t().contiguous()  # (FACE_FIELDS, B * P * 6)
    field = table.index_select(1, number * 6 + face.view(-1)).view(s.FACE_FIELDS, n, count)
    if normal_rounded is not None:
        field[s.NORMAL : s.NORMAL + 3].view(3, -1).index_copy_(1, rounded, normal_rounded)
    light = _light(rooms, rays.owner, point, field[s.NORMAL : s.NORMAL + 3])
    return _albedo(rooms, rays, heading, point, field).mul_(light).clamp_(0, 1)


def _face(local: list[Tensor]) -> Tensor:
    """Face number (n, N) int32 of points on the unit cube: 2 * axis + (positive side)."""
    x, y, z = local
    ax = x.abs()
    ay = y.abs()
    az = z.abs()
    is_y = (ay > ax).int()
    is_z = (az > torch.maximum(ax, ay)).int()
    axis = is_y * (1 - is_z) + 2 * is_z
    largest = torch.maximum(torch.maximum(ax, ay), az)
    highest = torch.maximum(torch.maximum(x, y), z)
    return axis * 2 + (highest >= largest).int()


def _round_surface(local: list[Tensor], sphere: Tensor, transform: Tensor) -> tuple[Tensor, Tensor]:
    """Face (m,) whose texture map is used and world normal (3, m) on a cylinder or an ellipsoid."""
    x, y, z = local
    radius = (x * x + y * y).sqrt()
    cap = (z.abs() > radius) & (sphere == 0)
    # A cylinder's side takes a side face's map even where |z| exceeds |x| and |y|.
    flat_z = torch.where((sphere == 0) & ~cap, 0.0, z)
    face = _face([torch.where(cap, 0.0, x), torch.where(cap, 0.0, y), flat_z])
    gradient = [torch.where(cap, 0.0, x), torch.where(cap, 0.0, y), torch.where(cap, z, z * sphere)]
    # The gradient of the local shape function, mapped by the transposed local_from_world.
    axes = []
    for k in range(3):
        axes.append(torch.stack([gradient[i] * transform[4 * i + k] for i in range(3)]))
    normal = torch.stack(axes).sum(1)
    return face, torch.nn.functional.normalize(normal, dim=0)


def _light(rooms: RoomBatch, owner: Tensor, point: list[Tensor], normal: Tensor) -> Tensor:
    """Light (3, n, N) that falls on the points."""
    # (n, L, 6), (n, 3)
    lights = rooms.lights[owner]
    ambient = rooms.ambient[owner]
    # Contact shade: corners near the floor are darker; ambient light comes rather from above.
    z = point[2]
    sky = normal[2].mul(0.18).add_(0.82).sub_((z * z).mul_(30).add_(1).reciprocal_().mul_(0.25))
    total = [sky * ambient[:, k : k + 1] for k in range(3)]
    for index in range(lights.shape[1]):
        x, y, zz = (lights[:, index, k : k + 1] - point[k] for k in range(3))
        squared = (x * x).addcmul_(y, y).addcmul_(zz, zz)
        cosine = x.mul_(normal[0]).addcmul_(y, normal[1]).addcmul_(zz, normal[2]).clamp_(min=0)
        # cosine / distance / (1 + distance^2 / 8): softer than a physical point light
        strength = cosine.mul_(squared.rsqrt()).div_(squared.mul_(0.125).add_(1))
        if index == 0 and rooms.shadow_depth.shape[-1] > 0:
            strength.mul_(_lit_fraction(rooms, owner, point, normal))
        for k in range(3):
            total[k].addcmul_(strength, lights[:, index, 3 + k, None])
    return torch.stack(total)


def _lit_fraction(rooms: RoomBatch, owner: Tensor, point: list[Tensor], normal: Tensor) -> Tensor:
    """Fraction (n, N), 0 to 1, of the first light that reaches the points, by what that light
    sees.
    """
    # (n, 3, 4, 1)
    camera = rooms.shadow_camera[owner, :, :, None]
    size = rooms.shadow_depth.shape[-1]
    middle = size / 2
    # its rows hold f r_x + c r_z, and r_z
    focal = (camera[:, 0, :3].square().sum(1) - middle**2).sqrt()

    def seen(row: int, at: list[Tensor]) -> Tensor:
        a, b, c, d = camera[:, row].unbind(1)
        return torch.addcmul(d, a, at[0]).addcmul_(b, at[1]).addcmul_(c, at[2])

    pixel = seen(2, point).div_(focal)  # metres that a pixel covers there
    # off the surface's own image
    moved = [torch.addcmul(point[k], pixel, normal[k], value=1.5) for k in range(3)]
    depth = seen(2, moved)
    inverse = depth.clamp(min=1e-3).reciprocal_()
    column, row = ((seen(k, moved) * inverse).round_().long() for k in range(2))
    known = (depth > 1e-3) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
    index = (
        (owner[:, None] * size + row.clamp_(0, size - 1))
        .mul_(size)
        .add_(column.clamp_(0, size - 1))
    )
    nearest = rooms.shadow_depth.reshape(-1)[index]
    hidden = depth.sub_(nearest).div_(pixel.abs_().mul_(2).add_(1e-3)).sub_(0.25).clamp_(0, 1)
    return hidden.mul_(known).neg_().add_(1)


def _albedo(
    rooms: RoomBatch, rays: Rays, heading: list[Tensor], point: list[Tensor], field: Tensor
) -> Tensor:
    """Surface colours (3, n, N): recoloured texture times a finer grey texture."""
    bank = _bank(rooms)
    across = heading[0] * field[s.NORMAL]
    across.addcmul_(heading[1], field[s.NORMAL + 1]).addcmul_(heading[2], field[s.NORMAL + 2])
    # Area of a pixel on the surface = depth^2 / (fx fy |normal . direction|); its root in texels
    # gives the level.
    area = (rays.depth * rays.depth).div_(across.abs_().clamp_(min=0.03))
    level = area.log2_().add_(rays.log_pixel[:, None]).mul_(0.5).add_(field[s.LOG_DENSITY]).view(-1)
    u, v = (
        torch.addcmul(field[m + 3], field[m], point[0])
        .addcmul_(field[m + 1], point[1])
        .addcmul_(field[m + 2], point[2])
        .view(-1)
        for m in (s.MAP_U, s.MAP_V)
    )
    base = sample(bank, field[s.TEXTURE].view(-1).int(), u, v, level)
    finer = field[s.DETAIL_SCALE].view(-1)
    # half a level coarser: there is no interpolation
    coarse = level.add_(field[s.DETAIL_LOG].view(-1)).add_(0.5)
    fine = sample_detail(bank, field[s.DETAIL].view(-1).int(), v.mul_(finer), u.mul_(finer), coarse)
    detail = (
        fine.sub_(127.5)
        .mul_(1 / 255)
        .mul_(field[s.DETAIL_GAIN].view(-1))
        .add_(1)
        .view(rays.depth.shape)
    )
    gain = field[s.GAIN : s.GAIN + 3].mul_(1 / LANE_MAX)
    colours = [
        torch.addcmul(field[s.BIAS + k], gain[k], lane(base, k).view(rays.depth.shape)).mul_(detail)
        for k in range(3)
    ]
    return torch.stack(colours)


def _bank(rooms: RoomBatch) -> TextureBank:
    """With the textures of these rooms, at least."""
    if rooms.device.type != "cpu":
        return texture_bank(rooms.bank, str(rooms.device))
    return texture_bank(rooms.bank, shown=rooms.faces[..., [s.TEXTURE, s.DETAIL]])
