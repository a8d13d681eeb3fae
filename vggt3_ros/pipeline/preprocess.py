"""From frames to the network's input: undistorted, cropped and resized alike, calibration carried along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.loaders import EvaluationCrop, target_size
from vggt3_ros.pipeline.undistort import undistorted


@dataclass(frozen=True, eq=False)
class PreparedFrames:
    """S frames as the network takes them.

    images (S, 3, h, w) float32 in [0, 1]. intrinsics (S, 3, 3) float64 in pixels of `images`, None unless
    all frames are calibrated. depth (S, h, w) float32 metres, 0 where unknown, None if no frame has depth.
    pixels_from_source (S, 3, 3) float64: from pixels of the frame's (undistorted) image to pixels of
    `images`.
    """

    images: Tensor
    intrinsics: Tensor | None
    depth: Tensor | None
    pixels_from_source: Tensor

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""
        return self.images.shape[-2], self.images.shape[-1]


def prepare(frames: Sequence[Frame], image_size: int, patch_size: int) -> PreparedFrames:
    """Prepare frames for a network that works at a long side of `image_size` pixels.

    Lens distortion is undone where known; the image is cropped about the principal point (the centre when
    not calibrated), because the network expects it there. Raises InputError when there is no frame or when
    they do not come out in one size.
    """
    if len(frames) == 0:
        raise InputError("there are no frames; give at least one image")
    crops = [_crop(frame, image_size, patch_size) for frame in frames]
    for frame, crop in zip(frames, crops, strict=True):
        if crop.target != crops[0].target:
            raise InputError(
                f"frames must come out in one size: {_size(frames[0], crops[0])}, but {_size(frame, crop)}; "
                f"leave one kind out"
            )
    images, depths, pixels, intrinsics = [], [], [], []
    for original, crop in zip(frames, crops, strict=True):
        frame = undistorted(original)
        images.append(crop.image(frame.image))
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


def prepared_size(frame: Frame, image_size: int, patch_size: int) -> tuple[int, int]:
    """Height and width in pixels that `prepare` gives the frame, without touching its pixels."""
    width, height = _crop(frame, image_size, patch_size).target
    return height, width


def _crop(frame: Frame, image_size: int, patch_size: int) -> EvaluationCrop:
    height, width = frame.size_hw
    k = frame.intrinsics
    centre = None if k is None else (float(k[0, 2]), float(k[1, 2]))
    return EvaluationCrop.plan((width, height), centre, target_size(width, height, image_size, patch_size))


def _size(frame: Frame, crop: EvaluationCrop) -> str:
    (height, width), target = frame.size_hw, crop.target
    return f"{frame.label} of {width}x{height} pixels gives {target[0]}x{target[1]}"
