"""How the poses of a scene compare with the true ones: by its own metres and axes, or after a
similarity.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.evaluation.collapse import SPOT, collapse, spread
from vggt3_ros.evaluation.metrics import Alignment, align_map
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.pipeline.prior_alignment import POSE_PRIORS
from vggt3_ros.scene.scene import Scene

_FITTED = "Sim(3) of the true map poses"
_MIN_KEYFRAMES = 3  # that carry landmarks, for the similarity to be theirs
# of the spread of all keyframes; what is closer together determines their scale no better than one
_MIN_FRACTION = 0.05


@dataclass(frozen=True, eq=False)
class MappedFrames:
    """The map frames in use, and how poses become those of the true world.

    indices (M) into the sequence. scene_poses (M, 4, 4): as the network sees them, scene units.
    map_poses (M, 4, 4): in the map frame, as adjusted with the landmarks where there are any.
    with_landmarks: the rows of those that carry landmarks; others stand wherever the network put
    them. source says where the two similarities come from.

    problem: why errors in the true world mean nothing, None if they do; network_problem: the same
    of the network alone, whose map may be drawn together to a spot though the landmarks' is not.
    """

    indices: tuple[int, ...]
    scene_poses: Tensor
    map_poses: Tensor
    with_landmarks: tuple[int, ...]
    true_from_scene: Sim3
    true_from_map: Sim3
    source: str
    problem: str | None
    network_problem: str | None

    @property
    def collapsed(self) -> bool:
        """Whether the estimated positions do not follow the truth, so that every error is
        infinite.
        """
        return self.problem is not None


def align_scene(sequence: Sequence, split: Split, scene: Scene, priors: Priors) -> MappedFrames:
    """With true priors the map must know its metres and axes itself, and with noisy ones where no
    similarity is determined; otherwise its poses get the best Sim(3).

    That is fitted to the keyframes that carry landmarks. Where fewer than three do, or these stand
    so close together that they determine no scale, it is fitted to all.
    """
    index_of_name = {sequence.names[i]: i for i in split.map}
    indices = tuple(index_of_name[name] for name in scene.keyframes.names)
    true = sequence.world_from_cam[list(indices)]
    scene_poses = se3_inverse(scene.keyframes.cam_from_world)
    map_poses = scene.map_from_keyframes
    with_landmarks = scene.keyframes_with_landmarks
    rows = _fitted_rows(with_landmarks, true)
    if priors.kind == "given" and scene.is_metric:
        fit = Alignment(Sim3.identity(), problem=None)
        source = POSE_PRIORS
    else:
        fit = align_map(map_poses[rows], true[rows])
        source = _source(rows, with_landmarks, len(true))
    if fit.problem is not None and priors.kind == "noisy" and scene.is_metric:
        # As where the camera turned on the spot: such a map still says that it is in metres, and is
        # taken at its word.
        fit = Alignment(Sim3.identity(), problem=None)
        source = POSE_PRIORS
    true_from_map = fit.true_from_estimated
    true_from_scene = true_from_map @ scene.map_from_scene
    return MappedFrames(
        indices,
        scene_poses,
        map_poses,
        with_landmarks,
        true_from_scene,
        true_from_map,
        source,
        fit.problem,
        fit.problem or collapse(true_from_scene.poses(scene_poses), true, SPOT),
    )


def _fitted_rows(with_landmarks: tuple[int, ...], true: Tensor) -> list[int]:
    """Rows of the keyframes that the similarity is fitted to, of those whose true poses are (M, 4,
    4).
    """
    rows = list(with_landmarks)
    if len(rows) >= _MIN_KEYFRAMES and spread(true[rows]) >= _MIN_FRACTION * spread(true):
        return rows
    return list(range(len(true)))


def _source(rows: list[int], with_landmarks: tuple[int, ...], count: int) -> str:
    if len(rows) < count:
        return f"{_FITTED} of the {len(rows)} of {count} keyframes with landmarks"
    if 0 < len(with_landmarks) < count:
        return (
            f"{_FITTED} of all keyframes: the {len(with_landmarks)} with landmarks do not tell the"
            " scale"
        )
    return _FITTED
