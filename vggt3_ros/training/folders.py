"""Posed RGB-D folders as training data, by the readers of data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.errors import InputError

if TYPE_CHECKING:
    from vggt3_ros.training.recordings import Picture, Recording

_PROBED = 8  # frames looked at for depth before training starts


def read_recording(spec: str) -> Recording:
    """The folder `spec` in the plain, TUM RGB-D or 7-Scenes layout; pixels are read when training
    asks for them.

    Of a 7-Scenes scene with its two split files only the training sequences are used. Lens
    distortion is undone. Raises InputError for anything missing or malformed, and when there is no
    depth.
    """
    import numpy as np
    import torch

    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.datasets.sequence import evenly
    from vggt3_ros.training.recordings import Recording

    if not Path(spec).is_dir():
        raise InputError(
            f"training config: there is no folder {spec!r}; `folders` are paths of posed RGB-D"
            " sequences"
        )
    sequence = load_sequence(spec)
    kept = (
        sequence.splits["standard"].map
        if "standard" in sequence.splits
        else tuple(range(len(sequence)))
    )
    if all(sequence.read_depth(i) is None for i in evenly(kept, _PROBED)):
        raise InputError(
            f"{spec}: no depth images, so it cannot be trained on; a plain folder has them in"
            " depth/, TUM RGB-D lists them in depth.txt, 7-Scenes has frame-XXXXXX.depth.png"
        )

    def read(row: int) -> Picture:
        frame = sequence.pinhole_frame(kept[row], with_depth=True)
        depth = np.zeros(frame.size_hw, dtype=np.float32) if frame.depth is None else frame.depth
        return frame.image.copy(), np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)

    pinhole = sequence.pinhole_frame(kept[0]).intrinsics
    assert pinhole is not None, "every sequence has intrinsics"
    return Recording(sequence.name, sequence.world_from_cam[torch.tensor(kept)], pinhole, read)
