"""Depth of a new frame, refined by what keyframes know of the surfaces that it sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vggt3_ros.dense.completion import completed, filled_depth
from vggt3_ros.dense.fusion import TAKEN
from vggt3_ros.dense.rendering import DepthRenderer
from vggt3_ros.dense.resize import averaged, averaged_intrinsics, working_size
from vggt3_ros.scene.depth import KeyframeDepth

_KEYFRAMES = 6  # that are rendered into a frame
_GREY = (0.299, 0.587, 0.114)


class LiveDepth:
    """Depth of a scene's keyframes, for frames whose pose in the map is known."""

    def __init__(self, stored: KeyframeDepth) -> None:
        self._long_side = max(stored.depth.shape[1:])
        trusted = torch.isin(
            stored.provenance, torch.tensor([int(kind) for kind in TAKEN], dtype=torch.uint8)
        )
        self._renderer = DepthRenderer(
            torch.where(trusted, stored.depth, 0.0), stored.intrinsics, stored.world_from_cam
        )

    def refined(
        self, image: Tensor, predicted: Tensor, intrinsics: Tensor, map_from_cam: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Depth (h, w) along z in the unit of the map, and how it is known (h, w) uint8.

        AGREED where keyframes show a surface there; else the predicted shape, with the ratio to
        these carried on: NEAR or FAR. image (3, h, w) in [0, 1]; predicted (h, w), above 0, in
        about the same unit; intrinsics (3, 3) of these pixels; map_from_cam (4, 4). Nothing moves
        in a map: what came or went since is not noticed.
        """
        whole_hw = (predicted.shape[0], predicted.shape[1])
        size_hw = working_size(whole_hw, self._long_side)
        own = averaged_intrinsics(intrinsics, whole_hw, size_hw)
        rendered = self._renderer.rendered(own, map_from_cam, size_hw, _KEYFRAMES)[None]
        grey = averaged((image * torch.tensor(_GREY)[:, None, None]).sum(0), size_hw)[None]
        coarse = averaged(predicted, size_hw)[None]
        filled = filled_depth(rendered, rendered > 0, coarse, grey)
        depth, provenance = completed(rendered, rendered > 0, filled, (), grey)
        if size_hw == whole_hw:
            return depth[0], provenance[0]
        ratio = interpolate(
            (depth / coarse).log()[None], whole_hw, mode="bilinear", align_corners=False
        )[0, 0]
        kinds = interpolate(provenance[None].float(), whole_hw, mode="nearest-exact")[0, 0]
        return predicted * ratio.exp(), kinds.to(torch.uint8)
