"""Camera poses from matches alone, without any prior: incremental structure from motion by COLMAP
(Schoenberger 2016).

It needs overlap: neighbouring images should share a few hundred features, and each image 15 points
with those placed before it. Features of the whole image (scale 1, 2000 of them) bridge gaps at
which half as large ones tear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.landmarks.colmap import PIXEL_OFFSET
from vggt3_ros.landmarks.features import Features

_FATAL = 3  # of COLMAP's log levels
# COLMAP's defaults (30, 100, 16 degrees) are made for hundreds of photographs; these were chosen on
# sparse ones.
_MIN_INLIERS = 15  # points that place a further image
_START_INLIERS = 30  # matches of the first two images
_START_ANGLE_DEG = 4.0  # between the rays of the first two images
_WELL_LINKED = 30  # links (see SfmPart) from which an image is trusted
_SEED = 0  # of RANSAC


@dataclass(frozen=True, eq=False)
class SfmPart:
    """Images placed together, in a frame and scale of their own.

    world_from_cam: poses (4, 4) float64 by image. links: by image, how many of its points at least
    two others see as well, which alone tie its scale to theirs. points in all; over all their
    observations, the mean reprojection error in pixels; track_length: how many images see a point,
    on average.
    """

    world_from_cam: dict[int, Floats]
    links: dict[int, int]
    points: int
    reprojection_px: float
    track_length: float


@dataclass(frozen=True, eq=False)
class SfmResult:
    """The parts that the images fall into, largest first; each image is in one at most, `unplaced`
    in none.

    doubts: why the poses of the first part should not be relied upon, empty if nothing speaks
    against them. A small reprojection error proves nothing: images that hang by few points fit
    perfectly wherever they are.
    """

    parts: tuple[SfmPart, ...]
    unplaced: tuple[int, ...]
    doubts: tuple[str, ...]

    @property
    def world_from_cam(self) -> dict[int, Floats]:
        """Poses (4, 4) of the images of the largest part."""
        return self.parts[0].world_from_cam if self.parts else {}

    def report(self) -> dict[str, Any]:
        """Figures as plain JSON."""
        first = self.parts[0] if self.parts else None
        return {
            "placed": len(self.world_from_cam),
            "parts": [sorted(part.world_from_cam) for part in self.parts],
            "unplaced": list(self.unplaced),
            "points": first.points if first else 0,
            "reprojection_px": first.reprojection_px if first else None,
            "track_length": first.track_length if first else None,
            "doubts": list(self.doubts),
        }


def incremental_poses(
    features: Sequence[Features],
    matches: Mapping[tuple[int, int], NDArray[np.int32]],
    intrinsics: Floats,
    progress: Callable[[int, int], None] | None = None,
) -> SfmResult:
    """Place K images by their matches {(i, j): (M, 2) pairs of features that one essential matrix
    holds for}.

    intrinsics (K, 3, 3) are kept as they are. progress(placed, K) is called after each image; what
    it raises cancels. One thread; the same result for the same input. Raises ImportError without
    pycolmap.
    """
    import pycolmap

    if len(features) != len(intrinsics):
        raise InputError(f"{len(features)} images need as many intrinsics, got {len(intrinsics)}")
    manager = pycolmap.ReconstructionManager()
    with quiet_colmap(), pycolmap.Database.open(":memory:") as database:
        numbers = _fill(database, features, matches, intrinsics)
        pipeline = pycolmap.IncrementalPipeline(_options(), database, manager)
        if progress is not None:
            report = progress
            count = len(features)

            def placed() -> None:
                report(min(count, _placed(manager)), count)

            for event in ("INITIAL_IMAGE_PAIR_REG_CALLBACK", "NEXT_IMAGE_REG_CALLBACK"):
                pipeline.add_callback(
                    getattr(pycolmap.IncrementalPipelineCallback, event).value, placed
                )
        pipeline.run()
        parts = _disjoint([_part(manager.get(i), numbers) for i in range(manager.size())])
    placed_in_parts = set().union(*(part.world_from_cam for part in parts))
    unplaced = sorted(set(range(len(features))) - placed_in_parts)
    return SfmResult(parts, tuple(unplaced), _doubts(parts, len(features)))


def _fill(
    database: Any,
    features: Sequence[Features],
    matches: Mapping[tuple[int, int], NDArray[np.int32]],
    intrinsics: Floats,
) -> dict[int, int]:
    """Enter everything into COLMAP's database; returns our numbers of images by its own."""
    import pycolmap

    ids = []
    for index, (found, k) in enumerate(zip(features, intrinsics, strict=True)):
        width, height = found.size_wh
        parameters = [k[0, 0], k[1, 1], k[0, 2] + PIXEL_OFFSET, k[1, 2] + PIXEL_OFFSET]
        camera = pycolmap.Camera(model="PINHOLE", width=width, height=height, params=parameters)
        camera.has_prior_focal_length = True
        image = pycolmap.Image(name=str(index), camera_id=database.write_camera(camera))
        ids.append(database.write_image(image))
        database.write_keypoints(ids[-1], found.pixels + np.float32(PIXEL_OFFSET))
    for (i, j), pairs in matches.items():
        if len(pairs):
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = pairs.astype(np.uint32)
            database.write_two_view_geometry(ids[i], ids[j], geometry)
    return {number: index for index, number in enumerate(ids)}


