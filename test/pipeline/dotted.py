"""A scene with images of its keyframes in which one landmark can be seen: a white dot each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.scene.scene import Keyframes, Scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict

from ..landmarks.synthetic import SIZE_WH, synthetic_landmarks

LANDMARK = 13  # which all keyframes but one see
FOCAL_FACTOR = 1.25
LENS = Distortion("plumb_bob", (0.08, -0.02, 0.0, 0.0))
SECOND = 1_000_000_000


def dotted_scene(calibrated: bool = True) -> Scene:
    """Five keyframes of 640 x 480 pixels, seen by a network of 168 x 126; the last keyframe
    observes nothing. With a calibration, a lens that distorts took them.
    """
    landmarks = without_last(synthetic_landmarks())
    frames = [dotted_frame(landmarks, row, calibrated) for row in range(5)]
    prepared = prepare(frames, image_size=168, patch_size=14)
    height, width = prepared.size_hw
    predicted = torch.tensor([[150.0, 0, width / 2], [0, 160, height / 2], [0, 0, 1]]).double()
    known = prepared.intrinsics
    return Scene(
        memory={},
        keyframes=Keyframes(
            names=("a.jpg", "left/b.jpg", "c", "right/c", "é"),
            stamps_ns=tuple(1_700_000_000 * SECOND + row * SECOND // 10 for row in range(5)),
            cam_from_world=se3_inverse(torch.from_numpy(landmarks.world_from_cam))[:, :3],
            intrinsics=predicted.expand(5, 3, 3).clone() if known is None else known,
        ),
        points=PointCloud(
            torch.from_numpy(landmarks.positions),
            torch.arange(len(landmarks), dtype=torch.uint8)[:, None].expand(-1, 3),
            torch.ones(len(landmarks)),
        ),
        bounds=((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)),
        model_id="small",
        model_fingerprint="0123456789abcdef",
        input_size=(height, width),
        ttt_steps=2,
        is_metric=True,
        metric_source="pose_priors",
        landmarks=landmarks.tensors(),
        verdict=MapVerdict(True, ""),
        calibration=MapCalibration((SIZE_WH,) * 5, FOCAL_FACTOR if calibrated else 1.1, 2.0),
        images=(255 * prepared.images).round().to(torch.uint8),
    )


def without_last(landmarks: Landmarks) -> Landmarks:
    arrays = dict(vars(landmarks))
    seen = landmarks.observed_from < 4
    for name in ("observed_from", "observed", "pixels"):
        arrays[name] = arrays[name][seen]
    return Landmarks(**arrays)


def dotted_frame(landmarks: Landmarks, row: int, calibrated: bool) -> Frame:
    """What the keyframe would have photographed, with the focal length given that the map found to
    be FOCAL_FACTOR times as long.
    """
    import cv2

    intrinsics = landmarks.intrinsics[row]
    cam_from_world = se3_inverse(torch.from_numpy(landmarks.world_from_cam[row]))
    point = torch.from_numpy(landmarks.positions[LANDMARK]).double()
    ray = transform_points(cam_from_world, point[None])[0].numpy()
    given = intrinsics.copy()
    lens = np.zeros(4)
    if calibrated:
        given[[0, 1], [0, 1]] /= FOCAL_FACTOR
        lens = np.array(LENS.coefficients)
        # the lens bends rays as the camera of the given focal length would see them
        ray = ray * (FOCAL_FACTOR, FOCAL_FACTOR, 1)
    pixel = cv2.projectPoints(ray[None], np.zeros(3), np.zeros(3), given, lens)[0].ravel()
    columns, rows = np.meshgrid(np.arange(SIZE_WH[0]), np.arange(SIZE_WH[1]))
    squared = (columns - pixel[0]) ** 2 + (rows - pixel[1]) ** 2
    image = (255 * np.exp(-squared / (2 * 6.0**2))).astype(np.uint8)[..., None].repeat(3, 2)
    return Frame(
        image,
        stamp_ns=row,
        intrinsics=torch.from_numpy(given) if calibrated else None,
        distortion=LENS if calibrated else None,
    )


def dot_in(path: Path) -> np.ndarray:
    """Where the dot is in a picture (2,): x y, measured from the corner."""
    from PIL import Image

    return middle_of_dot(np.asarray(Image.open(path).convert("L"), dtype=np.float64)) + 0.5


def middle_of_dot(brightness: np.ndarray) -> np.ndarray:
    """Its middle (2,) in an image (H, W): x y, pixel centres at whole numbers."""
    rows, columns = np.indices(brightness.shape)
    weight = np.where(brightness > 0.2 * brightness.max(), brightness, 0)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
