"""The frames of a map, out of the photographs and videos that a user names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vggt3_ros.cli.progress import track
from vggt3_ros.errors import InputError

if TYPE_CHECKING:
    from vggt3_ros.datasets.image_reader import ImageReader
    from vggt3_ros.pipeline.frame import Frame

MAX_FRAMES = 200  # of videos, unless told otherwise


def require_memory(reader: ImageReader, max_frames: int) -> None:
    """Raise `InputError`, with figures, when the decoded images would not fit into memory beside
    each other.
    """
    import torch

    from vggt3_ros.pipeline import memory_check

    kept = max_frames if reader.has_video else None
    needed = reader.decoded_bytes(kept)
    available = memory_check.available_bytes(torch.device("cpu"))
    if available is not None and needed > available:
        what = (
            f"photographs and up to {max_frames} video frames"
            if reader.has_video
            else f"{len(reader)} images"
        )
        raise InputError(
            f"{what} take {needed / 1e9:.2f} GB of memory when decoded, {available / 1e9:.2f} GB"
            " are available; give fewer or smaller images, or of videos a smaller --max-frames"
        )


def collect(reader: ImageReader, max_frames: int) -> tuple[Sequence[Frame], Counter[str]]:
    """The frames to reconstruct, and how many of a video were left out for which reason.

    Photographs were chosen by a person and are all used. Of a video only what shows something new
    is.
    """
    from vggt3_ros.pipeline.collection import CollectionSettings, FrameCollection, Reason

    photographs = []
    collection = FrameCollection(CollectionSettings(max_frames=max_frames))
    for frame, is_of_video in track(reader.with_origin(), "reading", len(reader)):
        if is_of_video:
            collection.add(frame)
        else:
            photographs.append(frame)
    left_out = Counter({reason.value: count for reason, count in collection.counts.items()})
    del left_out[Reason.KEPT.value]
    frames = sorted([*photographs, *collection.frames], key=lambda frame: frame.stamp_ns)
    return frames, left_out
