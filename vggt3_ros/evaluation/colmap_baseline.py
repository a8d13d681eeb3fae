"""What localization is measured beside: plain COLMAP with the true poses of the map frames held as
they are.

SIFT at full size, every pair of map images matched and verified, points triangulated (also those
that two images alone see), nothing adjusted. A query is matched against all map images, and its
pose accepted with 12 inliers or more within 8 px. COLMAP knows neither noisy poses nor queries that
it should refuse.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import Distortion
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.landmarks.colmap import PIXEL_OFFSET
from vggt3_ros.landmarks.sfm import quiet_colmap

INLIER_PX = 8.0
MIN_INLIERS = 12
# of COLMAP's matcher: Lowe's ratio of angles, and the largest angle in rad
_RATIO = 0.8
_MAX_ANGLE = 0.7
_LENGTH = 512.0  # of a SIFT descriptor
_IMAGE = "{}.png"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Sift:
    """n features: pixels (n, 2) float32 in COLMAP's convention, distorted as in the image;
    descriptors (n, 128).
    """

    pixels: NDArray[np.float32]
    descriptors: Any

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The descriptors (n, 128) as vectors of unit length."""
        return np.asarray(self.descriptors.data, np.float32) / np.float32(_LENGTH)


@dataclass(frozen=True, eq=False)
class _MapImage:
    """vectors (n, 128): descriptors of all features, as the ratio test needs also those that have
    no point; point (n,): the row of each one's point in the map, -1 for none.
    """

    vectors: NDArray[np.float32]
    point: NDArray[np.int64]


class ColmapMap:
    """Points triangulated from images whose poses are known, in which other images of the same
    camera are found.

    images (H, W, 3) uint8 RGB of one size; world_from_cam (K, 4, 4) metres; intrinsics (3, 3) in
    pixels. Raises ImportError without pycolmap (extra `sfm`), InputError for fewer than two images
    or images of several sizes.
    """

    def __init__(
        self,
        images: Items[Bytes],
        world_from_cam: Tensor,
        intrinsics: Tensor,
        distortion: Distortion | None = None,
    ) -> None:
        import pycolmap

        sizes = {image.shape for image in images}
        if len(images) < 2 or len(sizes) > 1:
            raise InputError(
                f"COLMAP's map needs two images or more of one size; got {len(images)} of"
                f" {sorted(sizes)}"
            )
        options = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
        with quiet_colmap():
            self._extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
            self._camera = _camera(intrinsics, images[0].shape[:2], distortion)
            features = [self._extract(image) for image in images]
            model, numbers = self._triangulated(features, world_from_cam)
        row_of_point = {number: row for row, number in enumerate(model.point3D_ids())}
        self._positions = np.array([model.point3D(number).xyz for number in row_of_point]).reshape(
            -1, 3
        )
        self._images = []
        for number, found in zip(numbers, features, strict=True):
            points = model.image(number).points2D
            rows = [
                row_of_point[point.point3D_id] if point.has_point3D() else -1 for point in points
            ]
            self._images.append(_MapImage(found.vectors, np.array(rows, np.int64)))

    @property
    def points(self) -> int:
        """How many points were triangulated."""
        return len(self._positions)

    def localize(self, image: Bytes) -> Tensor | None:
        """world_from_cam (4, 4) of an image of the map's size, None where fewer than 12 inliers
        agree on a pose.
        """
        import pycolmap

        with quiet_colmap():
            found = self._extract(image)
            pairs = self._correspondences(found.vectors)
            if len(pairs) < MIN_INLIERS:
                return None
            options = pycolmap.AbsolutePoseEstimationOptions()
            options.ransac.max_error = INLIER_PX
            options.ransac.random_seed = 0
            pixels = found.pixels[pairs[:, 0]].astype(np.float64)
            positions = self._positions[pairs[:, 1]]
            answer = pycolmap.estimate_and_refine_absolute_pose(
                pixels, positions, self._camera, options
            )
        if answer is None or answer["num_inliers"] < MIN_INLIERS:
            return None
        cam_from_world = torch.eye(4, dtype=torch.float64)
        cam_from_world[:3] = torch.from_numpy(np.array(answer["cam_from_world"].matrix()))
        return se3_inverse(cam_from_world)

    def _extract(self, image: Bytes) -> _Sift:
        import cv2

        keypoints, descriptors = self._extractor.extract_from_uint8_array(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        )
        pixels = np.array([[point.x, point.y] for point in keypoints], np.float32).reshape(-1, 2)
        return _Sift(pixels, descriptors)

    def _correspondences(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Pairs (M, 2) of a query's features (rows of vectors) and points, each pair once."""
        found = []
        for image in self._images:
            matches = mutual_matches(vectors, image.vectors)
            points = image.point[matches[:, 1]]
            found.append(np.stack([matches[:, 0], points], axis=1)[points >= 0])
        return np.unique(np.concatenate(found), axis=0)

    def _triangulated(
        self, features: Items[_Sift], world_from_cam: Tensor
    ) -> tuple[Any, list[int]]:
        """COLMAP's model with the given poses, and its numbers of the images."""
        import pycolmap

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.db"
            with pycolmap.Database.open(str(path)) as database:
                self._camera.camera_id = database.write_camera(self._camera)
                numbers = [
                    self._enter(database, index, found) for index, found in enumerate(features)
                ]
                vectors = [found.vectors for found in features]
                for i, j in combinations(range(len(features)), 2):
                    matches = mutual_matches(vectors[i], vectors[j]).astype(np.uint32)
                    database.write_matches(numbers[i], numbers[j], matches)
            pairs = Path(folder) / "pairs.txt"
            names = (
                f"{_IMAGE.format(i)} {_IMAGE.format(j)}\n"
                for i, j in combinations(range(len(features)), 2)
            )
            pairs.write_text("".join(names), encoding="utf-8")
            geometry = pycolmap.TwoViewGeometryOptions()
            geometry.ransac.random_seed = 0
            pycolmap.verify_matches(path, pairs, geometry)
            options = pycolmap.IncrementalPipelineOptions(
                num_threads=1, extract_colors=False, random_seed=0
            )
            # most of the points where images are sparse
            options.triangulation.ignore_two_view_tracks = False
            posed = self._posed(numbers, world_from_cam)
            return (
                pycolmap.triangulate_points(posed, path, folder, folder, options=options),
                numbers,
            )

    def _enter(self, database: Any, index: int, found: _Sift) -> int:
        """Write one image and its features into COLMAP's database; returns its number there."""
        import pycolmap

        image = pycolmap.Image(name=_IMAGE.format(index), camera_id=self._camera.camera_id)
        number: int = database.write_image(image)
        database.write_keypoints(number, found.pixels)
        database.write_descriptors(number, found.descriptors)
        return number

    def _posed(self, numbers: Items[int], world_from_cam: Tensor) -> Any:
        """A model of images with poses, without any point."""
        import pycolmap

        model = pycolmap.Reconstruction()
        model.add_camera_with_trivial_rig(self._camera)
        cam_from_world = se3_inverse(world_from_cam.double())[:, :3].numpy()
        for index, number in enumerate(numbers):
            image = pycolmap.Image(
                name=_IMAGE.format(index), camera_id=self._camera.camera_id, image_id=number
            )
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(cam_from_world[index]))
        return model


