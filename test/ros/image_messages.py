"""Image messages for tests, of arrays."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image as Pillow
from sensor_msgs.msg import CompressedImage, Image

from vggt3_ros.nodes.messages.images import byte_array


def message_of(
    values: np.ndarray, encoding: str, padding: int = 0, bigendian: bool = False
) -> Image:
    """A message of (H, W[, C]) values, each row followed by `padding` bytes of rubbish."""
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    padded = np.concatenate([rows, np.full((len(rows), padding), 171, np.uint8)], axis=1)
    message = Image(
        height=values.shape[0], width=values.shape[1], encoding=encoding, step=padded.shape[1]
    )
    message.is_bigendian, message.data = int(bigendian), byte_array(padded)
    return message


def compressed(image: np.ndarray, kind: str, **options: Any) -> CompressedImage:
    """As Pillow writes it."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, kind, **options)
    return CompressedImage(
        format=kind.lower(), data=byte_array(np.frombuffer(file.getvalue(), np.uint8))
    )
