from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix, project
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.pipeline.preprocess import prepare, prepared_size
from vggt3_ros.pipeline.undistort import undistorted

MakeImage = Callable[..., Image]
BARREL = Distortion("plumb_bob", (-0.28, 0.07, 0.001, -0.0005, 0.0))
PINCUSHION = Distortion("plumb_bob", (0.25, 0.02, 0.0, 0.0))
RATIONAL = Distortion("plumb_bob", (0.5, 0.02, 0.0004, 0.0002, 0.001, 0.8, 0.1, 0.01))
FISHEYE = Distortion("equidistant", (-0.02, 0.01, -0.004, 0.0005))
LENSES = [BARREL, PINCUSHION, RATIONAL, FISHEYE]


def rays(intrinsics: Tensor, height: int, width: int, distortion: Distortion | None = None) -> Any:
    """x/z, y/z of what each pixel of a camera sees (H, W, 2): the lens formulas, inverted by
    iteration.
    """
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    fx, fy, cx, cy = (float(intrinsics[r, c]) for r, c in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x0, y0 = (columns - cx) / fx, (rows - cy) / fy
    if distortion is None:
        return np.stack([x0, y0], axis=-1)
    x, y = x0, y0
    for _ in range(60):
        r2 = x * x + y * y
        if distortion.model == "equidistant":
            theta = np.arctan(np.sqrt(r2))
            k = distortion.coefficients
            series = theta * (1 + sum(k[i] * theta ** (2 * i + 2) for i in range(4)))
            radial, dx, dy = series / np.maximum(np.sqrt(r2), 1e-12), 0.0, 0.0
            radial = np.where(r2 < 1e-16, 1.0, radial)
        else:
            k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion.coefficients, 0.0, 0.0, 0.0, 0.0)[:8]
            radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
            dx, dy = 2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        # damped, so that it converges
        x, y = 0.5 * (x + (x0 - dx) / radial), 0.5 * (y + (y0 - dy) / radial)
    return np.stack([x, y], axis=-1)


def painted(directions: Any) -> Image:
    """What a camera sees of a smooth painted wall at z = 1."""
    x, y = directions[..., 0], directions[..., 1]
    waves = [np.sin(9 * x + 1), np.sin(8 * y - 5 * x), np.cos(7 * y + 3 * x)]
    return np.clip(127.5 + 120 * np.stack(waves, axis=-1) + 0.5, 0, 255).astype(np.uint8)


def spot(directions: Any, point: tuple[float, float, float], size: float) -> Image:
    """What a camera sees of a bright spot at a 3-D point (camera frame)."""
    offset = directions - np.array([point[0] / point[2], point[1] / point[2]])
    glow = 10 + 240 * np.exp(-(offset**2).sum(-1) / (2 * size**2))
    return np.repeat(glow[..., None].astype(np.uint8), 3, axis=2)


def centre_of(image: Tensor) -> Tensor:
    """Pixel (x, y) of a bright spot in (3, h, w), from the pixels around its maximum."""
    light = (image.mean(0) - 0.2).clamp(min=0).double()
    rows, columns = torch.meshgrid(*(torch.arange(n).double() for n in light.shape), indexing="ij")
    return torch.stack([(light * columns).sum(), (light * rows).sum()]) / light.sum()


@pytest.mark.parametrize("distortion", LENSES, ids=["barrel", "pincushion", "rational", "fisheye"])
def test_undistorting_gives_the_image_of_a_pinhole_camera_up_to_its_corners(
    distortion: Distortion,
) -> None:
    intrinsics = intrinsics_matrix(260.0, 255.0, 165.0, 117.0)
    image = painted(rays(intrinsics, 240, 320, distortion))
    frame = undistorted(Frame(image, intrinsics=intrinsics, distortion=distortion))
    assert frame.distortion is None and frame.intrinsics is not None
    expected = painted(rays(frame.intrinsics, 240, 320)).astype(float)
    assert np.abs(frame.image - expected).max() <= 4, "of 255, at every pixel"
    assert np.abs(image - expected).max() > 30, "the lens did matter"


def test_focal_lengths_grow_only_where_the_corners_would_be_empty() -> None:
    intrinsics = intrinsics_matrix(260.0, 255.0, 165.0, 117.0)
    image = np.full((240, 320, 3), 100, np.uint8)
    barrel = undistorted(Frame(image, intrinsics=intrinsics, distortion=BARREL))
    pincushion = undistorted(Frame(image, intrinsics=intrinsics, distortion=PINCUSHION))
    assert barrel.intrinsics is not None and pincushion.intrinsics is not None
    assert torch.equal(barrel.intrinsics, intrinsics)
    assert 1.05 < float(pincushion.intrinsics[0, 0]) / 260 < 1.5
    assert torch.equal(pincushion.intrinsics[:, 2], intrinsics[:, 2])


def test_an_undistorted_frame_keeps_all_else(make_image: MakeImage) -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    intrinsics, pose = intrinsics_matrix(60.0, 60.0, 31.0, 23.0), torch.eye(4)
    frame = Frame(make_image(1), 7, intrinsics, BARREL, pose, depth, "a")
    result = undistorted(frame)
    assert (result.name, result.stamp_ns) == ("a", 7) and result.prior_world_from_cam is not None
    assert result.depth is not None and np.array_equal(result.depth, depth)
    still = Frame(
        make_image(1), 7, intrinsics, Distortion("plumb_bob", (0, 0, 0, 0)), pose, depth, "a"
    )
    assert undistorted(still) is still


