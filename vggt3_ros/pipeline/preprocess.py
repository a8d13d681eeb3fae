"""From frames to the network's input: undistorted, cropped and resized alike, calibration carried
along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.published_loader import EvaluationCrop, target_size
from vggt3_ros.pipeline.resample import Resampler
from vggt3_ros.pipeline.undistort import undistorted


@dataclass(frozen=True, eq=False)
class PreparedFrames:
    """S frames as the network takes them.

    images (S, 3, h, w) float32 in [0, 1], on the device of the resampler that they were prepared
    with; all else is on the CPU. intrinsics (S, 3, 3) float64 in pixels of `images`, None
    unless all frames are calibrated. depth (S, h, w) float32 metres, 0 where unknown, None if no
    frame has depth. pixels_from_source (S, 3, 3) float64: from pixels of the frame's (undistorted)
    image to pixels of `images`.
    """

    images: Tensor
    intrinsics: Tensor | None
    depth: Tensor | None
    pixels_from_source: Tensor

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""
        return self.images.shape[-2], self.images.shape[-1]

    def of(self, frames: Tensor) -> PreparedFrames:
        """Some of them, by their indices."""
        parts = {name: part for name, part in vars(self).items() if part is not None}
        return replace(self, **{name: part[frames] for name, part in parts.items()})


def prepare(
    frames: Sequence[Frame],
    image_size: int,
    patch_size: int,
    resampler: Resampler | None = None,
    size_hw: tuple[int, int] | None = None,
) -> PreparedFrames:
    """Prepare frames for a network that works at a long side of `image_size` pixels.

    Lens distortion is undone where known; the image is cropped about the principal point (the
    centre when not calibrated), because the network expects it there. Frames of another shape than
    most are cropped to that one: the network sees less of them; size_hw: as all are, if given, to
    this size. With a resampler images are sent to
    its device in bytes and resized there, to the same pixels. Raises InputError when there is no
    frame.
    """
    target = None if size_hw is None else (size_hw[1], size_hw[0])
    crops = _crops(frames, image_size, patch_size, target)
    images = []
    depths = []
    pixels = []
    intrinsics = []
    for original, crop in zip(frames, crops, strict=True):
        frame = undistorted(original)
        images.append(crop.image(frame.image, resampler))
        pixels.append(crop.pixels_from_source())
        if frame.intrinsics is not None:
            intrinsics.append(pixels[-1] @ frame.intrinsics)
        empty = torch.zeros(crop.target[1], crop.target[0])
        depths.append(empty if frame.depth is None else crop.depth(frame.depth).nan_to_num(0.0))
    return PreparedFrames(
        images=torch.stack(images),
        intrinsics=torch.stack(intrinsics) if len(intrinsics) == len(frames) else None,
        depth=torch.stack(depths) if any(frame.depth is not None for frame in frames) else None,
        pixels_from_source=torch.stack(pixels),
    )


def prepared_size(frames: Sequence[Frame], image_size: int, patch_size: int) -> tuple[int, int]:
    """Height and width in pixels that `prepare` gives the frames, without touching their pixels."""
    width, height = _crops(frames, image_size, patch_size)[0].target
    return height, width


def _crops(
    frames: Sequence[Frame],
    image_size: int,
    patch_size: int,
    target: tuple[int, int] | None = None,
) -> list[EvaluationCrop]:
    """What is done to each frame; the target (width, height) of most is that of all, where none is
    given.
    """
    if len(frames) == 0:
        raise InputError("there are no frames; give at least one image")
    own = [_crop(frame, image_size, patch_size) for frame in frames]
    if target is None:
        target = Counter(crop.target for crop in own).most_common(1)[0][0]
    return [
        crop if crop.target == target else _crop_to(frame, target)
        for frame, crop in zip(frames, own, strict=True)
    ]


def _crop(frame: Frame, image_size: int, patch_size: int) -> EvaluationCrop:
    height, width = frame.size_hw
    target = target_size(width, height, image_size, patch_size)
    return EvaluationCrop.plan((width, height), _principal_point(frame), target)


def _crop_to(frame: Frame, target: tuple[int, int]) -> EvaluationCrop:
    height, width = frame.size_hw
    return EvaluationCrop.plan((width, height), _principal_point(frame), target, rotate=False)


def _principal_point(frame: Frame) -> tuple[float, float] | None:
    k = frame.intrinsics
    return None if k is None else (float(k[0, 2]), float(k[1, 2]))
