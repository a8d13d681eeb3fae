"""Plain COLMAP finds what it should in a room, by its own rules; the rows beside ours say what both
are worth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.colmap_baseline import ColmapMap, mutual_matches
from vggt3_ros.evaluation.metrics import pose_errors
from vggt3_ros.evaluation.side_by_side import Row, compare, markdown
from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.worlds.sequence import RoomSequence

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def rows(drive: RoomSequence, small_network: Any) -> tuple[Row, Row]:
    """Six map frames and two queries."""
    chosen = [0, 1, 2, 3, 4, 5, 8, 9]
    sequence = Sequence(
        name="room",
        names=tuple(map(str, chosen)),
        stamps_ns=tuple(chosen),
        world_from_cam=drive.world_from_cam[chosen],
        intrinsics=drive.intrinsics,
        splits={"interleaved": Split((0, 1, 2, 3, 4, 5), (6, 7))},
        read_image=lambda i: drive.images[chosen[i]],
        read_depth=lambda i: None,
    )
    return compare(sequence, small_network)


def test_both_methods_are_measured_on_the_same_queries(rows: tuple[Row, Row]) -> None:
    colmap, ours = rows
    assert (colmap.method, ours.method) == ("COLMAP", "ours")
    for row in rows:
        assert (row.map_frames, row.queries, row.wrong) == (6, 2, 0)
        assert row.accepted == 2 and row.success == 1.0
        assert row.position_cm < 2 and row.rotation_deg < 1
        assert row.mapping_s > 0 and row.query_s > 0
    text = markdown(rows)
    assert text.count("\n") == 3 and "| room | COLMAP | 6 | 2 of 2 | 0 | 1.00 |" in text


def test_map_poses_are_held_and_what_shows_nothing_of_the_map_is_not_found(
    drive: RoomSequence, elsewhere: RoomSequence
) -> None:
    colmap = ColmapMap(list(drive.images[:3]), drive.world_from_cam[:3], drive.intrinsics)
    assert colmap.points > 50
    assert colmap.localize(elsewhere.images[0]) is None
    assert colmap.localize(np.full_like(drive.images[0], 80)) is None
    position, rotation = pose_errors([colmap.localize(drive.images[1])], drive.world_from_cam[1:2])
    assert position[0] < 0.005 and rotation[0] < 0.2


def test_matches_are_those_of_colmaps_own_matcher(drive: RoomSequence) -> None:
    extraction = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
    extractor = pycolmap.FeatureExtractor.create(extraction, pycolmap.Device.cpu)
    matching = pycolmap.FeatureMatchingOptions(num_threads=1, use_gpu=False)
    matcher = pycolmap.FeatureMatcher.create(matching, pycolmap.Device.cpu)
    one, two = (
        extractor.extract_from_uint8_array(image[::2, ::2, 1].copy()) for image in drive.images[:2]
    )
    theirs = {tuple(pair) for pair in matcher.match(one[0], one[1], two[0], two[1]).tolist()}
    ours = mutual_matches(*(np.asarray(each[1].data, np.float32) / 512 for each in (one, two)))
    assert len(theirs) > 10
    assert {tuple(pair) for pair in ours.tolist()} == theirs


@pytest.mark.parametrize("count", [0, 1])
def test_images_of_hardly_any_feature_match_nothing_or_what_they_have(count: int) -> None:
    vectors = np.eye(3, 128, dtype=np.float32)
    assert mutual_matches(vectors, vectors[:count]).tolist() == [[0, 0]] * count


def test_images_of_several_sizes_are_refused() -> None:
    images = [np.zeros((12, 16, 3), np.uint8), np.zeros((16, 12, 3), np.uint8)]
    with pytest.raises(InputError, match="one size"):
        ColmapMap(images, torch.eye(4).repeat(2, 1, 1), intrinsics_matrix(20, 20, 8, 6))


@pytest.mark.parametrize(
    ("distortion", "model"),
    [
        (None, "PINHOLE"),
        (Distortion("plumb_bob", (0.1, -0.05, 0.001, 0.002)), "OPENCV"),
        (Distortion("plumb_bob", (0.1, -0.05, 0.001, 0.002, 0.01)), "FULL_OPENCV"),
        (Distortion("equidistant", (0.05, 0.01, 0.0, 0.0)), "OPENCV_FISHEYE"),
    ],
)
def test_colmaps_camera_projects_as_ours_half_a_pixel_on(
    distortion: Distortion | None, model: str
) -> None:
    import cv2

    from vggt3_ros.evaluation.colmap_baseline import _camera

    intrinsics, point = intrinsics_matrix(300, 310, 160, 120), np.array([0.3, -0.2, 1.0])
    camera = _camera(intrinsics, (240, 320), distortion)
    coefficients = np.array(distortion.coefficients if distortion else [0.0] * 4)
    project = cv2.fisheye.projectPoints if model == "OPENCV_FISHEYE" else cv2.projectPoints
    expected = project(
        point.reshape(1, 1, 3), np.zeros(3), np.zeros(3), intrinsics.numpy(), coefficients
    )[0].ravel()
    found = np.asarray(camera.img_from_cam(point.reshape(1, 3))).ravel()
    assert camera.model.name == model
    assert found == pytest.approx(expected + 0.5, abs=1e-6)


def test_a_method_that_finds_nothing_has_no_median() -> None:
    nothing = Row("s", "ours", 4, 3, 0, 0, 0.0, math.nan, math.nan, 1.0, 0.1)
    assert "| 0 of 3 | 0 | 0.00 | - | - |" in markdown([nothing])
