"""What a map is made of: its frames, and what the network saw in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.preprocess import PreparedFrames


@dataclass(frozen=True, eq=False)
class Observed:
    """S frames, as they were prepared for the network, and what it predicted of them, finite and on
    the CPU.
    """

    frames: tuple[Frame, ...]
    prepared: PreparedFrames
    prediction: Prediction

    @property
    def scene_from_cam(self) -> Tensor:
        """Predicted poses (S, 4, 4) float64, scene units."""
        return self.prediction.cameras.world_from_cam

    @cached_property
    def priors(self) -> dict[int, Tensor]:
        """The given poses (4, 4) by the indices of the frames that have one."""
        given = {index: frame.prior_world_from_cam for index, frame in enumerate(self.frames)}
        return {index: prior for index, prior in given.items() if prior is not None}

    @property
    def sizes_hw(self) -> list[tuple[int, int]]:
        """Height and width of each image."""
        return [frame.size_hw for frame in self.frames]

    @property
    def intrinsics(self) -> Tensor:
        """Intrinsics (S, 3, 3) in pixels of the prediction: known ones, or predicted."""
        known = self.prepared.intrinsics
        return self.prediction.cameras.intrinsics if known is None else known

    @cached_property
    def source_intrinsics(self) -> Tensor:
        """Intrinsics (S, 3, 3) in pixels of the undistorted whole images: known ones, or the median
        of the predicted.

        One camera takes all frames of a map, and its focal length is refined afterwards.
        """
        if self.prepared.intrinsics is not None:
            return torch.stack(
                [frame.intrinsics for frame in self.frames if frame.intrinsics is not None]
            )
        predicted: Tensor = torch.linalg.solve(
            self.prepared.pixels_from_source, self.prediction.cameras.intrinsics
        )
        return predicted.median(dim=0).values.expand(len(self.frames), 3, 3).clone()
