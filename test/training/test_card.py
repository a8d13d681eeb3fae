"""A card says what a weights file is and reaches, and refuses figures of other weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vggt3_ros.model.checkpoint
from vggt3_ros.errors import InputError
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.training.card import main

TINY = Path(vggt3_ros.model.checkpoint.__file__).parents[1] / "weights" / "tiny.safetensors"


def evaluation(fingerprint: str, **other: Any) -> dict[str, Any]:
    """What of `vggt3 evaluate --json` a card takes."""
    pose = {"median_position_percent": 12.34567, "median_rotation_deg": 5.0}
    mapped = ("frames", "ate_m", "ate_percent", "pair_rotation_deg", "pair_direction_deg")
    return {
        "model_fingerprint": fingerprint,
        "priors": "none",
        "trajectory_extent_m": 4.0,
        "map": {**dict.fromkeys(mapped, 1.5), "depth_abs_rel": None},
        "localization": pose,
        "baselines": {"mean_pose": pose, "nearest_image": pose},
        **other,
    }


def written(folder: Path, fingerprint: str) -> list[str]:
    """Arguments of `main`, with all files in place."""
    weights = folder / "model.safetensors"
    weights.write_bytes(TINY.read_bytes())
    verified = {
        "queries": 16,
        "accepted": 15,
        "wrong_accepted": 0,
        "median_position_m": 0.0021,
        "median_rotation_deg": 0.031,
    }
    files = {
        "training.json": {"data": "rooms", "training": {"steps": {"ttt": 3}}},
        "validation.json": [
            {"pair_rotation_deg": 9.0},
            {"pair_rotation_deg": 6.5, "tour_pair_rotation_deg": 20.0},
        ],
        "room.json": evaluation(fingerprint),
        "room.given.json": evaluation(fingerprint, priors="given", verified=verified),
    }
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data))
    return [str(weights), *(str(folder / name) for name in files)]


def test_a_card_has_the_file_its_training_and_every_figure_with_baselines(tmp_path, capsys) -> None:
    main(written(tmp_path, load_network("tiny").fingerprint()))
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["file_bytes"] == TINY.stat().st_size and card["training"] == {"steps": {"ttt": 3}}
    assert card["validation"]["pair_rotation_deg"] == 6.5  # the last one
    figures = card["evaluation"]["room"]
    assert figures["baselines"]["nearest_image"]["median_position_percent"] == 12.3457
    assert figures["verified_with_priors"]["accepted"] == 15
    said = capsys.readouterr().out
    assert (
        "| room | 1.5 | 1.5 / 1.5 | - | 12.3 / 5.0 | 12.3 / 5.0 | 12.3 / 5.0 | 15 of 16, 0, 0.2 /"
        " 0.03 |" in said
    )
    assert "| pair_rotation_deg | 6.50 | 20.00 | - | - |" in said


def test_several_sequences_evaluated_together_are_one_row(tmp_path, capsys) -> None:
    arguments = written(tmp_path, fingerprint := load_network("tiny").fingerprint())
    both = evaluation(fingerprint)
    del both["model_fingerprint"], both["priors"]  # as of their medians
    (tmp_path / "room.json").write_text(json.dumps({**both, "each": [evaluation(fingerprint)] * 2}))
    main(arguments)
    assert "| room | 1.5 | 1.5 / 1.5 | - |" in capsys.readouterr().out
    each = [evaluation(fingerprint), evaluation("0123456789abcdef")]
    (tmp_path / "room.json").write_text(json.dumps({**both, "each": each}))
    with pytest.raises(InputError, match="measured with other weights"):
        main(arguments)


def test_what_is_missing_is_said_before_anything_is_written(tmp_path) -> None:
    arguments = written(tmp_path, load_network("tiny").fingerprint())
    with pytest.raises(InputError, match="got 2 files"):
        main(arguments[:2])
    with pytest.raises(InputError, match="without them as well"):
        main([*arguments[:3], str(tmp_path / "room.given.json")])
    (tmp_path / "validation.json").write_text("[]")
    with pytest.raises(InputError, match="never validated"):
        main(arguments)
    with pytest.raises(InputError, match="cannot be read"):
        main([*arguments[:2], str(tmp_path / "none.json")])
    assert not (tmp_path / "model.json").exists()


def test_figures_of_other_weights_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="measured with other weights"):
        main(written(tmp_path, "0123456789abcdef"))
    assert not (tmp_path / "model.json").exists()
