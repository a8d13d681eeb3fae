"""The protocol of the VGG-T3 paper, on a miniature of 7-Scenes and with a network that knows its
truth.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.evaluation.pointmaps import compare_pointmaps, icp, true_pointmap
from vggt3_ros.evaluation.protocol import evaluate_scene, load_scenes, protocol_figures
from vggt3_ros.evaluation.protocol_figures import mean_of_scenes
from vggt3_ros.evaluation.protocol_table import table
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.pipeline.frame import Frame

from .miniature import KnowsTheRoom, write_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature. Not to be changed by tests."""
    return write_scene(tmp_path_factory.mktemp("miniature") / "den")


@pytest.fixture(scope="module")
def scene(folder: Path) -> Sequence:
    return load_scenes(folder)[0]


def test_every_50th_training_and_20th_test_image_is_taken(scene: Sequence) -> None:
    split = scene.split("vgg-t3")
    assert [scene.names[i] for i in split.map] == [f"seq-{each}" for each in (
        "01/frame-000000", "01/frame-000050", "03/frame-000040")]  # fmt: skip
    assert [scene.names[i] for i in split.query] == [
        f"seq-02/frame-{number:06d}" for number in (0, 20, 40)
    ]


def test_a_network_that_knows_the_truth_has_no_errors(scene: Sequence, small_network: Any) -> None:
    network = KnowsTheRoom(small_network)
    figures = evaluate_scene(scene, network)
    assert network.steps == 2
    assert (figures.map_frames, figures.queries, figures.input_size) == (3, 3, (56, 70))
    points, poses = figures.pointmaps, figures.localization
    assert (points.of, points.frames, points.reason) == ("point head", 3, None)
    assert points.errors.points > 0.5 * 3 * 56 * 70, (
        "the depth camera sees less than the colour camera"
    )
    for middle in (points.errors.accuracy_m, points.errors.completion_m):
        assert middle.median < 0.004  # metres; 0.007 with the rays of whole pixels
    assert points.errors.normal_consistency.median > 0.98
    assert poses.errors.median_position_m < 1e-5 and poses.errors.mean_rotation_deg < 1e-3
    assert poses.errors.success_5cm_5deg == 1 and poses.reason is None
    assert figures.true_from_scene.scale == pytest.approx(1 / 0.4)


def test_successes_count_what_is_within_as_many_centimetres_and_degrees(
    scene: Sequence, small_network: Any
) -> None:
    errors = ((0.09, 1.0), (0.16, 1.0), (0.02, 25.0))
    poses = evaluate_scene(scene, KnowsTheRoom(small_network, errors)).localization.errors
    assert poses.successes == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (poses.median_position_m, poses.median_rotation_deg) == pytest.approx(
        (0.09, 1.0), abs=1e-4
    )
    assert (poses.mean_position_m, poses.mean_rotation_deg) == pytest.approx((0.09, 9.0), abs=1e-4)


def outliers(points: Tensor) -> Tensor:
    """Every fourth row of pixels is 30 cm off."""
    spoiled = points.clone()
    spoiled[:, ::4, :, 0] += 0.3
    return spoiled


def test_icp_takes_back_what_outliers_do_to_the_similarity(
    scene: Sequence, small_network: Any
) -> None:
    figures = evaluate_scene(scene, KnowsTheRoom(small_network, spoil=outliers)).pointmaps.errors
    assert figures.accuracy_m.median < 0.016  # 0.025 without ICP, 0.023 with a threshold of 1 m
    assert figures.completion_m.median < 0.016 and figures.accuracy_m.mean > 0.03


def test_points_without_a_point_head_come_from_depth(scene: Sequence, small_network: Any) -> None:
    figures = evaluate_scene(scene, KnowsTheRoom(small_network, point_head=False)).pointmaps
    assert figures.of == "depth and camera"
    assert figures.errors.accuracy_m.median < 0.006, (
        "the network's own pixels are at whole numbers, half a pixel off"
    )


def wall() -> np.ndarray:
    """A wavy wall, points (N, 3) 1 cm apart."""
    x, y = np.meshgrid(np.arange(0, 1, 0.01), np.arange(0, 1, 0.01))
    return np.stack([x, y, 0.1 * np.sin(7 * x) + 0.1 * np.cos(9 * y)], axis=-1).reshape(-1, 3)


def test_icp_moves_points_onto_the_surface_and_forgets_what_is_far_off() -> None:
    turn = rotation_from_axis_angle(torch.tensor([0.03, -0.02, 0.0], dtype=torch.float64)).numpy()
    tree, away = cKDTree(wall()), wall() @ turn.T + (0.0, 0.0, 0.04)
    away[::20, 2] += 0.5  # beyond the threshold
    moved = icp(away, tree).points(torch.from_numpy(away)).numpy()
    before, after = (tree.query(each)[0][1::20] for each in (away, moved))
    assert before.mean() > 0.03 and after.mean() < 0.006 and after.max() < 0.015


def test_icp_leaves_points_that_have_no_surface_within_ten_centimetres() -> None:
    motion = icp(wall() + (0.0, 0.0, 5.0), cKDTree(wall()))
    assert torch.equal(motion.matrix(), torch.eye(4, dtype=torch.float64))


def test_true_pixels_have_their_rays_through_their_centres() -> None:
    depth = np.full((56, 70), 2.0, dtype=np.float32)
    depth[0, 1] = 0
    frame = Frame(
        np.zeros((56, 70, 3), np.uint8), intrinsics=intrinsics_matrix(50, 50, 35, 28), depth=depth
    )
    points = true_pointmap(frame, torch.eye(4, dtype=torch.float64), 70, 14)
    assert points is not None and points[0, 1].isnan().all()
    assert points[0, 0].tolist() == pytest.approx([(0.5 - 35) / 50 * 2, (0.5 - 28) / 50 * 2, 2])
    assert points[55, 69].tolist() == pytest.approx([(69.5 - 35) / 50 * 2, (55.5 - 28) / 50 * 2, 2])


