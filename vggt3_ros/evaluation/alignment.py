"""How the poses of a scene compare with the true ones: by its own metres and axes, or after a similarity."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vggt3_ros.evaluation.metrics import align_map
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.sequence import Sequence, Split
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.scene.scene import Scene

POSE_PRIORS = "pose priors"
_FITTED = "Sim(3) of the true map poses"


@dataclass(frozen=True, eq=False)
class MappedFrames:
    """The map frames in use, and how poses become those of the true world.

    indices (M) into the sequence. scene_poses (M, 4, 4): as the network sees them, scene units. map_poses (M, 4, 4): in
    the map frame, as adjusted with the landmarks where there are any. source tells where the two similarities come
    from; collapsed: the estimated positions contradict the truth, and the best scale would be zero.
    """

    indices: tuple[int, ...]
    scene_poses: Tensor
    map_poses: Tensor
    true_from_scene: Sim3
    true_from_map: Sim3
    source: str
    collapsed: bool


def align_scene(sequence: Sequence, split: Split, scene: Scene, priors: Priors) -> MappedFrames:
    """With true priors the map must know its metres and axes itself; otherwise its poses get the best Sim(3)."""
    index_of_name = {sequence.names[i]: i for i in split.map}
    indices = tuple(index_of_name[name] for name in scene.keyframes.names)
    scene_poses = se3_inverse(scene.keyframes.cam_from_world)
    map_poses = scene.map_from_keyframes
    if priors.kind == "given" and scene.is_metric:
        true_from_map, collapsed, source = Sim3.identity(), False, POSE_PRIORS
    else:
        fit = align_map(map_poses, sequence.world_from_cam[list(indices)])
        true_from_map, collapsed, source = fit.true_from_estimated, fit.collapsed, _FITTED
    true_from_scene = _chained(true_from_map, scene.map_from_scene)
    return MappedFrames(indices, scene_poses, map_poses, true_from_scene, true_from_map, source, collapsed)


def _chained(a_from_b: Sim3, b_from_c: Sim3) -> Sim3:
    rotation = a_from_b.rotation @ b_from_c.rotation
    return Sim3(a_from_b.scale * b_from_c.scale, rotation, a_from_b.points(b_from_c.translation))
