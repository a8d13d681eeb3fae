"""How depth is refined."""

from __future__ import annotations

from dataclasses import dataclass

from vggt3_ros.errors import InputError


@dataclass(frozen=True)
class DenseSettings:
    """How depth is refined.

    long_side: pixels of the images that are matched, 224 (fast) or 320 (fine). views: neighbours
    that a keyframe is matched with; checked: neighbours that may agree with its depth or see
    through it. tolerance: relative difference of depths that agree. least_angle: degrees between
    the rays of views that agree, for views from one place agree at any depth. planes: whether
    planes carry depth on into what has no texture. batch: keyframes worked on at a time, None for
    as many as are fastest. seconds: that refinement may take for each keyframe, None for any time.
    """

    long_side: int = 224
    views: int = 4
    checked: int = 6
    tolerance: float = 0.01
    least_angle: float = 1.0
    planes: bool = True
    batch: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.long_side < 32:
            raise InputError(
                f"long_side is {self.long_side}; images of fewer than 32 pixels cannot be matched"
            )
        no_batch = self.batch is not None and self.batch < 1
        if self.views < 1 or self.checked < self.views or no_batch:
            counts = f"views {self.views}, checked {self.checked}, batch {self.batch}"
            raise InputError(
                f"views and batch must be at least 1, checked at least views; got {counts}"
            )
        if not 0 < self.tolerance < 0.2 or not 0 <= self.least_angle < 30:
            limits = f"tolerance {self.tolerance}, least_angle {self.least_angle}"
            raise InputError(
                "tolerance must be within 0..0.2 and least_angle within 0..30 degrees; got"
                f" {limits}"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds is {self.seconds}; give seconds a keyframe above 0, or None")
