"""How soon a moving robot is found, with each image by itself and with the last ones together.

    python -m vggt3_ros.evaluation.first_fix 900100 900101 ...

Each seed is a corridor: 32 exact map frames over 9 m, landmarks from them alone (no network), and a
drive of 36 images beside the mapped path, in full light, in a fifth of it, and with few of the
features, drawn by chance; then a drive through a corridor that wears the same textures and colours,
where every pose is wrong. Odometry errs as much as the tracker assumes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.attempt import CHI_SQUARE_95, WRONG_POSITION_M, WRONG_ROTATION_DEG
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import rotation_angle, se3_inverse
from vggt3_ros.geometry.uncertainty import corrected_pose, pose_error_vector, squared_error
from vggt3_ros.landmarks.build import build_landmarks, match_keyframes
from vggt3_ros.landmarks.features import Features, extract
from vggt3_ros.landmarks.joint import is_thin, locate_jointly
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.locate import LandmarkLocalizer, Located
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus, Searched
from vggt3_ros.pipeline.recent import RecentImages
from vggt3_ros.pipeline.tracking_settings import TrackingSettings
from vggt3_ros.worlds.lookalike import make_lookalike
from vggt3_ros.worlds.places import plan_corridor
from vggt3_ros.worlds.render import render_images
from vggt3_ros.worlds.room import RoomBatch, make_rooms
from vggt3_ros.worlds.route import unseen_route
from vggt3_ros.worlds.trajectories import drive

HEIGHT = 240
WIDTH = 320
VIEW_DEG = 70.0
MAP_FRAMES = 32
QUERIES = 36
METRES = 9.0
NOISE = 2.5  # grey levels, of a dim corridor
# fractions of the light and of the features
CONDITIONS = ((1.0, 1.0), (0.2, 1.0), (1.0, 0.15), (1.0, 0.07))
TOGETHER = 4  # images that are asked together; one, the default, asks none
IN_A_ROW = 2  # accepted images that are a fix
_PERIOD_NS = 500_000_000


@dataclass(frozen=True)
class Figures:
    """Of a drive: images, how many were accepted, how many of these wrong, and the mean number of
    images from each of them to a fix (counted to the end of the drive where there is none). Of
    poses from several images: how many, their median position error (m), and the fraction of errors
    inside the 95 % bound of their covariances.
    """

    images: int
    accepted: int
    wrong: int
    images_to_fix: float
    joint: int = 0
    joint_error_m: float = math.nan
    joint_inside: float = math.nan


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of all seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seeds", nargs="+", type=int, help="of corridors")
    seeds = parser.parse_args(arguments).seeds
    torch.set_num_threads(1)
    print(
        "| corridor | drive | images | accepted | wrong | images to a fix | joint poses | error cm"
        " | inside 95 % |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in seeds:
        for name, alone, together in measured(seed):
            print(_row(seed, f"{name}, alone", alone), flush=True)
            print(_row(seed, f"{name}, together", together), flush=True)


def _row(seed: int, name: str, found: Figures) -> str:
    """A line of the table."""
    counts = (found.images, found.accepted, found.wrong, f"{found.images_to_fix:.1f}")
    of_joint = (found.joint, f"{100 * found.joint_error_m:.1f}", f"{found.joint_inside:.2f}")
    return "| " + " | ".join(map(str, (seed, name, *counts, *of_joint))) + " |"


def measured(seed: int) -> list[tuple[str, Figures, Figures]]:
    """For each drive its name, and figures of images by themselves and together."""
    focal = WIDTH / 2 / math.tan(math.radians(VIEW_DEG) / 2)
    intrinsics = intrinsics_matrix(focal, focal, WIDTH / 2, HEIGHT / 2)
    dice = torch.Generator().manual_seed(seed)
    corridor = make_rooms([seed], plan=plan_corridor)
    mapped = drive(corridor, MAP_FRAMES, dice, METRES)
    localizer = LandmarkLocalizer(
        _landmarks(_images(corridor, mapped, intrinsics), mapped, intrinsics)
    )
    route = unseen_route(corridor, mapped, QUERIES, dice)
    stranger = make_lookalike(seed + 500, seed, plan=plan_corridor)
    elsewhere = drive(stranger, QUERIES, torch.Generator().manual_seed(seed + 1), METRES)
    rows = []
    for place, path, is_mapped in ((corridor, route, True), (stranger, elsewhere, False)):
        images = _images(place, path, intrinsics)
        for light, fraction in CONDITIONS:
            features = _features(
                images if light == 1 else _dimmed(images, light, seed), fraction, seed
            )
            name = (
                f"{'mapped' if is_mapped else 'look-alike'}, light {light:g}, features {fraction:g}"
            )
            rows.append((name, *_driven(localizer, features, path, intrinsics, is_mapped)))
    return rows


def _driven(
    localizer: LandmarkLocalizer,
    shown: list[Features],
    path: Tensor,
    intrinsics: Tensor,
    is_mapped: bool,
) -> tuple[Figures, Figures]:
    """Figures of a drive that shows these features, each image by itself and with those before
    it.
    """
    camera = intrinsics.numpy()
    recent = RecentImages(TrackingSettings(joint_images=TOGETHER))
    alone: list[Located] = []
    together: list[Located] = []
    for number, (features, odometry) in enumerate(zip(shown, _odometry(path), strict=True)):
        alone.append(localizer.locate(features, camera))
        answer = Localization(LocalizationStatus.LOST, "", None, True, 0.0, None, None, {})
        answer = replace(answer, located=alone[-1], searched=Searched(features, camera))
        views = recent.together(number * _PERIOD_NS, answer, odometry)
        found = (
            locate_jointly(localizer, views)
            if views and is_thin(alone[-1], localizer.settings)
            else None
        )
        together.append(found or alone[-1])
    return _figures(alone, path, is_mapped), _figures(together, path, is_mapped)


def _figures(found: list[Located], path: Tensor, is_mapped: bool) -> Figures:
    accepted = np.array([each.accepted for each in found])
    errors = []
    inside = []
    wrong = 0
    for each, pose in zip(found, path, strict=True):
        if not each.accepted or each.world_from_cam is None or each.covariance is None:
            continue
        error = pose_error_vector(torch.from_numpy(each.world_from_cam), pose)
        far = error[:3].norm() > WRONG_POSITION_M or error[3:].norm() > math.radians(
            WRONG_ROTATION_DEG
        )
        wrong += bool(far) or not is_mapped
        if each.source == "joint":
            errors.append(float(error[:3].norm()))
            inside.append(squared_error(error, torch.from_numpy(each.covariance)) < CHI_SQUARE_95)
    of_joint = (len(errors), float(np.median(errors)), float(np.mean(inside))) if errors else ()
    return Figures(len(found), int(accepted.sum()), wrong, _images_to_fix(accepted), *of_joint)


def _images_to_fix(accepted: NDArray[np.bool_]) -> float:
    """Mean over all images that a drive may begin with."""
    count = len(accepted)
    fixes = [i for i in range(IN_A_ROW - 1, count) if accepted[i - IN_A_ROW + 1 : i + 1].all()]
    waits = []
    for first in range(count - IN_A_ROW + 1):
        fix = min((i for i in fixes if i >= first + IN_A_ROW - 1), default=count)
        waits.append(fix - first + 1)
    return float(np.mean(waits))


def _odometry(path: Tensor) -> list[Tensor]:
    """odom_from_cam of a drive whose errors are those that the tracker assumes."""
    dice = np.random.default_rng(0)
    settings = TrackingSettings()
    odometry = [path[0]]
    for before, after in zip(path[:-1], path[1:], strict=True):
        motion = se3_inverse(before) @ after
        metres = float(motion[:3, 3].norm())
        radians = float(rotation_angle(motion[:3, :3]))
        position = settings.drift_translation * math.sqrt(metres)
        rotation = math.hypot(
            settings.drift_rotation * math.sqrt(radians),
            settings.drift_rotation_per_m * metres**0.5,
        )
        error = dice.normal(size=6) * ([position] * 3 + [rotation] * 3)
        odometry.append(odometry[-1] @ corrected_pose(motion, torch.from_numpy(error)))
    return odometry


def _landmarks(images: NDArray[np.uint8], poses: Tensor, intrinsics: Tensor) -> Landmarks:
    """Landmarks of exact map frames. Raises InputError where they tie nothing together."""
    features = [extract(image) for image in images]
    given = poses.numpy()
    cameras = np.repeat(intrinsics.numpy()[None], len(images), axis=0)
    matches = match_keyframes(features, given, cameras)
    made = build_landmarks(features, matches, given, cameras, np.ones(len(images), dtype=bool))
    if made.landmarks is None:
        raise InputError(f"the corridor cannot be mapped: {made.reason}; choose another seed")
    return made.landmarks


def _images(place: RoomBatch, poses: Tensor, intrinsics: Tensor) -> NDArray[np.uint8]:
    """What is seen from poses (N, 4, 4): (N, H, W, 3)."""
    with torch.no_grad():
        parts = [
            render_images(place, part[None], intrinsics, HEIGHT, WIDTH, supersample=2)[0]
            for part in poses.split(8)
        ]
    return torch.cat(parts).mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def _features(images: NDArray[np.uint8], fraction: float, seed: int) -> list[Features]:
    """Of each image, a fraction of its features."""
    dice = np.random.default_rng(seed)
    found = []
    for image in images:
        features = extract(image)
        kept = np.sort(dice.permutation(len(features))[: round(fraction * len(features))])
        found.append(
            replace(features, pixels=features.pixels[kept], descriptors=features.descriptors[kept])
        )
    return found


def _dimmed(images: NDArray[np.uint8], light: float, seed: int) -> NDArray[np.uint8]:
    noise = NOISE * np.random.default_rng(seed).standard_normal(images.shape)
    return np.clip(light * images + noise, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
