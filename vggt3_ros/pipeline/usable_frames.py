"""Which frames can be reconstructed together."""

from __future__ import annotations

from collections.abc import Sequence

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.resize import resized, same_shape, usual_size


def usable_frames(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[tuple[str, str], ...]]:
    """Frames that can be reconstructed together, and (name, reason) of the others.

    What has the same shape but another size is taken as the same camera's and resized, so that one
    focal length and one noise in pixels hold for all. Where every frame brings its calibration,
    other shapes are other cameras, and are used as they are. Raises InputError when fewer than 2
    are usable.
    """
    if len(frames) == 0:
        raise InputError("there are no frames; give at least 2 images of the place")
    bright = [frame for frame in frames if not frame.is_black] or frames[:1]
    usual = usual_size(frame.size_hw for frame in bright)
    several_cameras = all(frame.intrinsics is not None for frame in bright)
    used = []
    skipped = []
    for index, frame in enumerate(frames):
        has_usual_shape = same_shape(frame.size_hw, usual)
        if frame.is_black:
            skipped.append((frame_name(index, frame), "the image is black"))
        elif not (has_usual_shape or several_cameras):
            skipped.append((frame_name(index, frame), _other_shape(frame.size_hw, usual)))
        elif frame.prior_problem is not None:
            skipped.append((frame_name(index, frame), frame.prior_problem))
        else:
            used.append(resized(frame, usual) if has_usual_shape else frame)
    if len(used) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        why = f" ({reasons}{more})" if skipped else ""
        count = f"{len(used)} of {len(frames)}"
        raise InputError(
            f"a reconstruction needs at least 2 usable frames, but only {count} can be used{why}"
        )
    return tuple(used), tuple(skipped)


def frame_name(index: int, frame: Frame) -> str:
    """What people know a frame of a collection by: its own name, or else its place."""
    return frame.name or f"frame {index}"


def _other_shape(size_hw: tuple[int, int], usual_hw: tuple[int, int]) -> str:
    return (
        f"the image is {size_hw[1]}x{size_hw[0]}, most are {usual_hw[1]}x{usual_hw[0]}: images of"
        " several shapes can be used together only if all of them are calibrated"
    )
