from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.published_loader import EvaluationCrop, target_size

GOLDEN = Path(__file__).parents[1] / "data" / "network" / "dev_preprocess.safetensors"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@pytest.mark.parametrize("image", ["img0", "img1"])
def test_the_evaluation_loader_gives_the_published_pixels_and_intrinsics(
    golden: dict[str, Tensor], image: str
) -> None:
    pixels, intrinsics = golden[image].numpy(), golden[f"{image}.eval.K"]
    height, width = pixels.shape[:2]
    centre = (float(intrinsics[0, 2]), float(intrinsics[1, 2]))
    crop = EvaluationCrop.plan((width, height), centre, target_size(width, height, 70))
    torch.testing.assert_close(crop.image(pixels), golden[f"{image}.eval.out"], rtol=0, atol=1e-6)
    expected = golden[f"{image}.eval.K_out"].double()
    torch.testing.assert_close(crop.published_intrinsics(intrinsics), expected, rtol=0, atol=1e-5)


def test_exact_pixels_stay_within_a_pixel_of_the_published_intrinsics() -> None:
    crop = EvaluationCrop.plan((640, 480), (320.1, 247.6), target_size(640, 480))
    intrinsics = torch.tensor(
        [[535.4, 0, 320.1], [0, 539.2, 247.6], [0, 0, 1]], dtype=torch.float64
    )
    difference = crop.pixels_from_source() @ intrinsics - crop.published_intrinsics(intrinsics)
    assert float(difference.abs().max()) < 1.0


@pytest.mark.parametrize(
    "size", [(640, 480), (480, 640), (1, 1), (4000, 30), (30, 4000), (519, 517), (100, 99)]
)
def test_images_of_any_size_and_aspect_fill_their_target(size: tuple[int, int]) -> None:
    width, height = size
    target = target_size(width, height, 70)
    assert max(target) == 70 and target[0] % 14 == 0 and target[1] % 14 == 0
    if size != (1, 1):
        crop = EvaluationCrop.plan(size, None, target)
        image = torch.zeros(height, width, 3, dtype=torch.uint8).numpy()
        assert tuple(crop.image(image).shape) == (3, crop.target[1], crop.target[0])


def test_a_principal_point_at_the_border_is_refused() -> None:
    with pytest.raises(InputError, match="lies at the border of the 64x48 image"):
        EvaluationCrop.plan((64, 48), (0.5, 20.0), (70, 56))