def test_coefficients_that_no_lens_has_are_refused(make_image: MakeImage) -> None:
    wrong = Distortion("plumb_bob", (-4000.0, 0, 0, 0))
    frame = Frame(
        make_image(1), intrinsics=intrinsics_matrix(60, 60, 31, 23), distortion=wrong, name="a"
    )
    with pytest.raises(
        InputError, match=r"^a: distortion plumb_bob \[-4000.0, .* check the calibration"
    ):
        undistorted(frame)


@pytest.mark.parametrize(
    "distortion", [None, *LENSES], ids=["none", "barrel", "pincushion", "rational", "fisheye"]
)
@pytest.mark.parametrize("size", [(240, 320), (320, 240), (300, 300), (230, 407)])
def test_a_known_point_is_seen_where_the_prepared_intrinsics_project_it(
    size: tuple[int, int], distortion: Distortion | None
) -> None:
    height, width = size
    intrinsics = intrinsics_matrix(280.0, 290.0, width / 2 + 9.3, height / 2 - 6.7)
    directions = rays(intrinsics, height, width, distortion)
    for point in ((0.3, -0.2, 1.5), (-0.25, 0.2, 2.0), (0.0, 0.0, 3.0)):
        image = spot(directions, point, size=0.03)
        prepared = prepare([Frame(image, intrinsics=intrinsics, distortion=distortion)], 140, 14)
        assert prepared.intrinsics is not None
        pixel, _ = project(torch.tensor([point], dtype=torch.float64), prepared.intrinsics[0])
        assert torch.linalg.vector_norm(pixel[0] - centre_of(prepared.images[0])) < 0.1, "pixels"


def test_frames_without_calibration_are_cropped_about_their_centre(make_image: MakeImage) -> None:
    prepared = prepare([Frame(make_image(1, 50, 90)), Frame(make_image(2, 50, 90))], 70, 14)
    assert prepared.intrinsics is None and prepared.depth is None
    assert prepared.size_hw == (42, 70) and prepared.images.dtype == torch.float32
    middle = torch.tensor([44.5, 24.5, 1.0], dtype=torch.float64)
    assert torch.allclose(
        prepared.pixels_from_source[0] @ middle, torch.tensor([34.5, 20.5, 1.0]).double(), atol=0.6
    )


def test_a_partly_calibrated_set_is_taken_as_not_calibrated(make_image: MakeImage) -> None:
    calibrated = Frame(make_image(1), intrinsics=intrinsics_matrix(60, 60, 31.5, 23.5))
    assert prepare([calibrated, Frame(make_image(2))], 70, 14).intrinsics is None


def test_depth_follows_the_image_and_is_zero_where_unknown(make_image: MakeImage) -> None:
    depth = np.tile(np.arange(1, 65, dtype=np.float32), (48, 1))
    depth[:, 20] = np.nan
    prepared = prepare([Frame(make_image(1), depth=depth), Frame(make_image(2))], 70, 14)
    assert prepared.depth is not None and tuple(prepared.depth.shape) == (2, 56, 70)
    source = torch.linalg.inv(prepared.pixels_from_source[0])
    columns = torch.arange(70, dtype=torch.float64) * source[0, 0] + source[0, 2]
    known = prepared.depth[0, 30] > 0
    assert float((prepared.depth[0, 30] - 1 - columns)[known].abs().max()) <= 0.51
    assert 1 <= int((~known).sum()) <= 2 and not prepared.depth[1].any()


def test_the_shape_of_most_frames_is_that_of_all_and_known_beforehand(
    make_image: MakeImage,
) -> None:
    wide, tall = Frame(make_image(1)), Frame(make_image(2, 64, 48))
    assert prepared_size([wide], 70, 14) == (56, 70) and prepared_size([tall], 70, 14) == (70, 56)
    assert (
        prepared_size([wide, tall, tall], 70, 14)
        == prepare([wide, tall, tall], 70, 14).size_hw
        == (70, 56)
    )


def test_a_known_point_is_seen_where_a_frame_cropped_to_another_shape_projects_it() -> None:
    sizes, frames, point = ((240, 320), (240, 320), (400, 300), (200, 500)), [], (0.05, -0.04, 1.5)
    for height, width in sizes:
        intrinsics = intrinsics_matrix(280.0, 290.0, width / 2 + 9.3, height / 2 - 6.7)
        frames.append(
            Frame(spot(rays(intrinsics, height, width), point, size=0.03), intrinsics=intrinsics)
        )
    prepared = prepare(frames, 140, 14)
    assert (
        prepared.size_hw == prepared_size(frames, 140, 14) == (112, 140)
        and prepared.intrinsics is not None
    )
    for image, camera in zip(prepared.images, prepared.intrinsics, strict=True):
        pixel, _ = project(torch.tensor([point], dtype=torch.float64), camera)
        assert torch.linalg.vector_norm(pixel[0] - centre_of(image)) < 0.1, "pixels"


def test_no_frame_cannot_be_prepared() -> None:
    with pytest.raises(InputError, match="there are no frames; give at least one image"):
        prepare([], 70, 14)
