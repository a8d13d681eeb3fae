"""Exchange with COLMAP: landmarks written as one of its models, and its cameras and poses as ours.

COLMAP's pixel centres lie at halves, ours at whole numbers; its poses are cam_from_world,
quaternions w x y z.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.landmarks.colmap_files import (
    read_cameras_and_images,
    write_cameras_and_images,
    write_points,
)
from vggt3_ros.landmarks.colmap_records import ColmapCamera, ColmapImage, ColmapPoint
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.pnp import reprojection_errors
from vggt3_ros.landmarks.tensors import pose_from_quaternion, quaternion_poses, to_array

PIXEL_OFFSET = 0.5  # COLMAP's pixel is ours plus this
_GREY = (128, 128, 128)
_ONE_FOCAL_LENGTH = (
    "SIMPLE_PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
)
# What the distortion of COLMAP's camera models is called here, and how many coefficients it takes.
_DISTORTIONS = {
    "SIMPLE_PINHOLE": ("plumb_bob", 4), "PINHOLE": ("plumb_bob", 4),
    "SIMPLE_RADIAL": ("plumb_bob", 4), "RADIAL": ("plumb_bob", 4), "OPENCV": ("plumb_bob", 4),
    "FULL_OPENCV": ("plumb_bob", 8),
    "SIMPLE_RADIAL_FISHEYE": ("equidistant", 4), "RADIAL_FISHEYE": ("equidistant", 4),
    "OPENCV_FISHEYE": ("equidistant", 4),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """The K images of a COLMAP model, in its own frame and scale, both arbitrary unless somebody
    has set them.

    names: relative to the model's image folder, "/" may occur. world_from_cam (K, 4, 4) and
    intrinsics (K, 3, 3) float64, pixel centres at whole numbers; distortions and sizes (W, H) of
    each image.
    """

    names: tuple[str, ...]
    world_from_cam: Floats
    intrinsics: Floats
    distortions: tuple[Distortion | None, ...]
    sizes_wh: tuple[tuple[int, int], ...]


def read_colmap(folder: Path) -> ColmapModel:
    """Read a COLMAP model, text or binary, in the order of its images' names.

    Raises InputError naming the file when something is missing or damaged, and naming the camera
    model when there is none like it here (FOV, THIN_PRISM_FISHEYE and later ones).
    """
    cameras, images = read_cameras_and_images(folder)
    if not images:
        raise InputError(
            f"{folder}: the model has no images; give the folder of a finished one, such as"
            " sparse/0"
        )
    unknown = {image.camera for image in images} - set(cameras)
    if unknown:
        raise InputError(
            f"{folder}: an image names camera {min(unknown)}, which the model lacks; export it"
            " again"
        )
    names = Counter(image.name for image in images)
    if len(names) < len(images):
        raise InputError(
            f"{folder}: two images are called {names.most_common(1)[0][0]!r}; keep the pose of one"
        )
    images = sorted(images, key=lambda image: image.name)
    used = [cameras[image.camera] for image in images]
    calibrations = [_calibration(camera, folder) for camera in used]
    return ColmapModel(
        names=tuple(image.name for image in images),
        world_from_cam=np.stack([_world_from_cam(image, folder) for image in images]),
        intrinsics=np.stack([intrinsics for intrinsics, _ in calibrations]),
        distortions=tuple(distortion for _, distortion in calibrations),
        sizes_wh=tuple(camera.size_wh for camera in used),
    )


def _calibration(camera: ColmapCamera, folder: Path) -> tuple[Floats, Distortion | None]:
    if camera.model not in _DISTORTIONS:
        usable = ", ".join(_DISTORTIONS)
        raise InputError(
            f"{folder}: camera model {camera.model} is not supported; convert it to one of {usable}"
        )
    values = list(camera.parameters)
    if camera.model in _ONE_FOCAL_LENGTH:
        values.insert(1, values[0])
    if not np.isfinite(values).all() or min(values[:2]) <= 0:
        raise InputError(
            f"{folder}: a {camera.model} camera has the parameters {values}, which are no"
            " calibration"
        )
    fx, fy, cx, cy, *coefficients = values
    intrinsics = to_array(intrinsics_matrix(fx, fy, cx - PIXEL_OFFSET, cy - PIXEL_OFFSET))
    if not any(coefficients) and not camera.model.endswith("FISHEYE"):
        return intrinsics, None
    model, count = _DISTORTIONS[camera.model]
    padded = (*coefficients, *[0.0] * (count - len(coefficients)))
    return intrinsics, Distortion(model, padded)  # type: ignore[arg-type]


def _world_from_cam(image: ColmapImage, folder: Path) -> Floats:
    numbers = np.array([*image.quaternion, *image.translation], np.float64)
    if not np.isfinite(numbers).all() or not numbers[:4].any():
        raise InputError(
            f"{folder}: the pose of {image.name} is not one, {numbers.tolist()}; export the model"
            " again"
        )
    return pose_from_quaternion(np.roll(numbers[:4], -1), numbers[4:])


def write_colmap(
    landmarks: Landmarks,
    names: Sequence[str],
    sizes_wh: Sequence[tuple[int, int]],
    folder: Path,
    colors: NDArray[np.uint8] | None = None,
) -> None:
    """Write cameras.bin, images.bin and points3D.bin (names may hold spaces there) into an existing
    folder.

    names and sizes (W, H) of the K keyframes; colors (N, 3) RGB of the landmarks, grey without.
    Keyframes with the same intrinsics and size share a PINHOLE camera. Numbers of cameras, images
    and points count from 1; landmarks that no keyframe observes are left out. Raises InputError
    when the counts disagree or two images have the same name.
    """
    count = len(landmarks.world_from_cam)
    if len(names) != count or len(sizes_wh) != count:
        raise InputError(
            f"{count} keyframes need as many names and sizes, got {len(names)} and {len(sizes_wh)}"
        )
    if colors is not None and colors.shape != (len(landmarks), 3):
        raise InputError(f"colors must be {(len(landmarks), 3)}, got {colors.shape}")
    if len(set(names)) != count or not all(names):
        twice = next(name for name in names if not name or names.count(name) > 1)
        raise InputError(
            f"a COLMAP model knows images by their names, and {twice!r} is not the name of one"
            " alone"
        )
    cameras = []
    for size_wh, k in zip(sizes_wh, landmarks.intrinsics, strict=True):
        parameters = (k[0, 0], k[1, 1], k[0, 2] + PIXEL_OFFSET, k[1, 2] + PIXEL_OFFSET)
        cameras.append(ColmapCamera("PINHOLE", size_wh, parameters))
    numbers = {camera: number for number, camera in enumerate(dict.fromkeys(cameras), start=1)}
    quaternions, translations = quaternion_poses(landmarks.world_from_cam)
    w_first = np.roll(quaternions, 1, axis=-1)
    images = []
    for index, name in enumerate(names):
        pose = (tuple(w_first[index].tolist()), tuple(translations[index].tolist()))
        images.append(ColmapImage(name, numbers[cameras[index]], *pose))
    pixels = landmarks.pixels.astype(np.float64) + PIXEL_OFFSET
    seen = np.searchsorted(landmarks.observed_from, np.arange(count + 1))
    spans = [slice(*ends) for ends in zip(seen, seen[1:], strict=False)]
    observations = [(pixels[span], landmarks.observed[span] + 1) for span in spans]
    write_cameras_and_images(
        folder, {number: camera for camera, number in numbers.items()}, images, observations
    )
    write_points(folder, _points(landmarks, colors))


def _points(landmarks: Landmarks, colors: NDArray[np.uint8] | None) -> Iterator[ColmapPoint]:
    first = np.searchsorted(landmarks.observed_from, np.arange(len(landmarks.world_from_cam)))
    order = np.argsort(landmarks.observed, kind="stable")
    ends = np.searchsorted(landmarks.observed[order], np.arange(len(landmarks) + 1))
    errors = _errors(landmarks)
    for landmark, position in enumerate(landmarks.positions.tolist()):
        seen = order[ends[landmark] : ends[landmark + 1]]
        keyframes = landmarks.observed_from[seen]
        track = np.stack([keyframes + 1, seen - first[keyframes]], axis=1)
        color = _GREY if colors is None else tuple(colors[landmark].tolist())
        if len(track):
            yield ColmapPoint(
                landmark + 1, tuple(position), color, float(errors[seen].mean()), track
            )


def _errors(landmarks: Landmarks) -> Floats:
    """Distance in pixels (O,) of each observation from where its landmark is projected to."""
    errors = np.zeros(len(landmarks.observed))
    for keyframe, world_from_cam in enumerate(landmarks.world_from_cam):
        seen = landmarks.observed_from == keyframe
        points = landmarks.positions[landmarks.observed[seen]].astype(np.float64)
        pixels = landmarks.pixels[seen].astype(np.float64)
        errors[seen] = reprojection_errors(
            world_from_cam, points, pixels, landmarks.intrinsics[keyframe]
        )
    return errors
