"""Tables and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vggt3_ros.evaluation.report
from vggt3_ros.datasets.sequence import Split
from vggt3_ros.evaluation.compared_clouds import NETWORK, SCENE
from vggt3_ros.evaluation.draw_trajectory import view_limits
from vggt3_ros.evaluation.evaluate import evaluate
from vggt3_ros.evaluation.provenance import DepthErrorsOfPart, RefinedDepth
from vggt3_ros.evaluation.report import table, write_pictures
from vggt3_ros.evaluation.result import Evaluation, aggregate
from vggt3_ros.geometry.pointcloud import PointCloud

from .oracle import SPLIT, Oracle, arc_sequence


def colors_in(path: Path) -> set[tuple[int, ...]]:
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return {tuple(color) for color in np.unique(pixels, axis=0).tolist()}


def test_the_table_has_a_row_per_method(small_network: Any) -> None:
    sequence = arc_sequence()
    evaluation = evaluate(sequence, Oracle(small_network, sequence, SPLIT, query_shift_m=0.15))
    lines = table([evaluation.figures]).splitlines()
    assert lines[0].startswith("arc, split sparse: 4 map frames, 3 queries, extent")
    localized = next(line for line in lines if "network alone" in line)
    assert "15.0 cm" in localized and localized.rstrip().endswith("100 %") and " 0 %" in localized
    assert any("mean pose" in line for line in lines) and any(
        "nearest image" in line for line in lines
    )


def test_the_table_shows_lost_queries_and_dashes_for_what_is_not_defined(
    small_network: Any,
) -> None:
    sequence = arc_sequence(with_depth=False, black=SPLIT.query)
    evaluation = evaluate(sequence, small_network)
    text = table([evaluation.figures, aggregate([evaluation])])
    assert text.count("3 LOST") == 2
    assert "depth AbsRel -" in text
    assert "nan" not in text and "inf" not in text


def test_pictures_are_named_after_the_sequence(small_network: Any, tmp_path: Path) -> None:
    sequence = arc_sequence(black=(3,))
    evaluation = evaluate(sequence, Oracle(small_network, sequence, Split(SPLIT.map, (1, 5))))
    paths = write_pictures(evaluation, tmp_path / "pictures")
    assert [path.name for path in paths] == ["arc_trajectory.png", "arc_depth.png", "arc_slice.png"]
    trajectory = colors_in(paths[0])
    assert (0xD1, 0x49, 0x5B) in trajectory  # the estimated path
    assert (0x00, 0x79, 0x8C) in trajectory  # queries
    assert (0xFF, 0xD1, 0x66) in trajectory  # a LOST one


@pytest.mark.parametrize("with_depth", [True, False])
def test_a_useless_map_has_pictures_too(
    softmax_network: Any, tmp_path: Path, with_depth: bool
) -> None:
    evaluation = evaluate(arc_sequence(with_depth), softmax_network)
    assert all(path.stat().st_size > 1000 for path in write_pictures(evaluation, tmp_path))


def test_interrupted_drawing_leaves_the_older_picture_and_nothing_else(
    small_network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = arc_sequence()
    evaluation = evaluate(sequence, Oracle(small_network, sequence, SPLIT))
    (tmp_path / "arc_trajectory.png").write_text("older")

    def interrupted(evaluation: Evaluation, path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(vggt3_ros.evaluation.report, "draw_trajectory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_pictures(evaluation, tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("arc_trajectory.png", "older")
    ]


def test_the_view_from_above_grows_to_hold_the_points_around_the_path(small_network: Any) -> None:
    sequence = arc_sequence()
    evaluation = evaluate(sequence, Oracle(small_network, sequence, SPLIT))
    positions = sequence.world_from_cam[:, :2, 3]
    extent = evaluation.figures.trajectory_extent_m
    corners = torch.stack([positions.amin(0) - 1.5 * extent, positions.amax(0) + 1.5 * extent])
    ring = torch.cat([corners.repeat(40, 1), torch.full((80, 1), 1.0)], dim=1).float()
    view, upright = torch.eye(3, dtype=torch.float64), torch.ones(80)

    def limits(points: torch.Tensor) -> np.ndarray:
        cloud = PointCloud(points, torch.zeros(80, 3, dtype=torch.uint8), upright)
        return view_limits(replace(evaluation, points=cloud), view)

    shown = limits(ring)
    assert bool(
        (shown[:, 0] <= corners[0].numpy()).all() and (shown[:, 1] >= corners[1].numpy()).all()
    )
    far = limits(ring + 100)  # a map of another scale: no reason to shrink the paths
    assert float(np.ptp(far, axis=1).max()) < 2 * extent


def test_a_refined_map_is_shown_beside_what_it_was_before(
    small_network: Any, tmp_path: Path
) -> None:
    sequence = arc_sequence()
    plain = evaluate(sequence, Oracle(small_network, sequence, SPLIT))
    compared = plain.clouds.clouds[SCENE]
    kinds = {"agreed": DepthErrorsOfPart(0.9, 0.012, 1.0), "far": DepthErrorsOfPart(0.1, 0.2, 0.8)}
    refined_depth = RefinedDepth(4, (35, 28), DepthErrorsOfPart(1.0, 0.031, 0.98), kinds, {})
    refined = replace(
        plain,
        clouds=replace(plain.clouds, clouds={SCENE: compared, NETWORK: compared}),
        figures=replace(
            plain.figures,
            cloud_network=compared.figures,
            map=replace(
                plain.figures.map,
                depth=replace(plain.figures.map.depth, depth_refined=refined_depth),
            ),
        ),
    )
    text = table([refined.figures])
    assert "  cloud of the network: median" in text
    assert (
        "  refined depth: AbsRel 0.031, 98 % within 1.25 (agreed 90 % 0.012, far 10 % 0.200)"
        in text
    )
    one, two = (
        write_pictures(plain, tmp_path / "one")[2],
        write_pictures(refined, tmp_path / "two")[2],
    )
    assert width(two) > 1.3 * width(one), "a panel more"


def width(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        return image.width