def test_distances_and_normals_are_measured_both_ways() -> None:
    true = torch.from_numpy(wall())
    half = true.clone()
    half[true[:, 0] > 0.5] = float("nan")  # not predicted: neither way counts it
    figures, _ = compare_pointmaps(3 * half, true)
    assert figures.points == pytest.approx(len(true) / 2, abs=200)
    assert figures.accuracy_m.mean < 1e-6 and figures.completion_m.mean < 1e-6
    assert figures.normal_consistency.mean == pytest.approx(1)
    swarm = true + 0.03 * torch.randn(
        true.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    noisy, _ = compare_pointmaps(swarm, true)
    assert 0.005 < noisy.completion_m.mean < noisy.accuracy_m.mean < 0.05
    assert 0.4 < noisy.normal_consistency.mean < 0.8


def test_points_on_a_spot_have_no_figures_and_a_reason() -> None:
    figures, reason = compare_pointmaps(torch.zeros(100, 3), torch.from_numpy(wall()[:100]))
    assert np.isnan(figures.accuracy_m.mean) and reason is not None and "on one line" in reason


def test_what_contradicts_the_map_counts_no_success(scene: Sequence, small_network: Any) -> None:
    network = KnowsTheRoom(small_network)
    network._mapped = network._mapped[[1, 0, 2]]
    poses = evaluate_scene(scene, network).localization
    assert poses.errors.success_30cm_30deg == 0 and poses.reason is not None


def test_a_softmax_network_is_measured(scene: Sequence, softmax_network: Any) -> None:
    figures = evaluate_scene(scene, softmax_network)
    assert figures.pointmaps.errors.accuracy_m.median > 0
    assert figures.queries == 3


def test_poses_that_are_not_finite_are_an_error(scene: Sequence, small_network: Any) -> None:
    network = KnowsTheRoom(small_network)
    network._mapped = network._mapped * torch.nan
    with pytest.raises(Vggt3Error, match="not finite"):
        evaluate_scene(scene, network)


def test_of_several_scenes_the_mean_is_told(
    folder: Path, small_network: Any, tmp_path: Path
) -> None:
    for name in ("attic", "cellar"):
        (tmp_path / name).symlink_to(folder)
    (tmp_path / "notes").mkdir()
    attic, cellar = load_scenes(tmp_path)
    scenes = [
        evaluate_scene(attic, KnowsTheRoom(small_network)),
        evaluate_scene(cellar, KnowsTheRoom(small_network, ((0.2, 0.0),) * 3)),
    ]
    mean = mean_of_scenes(scenes)
    assert mean.localization.median_position_m == pytest.approx(0.1, abs=1e-4)
    assert mean.localization.success_5cm_5deg == pytest.approx(0.5)
    data = protocol_figures(small_network, scenes).to_json()
    json.dumps(data, allow_nan=False)
    assert [each["scene"] for each in data["scenes"]] == ["attic", "cellar"]
    assert (data["protocol"], data["ttt_steps"], data["model"]) == (
        "vgg-t3",
        2,
        small_network.model_id,
    )
    lines = table(scenes).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["attic", "cellar", "mean"]
    assert "10.0, 10.0 cm" in lines[4] and "50.0 %" in lines[4]


def test_a_scene_without_depth_is_localized_in(
    folder: Path, small_network: Any, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "den", symlinks=True))
    for file in own.glob("seq-*/frame-*.depth.png"):
        file.unlink()
    figures = evaluate_scene(load_scenes(own)[0], KnowsTheRoom(small_network))
    assert figures.pointmaps.reason == "no map frame has a true depth"
    assert figures.localization.errors.success_5cm_5deg == 1
    assert mean_of_scenes([figures]).localization.success_5cm_5deg == 1
    assert "den: no map frame has a true depth" in table([figures])


def test_progress_is_told_and_may_cancel(scene: Sequence, small_network: Any) -> None:
    seen: list[tuple[str, float]] = []
    evaluate_scene(
        scene, KnowsTheRoom(small_network), lambda stage, share: seen.append((stage, share))
    )
    stages = list(dict.fromkeys(stage for stage, _ in seen))
    assert stages == ["read", "heads", "localize", "pointmaps"]
    assert seen[-1][1] == pytest.approx(1)
    assert all(later >= earlier for (_, earlier), (_, later) in pairwise(seen))
    for cancelled in stages:

        def cancel(stage: str, share: float, at: str = cancelled) -> None:
            if stage == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate_scene(scene, KnowsTheRoom(small_network), cancel)


def emptied(folder: Path) -> None:
    (folder / "TrainSplit.txt").unlink()


def shortened(folder: Path) -> None:
    (folder / "TrainSplit.txt").write_text("sequence4\n")
    (folder / "seq-04").mkdir()
    for file in [*(folder / "seq-01").glob("frame-00000*")]:
        (folder / "seq-04" / file.name).symlink_to(file)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (emptied, "neither a scene of 7-Scenes, with TrainSplit.txt"),
        (shortened, "10 training images are too few for the protocol vgg-t3: every 50th"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_what_is_no_scene_of_7_scenes_is_refused(
    spoil: Callable[[Path], None], complaint: str, folder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "den", symlinks=True))
    spoil(own)
    with pytest.raises(InputError, match=complaint):
        load_scenes(own)
