"""`vggt3 export SCENE --tum FILE`: the keyframes as a trajectory in the format of TUM's benchmark,
as evo reads it: seconds, position and quaternion x y z w of the camera in the map.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import check_not_input, scene_files
from vggt3_ros.cli.export_colmap import tell_left_out
from vggt3_ros.files import atomic_path, check_writable

if TYPE_CHECKING:
    from vggt3_ros.scene.scene import Scene

_SECOND = 1_000_000_000  # ns
# photographs without times are counted in nanoseconds from 0
_COUNTED = 1_000_000


def check_tum_path(path: Path, scene: Path) -> None:
    """Raise an error unless a trajectory can be written to `path`."""
    check_writable(path, "--tum")
    check_not_input(path, "--tum", scene_files(scene))


def export_tum(scene: Scene, path: Path) -> dict[str, Any]:
    """Write the trajectory, tell its length, and return that as data for JSON."""
    from vggt3_ros.pipeline.keyframe_images import posed_keyframes

    rows = sorted(posed_keyframes(scene), key=lambda row: (scene.keyframes.stamps_ns[row], row))
    stamps = [scene.keyframes.stamps_ns[row] for row in rows]
    is_timed = max(map(abs, stamps)) >= _COUNTED and len(set(stamps)) == len(stamps)
    if not is_timed:
        stamps = [row * _SECOND for row in sorted(rows)]
    lines = [_row(scene, row, stamp) for row, stamp in zip(rows, stamps, strict=True)]
    with atomic_path(path) as temporary:
        header = "# timestamp tx ty tz qx qy qz qw"
        temporary.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    unit = "metres" if scene.is_metric else "the scene's units, not metres"
    print(f"poses     {path}: {len(rows)} keyframes, in {unit}")
    if not is_timed:
        print("          they have no times of their own: seconds are their numbers in the scene")
    tell_left_out(scene, len(rows))
    return {"tum": str(path), "poses": len(rows), "timed": is_timed}


def _row(scene: Scene, row: int, stamp_ns: int) -> str:
    from vggt3_ros.geometry.se3 import quaternion_from_rotation

    pose = scene.map_from_keyframes[row]
    numbers = (*pose[:3, 3].tolist(), *quaternion_from_rotation(pose[:3, :3]).tolist())
    return " ".join([_seconds(stamp_ns), *(f"{number:.9f}" for number in numbers)])


def _seconds(stamp_ns: int) -> str:
    """Nanoseconds as seconds, to the last digit."""
    sign = "-" if stamp_ns < 0 else ""
    seconds, rest = divmod(abs(stamp_ns), _SECOND)
    return f"{sign}{seconds}.{rest:09d}"
