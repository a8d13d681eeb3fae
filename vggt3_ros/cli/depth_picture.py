"""Depth of a keyframe as a picture in colours, dim where it is not sure."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.scene.depth import KeyframeDepth

_BRIGHTNESS = {
    Provenance.NONE: 0.0,
    Provenance.AGREED: 1.0,
    Provenance.PLANE: 0.85,
    Provenance.NEAR: 0.6,
    Provenance.FAR: 0.35,
}
_WIDTH = 320  # pixels of a picture at least
_PERCENTILES = (2, 98)  # of the inverse depths of all keyframes, which are the ends of the colours


class DepthPictures:
    """Pictures of the depth of keyframes, all in the same colours: near is red, far is blue."""

    def __init__(self, depth: KeyframeDepth) -> None:
        self._depth = depth
        known = depth.depth[depth.depth > 0].numpy()[::7]
        ends = np.percentile(1 / known, _PERCENTILES) if len(known) else (0.0, 1.0)
        self._low = float(ends[0])
        self._high = float(ends[1])
        self._brightness = np.array([_BRIGHTNESS[kind] for kind in Provenance])

    def __call__(self, index: int) -> NDArray[np.uint8]:
        """The picture (h, w, 3) of a keyframe: its depth, and, where the scene has it, its image
        below.
        """
        depth = self._depth.depth[index].numpy()
        inverse = np.divide(1.0, depth, out=np.zeros_like(depth), where=depth > 0)
        fraction = ((inverse - self._low) / max(self._high - self._low, 1e-12)).clip(0, 1)
        colours = cv2.applyColorMap((255 * fraction).astype(np.uint8), cv2.COLORMAP_TURBO)
        colours = colours[..., ::-1]
        bright = self._brightness[self._depth.provenance[index].numpy()] * (depth > 0)
        parts: list[Any] = [(colours * bright[..., None]).round().astype(np.uint8)]
        if self._depth.images is not None:
            parts.append(self._depth.images[index].permute(1, 2, 0).numpy())
        times = max(1, -(-_WIDTH // depth.shape[1]))
        return np.ascontiguousarray(np.concatenate(parts).repeat(times, 0).repeat(times, 1))
