"""Views cut to another size about the principal point: what the camera head assumes to be at the
image's centre.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch.nn.functional import interpolate

from vggt3_ros.errors import InputError
from vggt3_ros.training.scenes import Views


def cropped(views: Views, size_hw: tuple[int, int], fraction: float = 1.0) -> Views:
    """The largest window of the aspect of `size_hw` (height, width), times `fraction` in both
    directions, resized to it.

    The principal point comes to lie within half a pixel of (width / 2, height / 2), and the
    intrinsics say where exactly. Images are resized with antialiasing, depth takes the nearest
    pixel. Raises InputError where the principal point is at the border of the image.
    """
    height, width = views.depth.shape[-2:]
    if (height, width) == tuple(size_hw) and fraction == 1:
        return views
    # from the image's corner
    centre_x, centre_y = (float(views.intrinsics[axis, 2]) + 0.5 for axis in (0, 1))
    if not (1 < centre_x < width - 1 and 1 < centre_y < height - 1):
        raise InputError(
            f"the principal point ({centre_x - 0.5:.1f}, {centre_y - 0.5:.1f}) lies at the border"
            f" of the {width}x{height} image, so nothing can be cropped around it; check the"
            " intrinsics"
        )
    rows, columns = size_hw
    scale = (
        max(_least_scale(centre_x, width, columns), _least_scale(centre_y, height, rows)) / fraction
    )
    left, wide = _window(centre_x, width, columns, scale)
    top, tall = _window(centre_y, height, rows, scale)
    images = views.images[..., top : top + tall, left : left + wide]
    depth = views.depth[..., top : top + tall, left : left + wide]
    resized = interpolate(
        images.float(), size=size_hw, mode="bilinear", antialias=True, align_corners=False
    )
    nearest = interpolate(depth.float()[None], size=size_hw, mode="nearest-exact")[0]
    intrinsics = views.intrinsics.clone()
    for axis, start, factor in ((0, left, columns / wide), (1, top, rows / tall)):
        intrinsics[axis, axis] *= factor
        intrinsics[axis, 2] = factor * (intrinsics[axis, 2] + 0.5 - start) - 0.5
    pixels = resized.round().clamp(0, 255).to(views.images.dtype)
    return replace(views, images=pixels, depth=nearest.to(views.depth.dtype), intrinsics=intrinsics)


def _least_scale(centre: float, extent: int, target: int) -> float:
    """Smallest factor at which a window of `target` pixels about its principal point lies within
    the image.
    """
    return max((target / 2 + 0.5) / centre, (target / 2 - 0.5) / (extent - centre))


def _window(centre: float, extent: int, target: int, scale: float) -> tuple[int, int]:
    """First pixel and size of the window along one axis."""
    size = min(extent, max(1, math.floor(target / scale + 1e-6)))
    start = round(centre - (target / 2 + 0.5) * size / target)
    return min(max(start, 0), extent - size), size
