"""What became of everything that was given: how many images were used, and how many with a pose,
depth, calibration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vggt3_ros.pipeline.frame import Frame


@dataclass
class Account:
    """Counts of images that were used, and of what they came with.

    poses: whether poses and depth can be given at all; left_out: images given and not used;
    left_over: by their kind ("poses", "depth_images") how many of what was given belong to no
    image; calibration: what was understood of it.
    """

    with_poses: bool = True
    images: int = 0
    left_out: int = 0
    with_pose: int = 0
    with_depth: int = 0
    calibrated: int = 0
    left_over: dict[str, int] = field(default_factory=dict)
    calibration: str | None = None

    def add(self, frame: Frame) -> None:
        """Count an image that is used."""
        self.images += 1
        self.with_pose += frame.prior_world_from_cam is not None and frame.prior_problem is None
        self.with_depth += frame.depth is not None and bool((frame.depth > 0).any())
        self.calibrated += frame.intrinsics is not None

    def to_json(self) -> dict[str, Any]:
        """Plain data for --json."""
        counts = {"images": self.images, "left_out": self.left_out}
        if self.with_poses:
            counts |= {"with_pose": self.with_pose, "with_depth": self.with_depth}
        unused = {f"{what}_without_image": count for what, count in self.left_over.items()}
        return {**counts, "calibrated": self.calibrated, **unused, "calibration": self.calibration}

    def lines(self) -> list[str]:
        """The same for a person."""
        parts = [f"{self.calibrated} calibrated"]
        if self.with_poses:
            parts = [f"{self.with_pose} with a pose", f"{self.with_depth} with depth", *parts]
        lines = [
            f"images    {self.images} of {self.images + self.left_out} used; {', '.join(parts)}"
        ]
        unused = [
            f"{count} {what.replace('_', ' ')}" for what, count in self.left_over.items() if count
        ]
        if unused:
            lines.append(f"          {' and '.join(unused)} belong to none of the images")
        if self.calibration is not None:
            lines.append(f"          calibration {self.calibration}")
        return lines
