"""Images resized on a device are those that Pillow makes, to the bit, and arrive there in bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import reconstruct
from vggt3_ros.pipeline.resample import Filter, Resampler

from ..host_waits import Wait, places
from ..pretended_device import CPU, DEVICE, PretendedDevice

MakeFrames = Callable[[int], list[Frame]]
MakeImage = Callable[..., Image]
FILTERS: list[Filter] = ["bicubic", "lanczos"]
SIZES = [
    ((640, 480), (518, 389)),
    ((320, 240), (518, 392)),
    ((71, 87), (89, 21)),
    ((87, 71), (21, 89)),
    ((40, 200), (39, 57)),  # Pillow 13 would begin with the columns
    ((64, 48), (64, 31)),
    ((64, 48), (31, 48)),
    ((1, 1), (7, 5)),
    ((1, 90), (14, 70)),
    ((90, 1), (70, 14)),
    ((53, 37), (1, 1)),
    ((700, 5), (33, 6)),
]


def noise(size: tuple[int, int], seed: int = 0) -> Image:
    width, height = size
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pillows(image: Image, size: tuple[int, int], method: Filter) -> Image:
    """What Pillow makes of it, rows before columns."""
    from PIL import Image as Pillow

    how = getattr(Pillow, method.upper())
    along_rows = Pillow.fromarray(image).resize((size[0], image.shape[0]), how)
    return np.array(along_rows.resize(size, how))


def assert_as_pillows(image: Image, size: tuple[int, int], method: Filter) -> None:
    ours = Resampler(CPU).resized(torch.from_numpy(image), size, method).numpy()
    assert np.array_equal(ours, pillows(image, size, method)), (image.shape, size, method)


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_every_pixel_is_pillows(
    before: tuple[int, int], after: tuple[int, int], method: Filter, make_image: MakeImage
) -> None:
    assert_as_pillows(noise(before), after, method)
    assert_as_pillows(make_image(1, before[1], before[0]), after, method)
    # sums beyond black and white are cut off
    assert_as_pillows(np.where(noise(before, 2) > 127, 255, 0).astype(np.uint8), after, method)


@pytest.mark.parametrize("method", FILTERS)
def test_every_pixel_is_pillows_whatever_the_sizes(method: Filter) -> None:
    sizes = np.random.default_rng(5).integers(1, 120, (150, 4)).tolist()
    for seed, (width, height, *after) in enumerate(sizes):
        assert_as_pillows(noise((width, height), seed), (after[0], after[1]), method)


def test_where_pillow_begins_with_the_rows_one_call_of_it_gives_the_same() -> None:
    from PIL import Image as Pillow

    image = noise((640, 480))
    at_once = np.array(Pillow.fromarray(image).resize((518, 389), Pillow.LANCZOS))
    assert np.array_equal(at_once, pillows(image, (518, 389), "lanczos"))


@pytest.mark.parametrize("method", FILTERS)
def test_a_part_is_cut_out_of_the_whole(method: Filter) -> None:
    image, resampler = torch.from_numpy(noise((60, 50))), Resampler(CPU)
    whole = resampler.resized(image, (41, 72), method)
    part = resampler.resized(image, (41, 72), method, start=(3, 10), target=(28, 42))
    assert torch.equal(part, whole[10:52, 3:31])


def test_fractions_of_white_are_those_of_a_division() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).repeat(1, 1, 3)
    fractions = Resampler(CPU).fractions(pixels)
    assert fractions.dtype == torch.float32
    assert torch.equal(fractions, pixels.permute(2, 0, 1).float() / 255)


def test_what_is_no_image_in_bytes_is_refused() -> None:
    for wrong in (torch.zeros(5, 5, 3), torch.zeros(5, 5, dtype=torch.uint8)):
        with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8; got \(5, 5"):
            Resampler(CPU).resized(wrong, (3, 3), "bicubic")
    with pytest.raises(InputError, match="a line of 0 pixels cannot get 3"):
        Resampler(CPU).resized(torch.zeros(5, 0, 3, dtype=torch.uint8), (3, 3), "bicubic")


def calibrated(image: Image, distortion: Distortion | None = None) -> Frame:
    height, width = image.shape[:2]
    k = intrinsics_matrix(60.0, 61.0, width / 2 - 3.2, height / 2 + 1.7)
    return Frame(image, intrinsics=k, distortion=distortion)


FRAMES: dict[str, Callable[[MakeImage], Frame]] = {
    "larger": lambda make: Frame(make(1, 480, 640)),
    "smaller": lambda make: Frame(make(1, 40, 50)),
    "upright": lambda make: Frame(make(1, 170, 90)),
    "a tower": lambda make: Frame(make(1, 400, 90)),
    "off the centre": lambda make: calibrated(make(1, 120, 160)),
    "distorted": lambda make: calibrated(
        make(1, 120, 160), Distortion("plumb_bob", (-0.28, 0.07, 0.001, -0.0005, 0.0))
    ),
}


@pytest.mark.parametrize("make_frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_is_prepared_on_a_device_as_on_the_cpu(
    make_frame: Callable[[MakeImage], Frame], make_image: MakeImage
) -> None:
    frame = make_frame(make_image)
    here = prepare([frame], 70, 14)
    with PretendedDevice() as device:
        resampler = Resampler(DEVICE)
        prepare([frame], 70, 14, resampler)
        with device.noting() as waits:
            there = prepare([frame], 70, 14, resampler)
        assert [wait.place for wait in waits] == ["pipeline/published_loader.py:image"]
        assert there.images.device == DEVICE and there.images.dtype == torch.float32
        assert torch.equal(there.images.cpu(), here.images)
    assert torch.equal(there.pixels_from_source, here.pixels_from_source)
    assert (there.intrinsics is None) == (here.intrinsics is None)
    if there.intrinsics is not None and here.intrinsics is not None:
        assert torch.equal(there.intrinsics, here.intrinsics)


def test_an_image_that_may_not_be_written_to_is_prepared(make_image: MakeImage) -> None:
    image = make_image(1)
    image.flags.writeable = False
    prepared = prepare([Frame(image)], 70, 14, Resampler(CPU))
    assert torch.equal(prepared.images, prepare([Frame(image)], 70, 14).images)


def test_of_many_sizes_only_the_last_are_remembered(make_image: MakeImage) -> None:
    def waits_for(image: Image) -> list[Wait]:
        with device.noting() as waits:
            prepare([Frame(image)], 70, 14, resampler)
        return waits

    with PretendedDevice() as device:
        resampler = Resampler(DEVICE)
        first = make_image(1)
        waits_for(first)
        assert len(waits_for(first)) == 1
        for more in range(40):
            waits_for(make_image(1, 48, 65 + more))
        assert len(waits_for(first)) == 5  # places and weights of both axes, and the image
        assert len(waits_for(first)) == 1


def test_a_query_on_a_device_sends_bytes_and_answers_as_on_the_cpu(
    small_network: Vggt3, make_frames: MakeFrames, make_image: MakeImage
) -> None:
    frame = Frame(make_image(50))
    settings = LocalizerSettings(depth="network")
    with sdpa_kernel(SDPBackend.MATH):
        scene = reconstruct(make_frames(4), small_network).scene
        here = Localizer(scene, small_network, settings).localize(frame)
        with PretendedDevice() as device:
            network = copy.deepcopy(small_network).to(DEVICE)
            localizer = Localizer(scene, network, settings)
            localizer.localize(frame)
            with device.noting() as waits:
                there = localizer.localize(frame)
    assert places(waits) == {
        "pipeline/published_loader.py:image",
        "pipeline/proposing.py:by_memory",  # the pose
        "model/prediction.py:to",  # the depth
    }
    assert [wait.kind for wait in waits].count("to device") == 1
    assert there.map_from_cam is not None and here.map_from_cam is not None
    assert torch.equal(there.map_from_cam, here.map_from_cam)
    assert there.depth is not None and here.depth is not None
    assert torch.equal(there.depth, here.depth)
