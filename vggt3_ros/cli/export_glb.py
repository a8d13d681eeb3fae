"""`vggt3 export SCENE --glb FILE`: points, keyframes and the way between them, for any viewer of
glTF.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import check_not_input, scene_files
from vggt3_ros.errors import InputError
from vggt3_ros.files import atomic_path, check_writable

if TYPE_CHECKING:
    from torch import Tensor

    from vggt3_ros.geometry.glb import Primitive
    from vggt3_ros.scene.scene import Scene

_SIZE = 0.02  # of the map's diagonal: how far before a camera its image is drawn
_CAMERAS = (255, 140, 0)
_WAY = (0, 120, 255)
# of a camera's centre, 0, and the corners of its image, 1 to 4
_FRUSTUM = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


def check_glb_path(path: Path, scene: Path) -> None:
    """Raise an error unless a GLB file can be written to `path`."""
    if path.suffix.lower() != ".glb":
        raise InputError(f"--glb {path} must end in .glb, by which viewers know it")
    check_writable(path, "--glb")
    check_not_input(path, "--glb", scene_files(scene))


def export_glb(scene: Scene, path: Path) -> dict[str, Any]:
    """Write the file, tell what is in it, and return that as data for JSON."""
    from vggt3_ros.cli.export_colmap import tell_left_out
    from vggt3_ros.geometry.glb import Primitive, glb
    from vggt3_ros.pipeline.keyframe_images import posed_keyframes

    rows = posed_keyframes(scene)
    drawn = [_cameras(scene, rows)]
    if len(rows) > 1:
        drawn.append(_way(scene, rows))
    if len(scene.points):
        cloud = scene.points
        drawn.insert(0, Primitive("points", "points", cloud.points, cloud.colors))
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb(drawn))
    unit = "metres" if scene.is_metric else "the scene's units, not metres"
    print(f"glb       {path}: {len(scene.points)} points, {len(rows)} keyframes, Y up, in {unit}")
    tell_left_out(scene, len(rows))
    return {"glb": str(path), "points": len(scene.points), "keyframes": len(rows)}


def _cameras(scene: Scene, rows: tuple[int, ...]) -> Primitive:
    """The pyramid in which each keyframe sees."""
    import torch

    from vggt3_ros.geometry.glb import Primitive
    from vggt3_ros.geometry.se3 import transform_points

    height, width = scene.input_size
    low, high = (torch.tensor(corner) for corner in scene.bounds)
    size = _SIZE * float((high - low).norm()) or _SIZE
    edges = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    pixels = torch.cat([edges, torch.ones(4, 1)], dim=1).double()
    vertices = []
    for row in rows:
        corners = size * torch.linalg.solve(scene.keyframes.intrinsics[row], pixels.T).T
        seen = torch.cat([torch.zeros(1, 3, dtype=torch.float64), corners])
        vertices.append(transform_points(scene.map_from_keyframes[row], seen))
    starts = torch.arange(len(rows))[:, None, None] * (1 + len(edges))
    lines = starts + torch.tensor(_FRUSTUM)
    return Primitive(
        "keyframes",
        "lines",
        torch.cat(vertices),
        _uniform(_CAMERAS, len(rows) * (1 + len(edges))),
        indices=lines,
    )


def _way(scene: Scene, rows: tuple[int, ...]) -> Primitive:
    """Lines from each keyframe to the next."""
    import torch

    from vggt3_ros.geometry.glb import Primitive

    positions = scene.map_from_keyframes[list(rows), :3, 3]
    lines = torch.tensor(list(pairwise(range(len(rows)))))
    return Primitive("way", "lines", positions, _uniform(_WAY, len(rows)), indices=lines)


def _uniform(color: tuple[int, int, int], count: int) -> Tensor:
    import torch

    return torch.tensor(color, dtype=torch.uint8).expand(count, 3)