def mutual_matches(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.int64]:
    """Matches (M, 2) of unit vectors (n, D) and (m, D) that choose each other, by the rule of
    COLMAP's matcher.

    The same pairs as its own, which compares them one by one and takes ten times as long.
    """
    if len(first) == 0 or len(second) == 0:
        return np.zeros((0, 2), np.int64)
    alike = first @ second.T
    there = _chosen(alike)
    back = _chosen(alike.T)
    index = np.flatnonzero(there >= 0)
    index = index[back[there[index]] == index]
    return np.stack([index, there[index]], axis=1)


def _chosen(alike: NDArray[np.float32]) -> NDArray[np.int64]:
    """Per row of cosines (n, m) the column of the largest, -1 where it is too far or hardly better
    than the next.
    """
    rows = np.arange(len(alike))
    best = alike.argmax(1)
    largest = alike[rows, best]
    others = alike.copy()
    others[rows, best] = -1.0
    angle = np.arccos(np.minimum(largest, 1.0))
    good = (angle <= _MAX_ANGLE) & (angle < _RATIO * np.arccos(np.minimum(others.max(1), 1.0)))
    return np.where(good, best, -1)


def _camera(intrinsics: Tensor, size_hw: tuple[int, int], distortion: Distortion | None) -> Any:
    """COLMAP's camera of ours (3, 3)."""
    import pycolmap

    fx = float(intrinsics[0, 0])
    fy = float(intrinsics[1, 1])
    cx = float(intrinsics[0, 2]) + PIXEL_OFFSET
    cy = float(intrinsics[1, 2]) + PIXEL_OFFSET
    model = "PINHOLE"
    coefficients = list(distortion.coefficients if distortion else ())
    if distortion is not None and distortion.model == "equidistant":
        model = "OPENCV_FISHEYE"
    elif distortion is not None:
        model, count = ("OPENCV", 4) if len(coefficients) <= 4 else ("FULL_OPENCV", 8)
        coefficients += [0.0] * (count - len(coefficients))
    camera = pycolmap.Camera(
        model=model, width=size_hw[1], height=size_hw[0], params=[fx, fy, cx, cy, *coefficients]
    )
    camera.has_prior_focal_length = True
    return camera
