"""The answers that localization must beat."""

from __future__ import annotations

import numpy as np
import torch

from vggt3_ros.evaluation.baselines import mean_pose_baseline, nearest_image_baseline, thumbnails
from vggt3_ros.evaluation.metrics import mean_pose


def random_images(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 200, (count, 6, 8, 3), dtype=np.uint8)
    return [image.repeat(8, 0).repeat(8, 1) for image in coarse]


def numbered_poses(count: int) -> torch.Tensor:
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count)
    return poses


def test_nearest_image_gives_the_pose_of_the_image_that_looks_alike() -> None:
    images = random_images(5)
    darker = [(image * 0.5 + 10).astype(np.uint8) for image in (images[3], images[0])]
    answers = nearest_image_baseline(numbered_poses(5), thumbnails(images), thumbnails(darker))
    assert [float(pose[0, 3]) for pose in answers] == [3, 0]


def test_an_image_of_one_colour_has_a_thumbnail_too() -> None:
    assert bool(torch.isfinite(thumbnails([np.full((48, 64, 3), 77, dtype=np.uint8)])).all())


def test_mean_pose_answers_every_query_alike() -> None:
    poses = numbered_poses(3)
    answers = mean_pose_baseline(poses, 4)
    assert len(answers) == 4
    assert all(torch.equal(answer, mean_pose(poses)) for answer in answers)
