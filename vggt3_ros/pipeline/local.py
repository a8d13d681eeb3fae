"""The pose of an image from the keyframes most like it: these and the image pass the network
together, and their poses in the map tie the image's to it.

A small network knows few images of a place better than a whole map of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.se3 import chordal_mean, rotation_angle, se3
from vggt3_ros.geometry.sim3 import fit_poses
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import PredictedCameras
from vggt3_ros.pipeline.similar_keyframes import SimilarKeyframes
from vggt3_ros.scene.scene import Scene

_AGREE = math.radians(20)  # rotations that are averaged
# of the spread of the keyframes' predicted positions: what is farther from their middle is beyond
# what their scale tells
_REACH = 6.0


@dataclass(frozen=True, eq=False)
class LocalPose:
    """A pose in the map, (4, 4) float64, and how many keyframes it was made of.

    is_scaled: whether these determine a similarity. Where they stand at one place, the network sees
    them move otherwise than they did, or far less than to the image, the position is that of the
    most similar one.
    """

    map_from_cam: Tensor
    keyframes: int
    is_scaled: bool

    @property
    def proposal(self) -> str:
        """What it was made of, in a few words."""
        made = f"proposed from {self.keyframes} keyframes like it"
        if self.is_scaled:
            return made
        return f"{made}, which determine no scale: its position is that of the most similar one"


class LocalProposer:
    """Poses of images in one scene by the `count` keyframes most like each, in verified scenes of
    those that landmarks tie to the others.

    Raises SceneError for a scene without images of its keyframes.
    """

    def __init__(self, scene: Scene, network: Vggt3, count: int) -> None:
        if scene.images is None:
            raise SceneError(
                f"scene {scene.scene_id} has no images of its keyframes, which local proposals are"
                " made of; map the place again with --keep-images (the mapper's keep_images)"
            )
        self._network = network
        rows = list(range(len(scene.images)))
        if scene.is_verified:
            rows = list(scene.keyframes_with_landmarks)
        self._images = scene.images[rows]
        self._map_from_keyframes = scene.map_from_keyframes[rows]
        self._size_hw = scene.input_size
        self._steps = max(scene.ttt_steps, 1)
        self._similar = SimilarKeyframes(self._images)
        self._count = count

    def propose(self, image: Tensor) -> LocalPose | None:
        """Pose of an image (1, 3, H, W) in [0, 1] of the size of the keyframes'; None where it
        shows too little to find keyframes like it, or the network's answer is not finite.
        """
        shown = (255 * image[0]).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        chosen = torch.from_numpy(self._similar.most_similar(shown, self._count))
        if len(chosen) < 2:
            return None
        keyframes = self._images[chosen].to(image.device) / 255
        encoding = self._network.map_poses(torch.cat([keyframes, image]), self._steps).cpu()
        if not bool(encoding.isfinite().all()):
            return None
        cameras = PredictedCameras.decoded(encoding, self._size_hw)
        pose, is_scaled = tied(cameras.world_from_cam, self._map_from_keyframes[chosen])
        return LocalPose(pose, len(chosen), is_scaled)


def tied(world_from_cam: Tensor, map_from_keyframes: Tensor) -> tuple[Tensor, bool]:
    """Pose (4, 4) float64 in the map of the last of K + 1 cameras, and whether there is a scale.

    world_from_cam (K + 1, 4, 4): as predicted; map_from_keyframes (K, 4, 4): of the first K, the
    most similar first. Each keyframe says how the last camera is turned: the mean of those that
    agree with the most similar one within 20 degrees. The position is by the similarity of the
    poses; where they determine none, or it is far beyond them, that of the most similar keyframe.
    """
    predicted = world_from_cam.double()
    known = map_from_keyframes.double()
    turned = known[:, :3, :3] @ predicted[:-1, :3, :3].transpose(-1, -2) @ predicted[-1, :3, :3]
    agreeing = rotation_angle(turned[0].T @ turned) <= _AGREE
    rotation = chordal_mean(turned[agreeing])
    positions = predicted[:, :3, 3]
    middle = positions[:-1].mean(0)
    spread = (positions[:-1] - middle).square().sum(1).mean().sqrt()
    try:
        map_from_world = fit_poses(predicted[:-1], known)
    except InputError:
        return se3(rotation, known[0, :3, 3]), False
    if (positions[-1] - middle).norm() > _REACH * spread:
        return se3(rotation, known[0, :3, 3]), False
    return se3(rotation, map_from_world.points(positions[-1])), True