def _options() -> Any:
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = options.mapper.num_threads = 1
    options.random_seed = _SEED
    options.mapper.random_seed = _SEED
    options.triangulation.random_seed = _SEED
    options.extract_colors = False
    options.ba_refine_focal_length = False
    options.ba_refine_principal_point = False
    options.ba_refine_extra_params = False
    options.mapper.abs_pose_refine_focal_length = False
    options.mapper.abs_pose_refine_extra_params = False
    options.min_model_size = 2
    options.min_num_matches = min(_MIN_INLIERS, _START_INLIERS)
    options.mapper.abs_pose_min_num_inliers = _MIN_INLIERS
    options.mapper.init_min_num_inliers = _START_INLIERS
    options.mapper.init_min_tri_angle = _START_ANGLE_DEG
    # Points that two images see are most of what sparse images share.
    options.triangulation.ignore_two_view_tracks = False
    return options


@contextmanager
def quiet_colmap() -> Iterator[None]:
    """Keep COLMAP's log, which tells of every image, off the terminal."""
    import pycolmap

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = _FATAL
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _placed(manager: Any) -> int:
    return sum(manager.get(i).num_reg_images() for i in range(manager.size()))


def _part(model: Any, numbers: Mapping[int, int]) -> SfmPart:
    images = {numbers[number]: model.image(number) for number in sorted(model.reg_image_ids())}
    poses = {}
    for index, image in images.items():
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        poses[index] = pose
    return SfmPart(
        world_from_cam=poses,
        links={index: _links(model, image) for index, image in images.items()},
        points=model.num_points3D(),
        reprojection_px=float(model.compute_mean_reprojection_error()),
        track_length=float(model.compute_mean_track_length()),
    )


def _links(model: Any, image: Any) -> int:
    points = (point.point3D_id for point in image.points2D if point.has_point3D())
    return sum(model.point3D(point).track.length() > 2 for point in points)


def _disjoint(parts: Sequence[SfmPart]) -> tuple[SfmPart, ...]:
    """Parts by size, without the images that a larger one has: COLMAP lets its models overlap."""
    disjoint: list[SfmPart] = []
    taken: set[int] = set()
    for part in sorted(parts, key=lambda part: (-len(part.world_from_cam), -part.points)):
        if len(set(part.world_from_cam) - taken) < 2:
            continue
        poses = {image: pose for image, pose in part.world_from_cam.items() if image not in taken}
        links = {image: part.links[image] for image in poses}
        disjoint.append(SfmPart(poses, links, part.points, part.reprojection_px, part.track_length))
        taken |= set(poses)
    return tuple(sorted(disjoint, key=lambda part: -len(part.world_from_cam)))


def _doubts(parts: Sequence[SfmPart], count: int) -> tuple[str, ...]:
    if not parts:
        return ("no two images share enough features to begin with",)
    first = parts[0]
    doubts = []
    placed = len(first.world_from_cam)
    if placed < count:
        sizes = ", ".join(str(len(part.world_from_cam)) for part in parts)
        doubts.append(
            f"{placed} of {count} images hang together (parts of {sizes}); take images closer to"
            " each other"
        )
    weak = [image for image, links in first.links.items() if links < _WELL_LINKED]
    if weak:
        doubts.append(f"{len(weak)} images share fewer than {_WELL_LINKED} points with two others")
    if placed < 3:
        doubts.append("two images alone contradict nothing")
    return tuple(doubts)
