"""Tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggt3_ros.evaluation.evaluate import evaluate
from vggt3_ros.evaluation.report import table, write_pictures
from vggt3_ros.evaluation.result import aggregate
from vggt3_ros.evaluation.sequence import Split

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
    localized = next(line for line in lines if "localized" in line)
    assert "15.0 cm" in localized and localized.rstrip().endswith("100 %") and " 0 %" in localized
    assert any("mean pose" in line for line in lines) and any("nearest image" in line for line in lines)


def test_the_table_shows_lost_queries_and_dashes_for_what_is_not_defined(softmax_network: Any) -> None:
    evaluation = evaluate(arc_sequence(with_depth=False), softmax_network)
    text = table([evaluation.figures, aggregate([evaluation])])
    assert text.count("3 LOST") == 2
    assert "depth AbsRel -" in text
    assert "nan" not in text and "inf" not in text


def test_pictures_are_named_after_the_sequence(small_network: Any, tmp_path: Path) -> None:
    sequence = arc_sequence(black=(3,))
    evaluation = evaluate(sequence, Oracle(small_network, sequence, Split(SPLIT.map, (1, 5))))
    paths = write_pictures(evaluation, tmp_path / "pictures")
    assert [path.name for path in paths] == ["arc_trajectory.png", "arc_depth.png"]
    trajectory = colors_in(paths[0])
    assert (0xD1, 0x49, 0x5B) in trajectory  # the estimated path
    assert (0x00, 0x79, 0x8C) in trajectory  # queries
    assert (0xFF, 0xD1, 0x66) in trajectory  # a LOST one


@pytest.mark.parametrize("with_depth", [True, False])
def test_a_useless_map_has_pictures_too(softmax_network: Any, tmp_path: Path, with_depth: bool) -> None:
    evaluation = evaluate(arc_sequence(with_depth), softmax_network)
    assert all(path.stat().st_size > 1000 for path in write_pictures(evaluation, tmp_path))
