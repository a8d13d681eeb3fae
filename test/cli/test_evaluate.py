"""`vggt3 evaluate`: tables, JSON and pictures of one and of several sequences."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vggt3_ros.evaluation.challenges
from vggt3_ros.datasets.load import show_the_same_place

from ..evaluation.miniature import write_scene

Run = Callable[..., Any]


@pytest.fixture
def sequence(own_images: Path, tmp_path: Path) -> Path:
    """A plain folder: five images 0.1 m apart, looking the same way."""
    folder = tmp_path / "walk"
    folder.mkdir()
    own_images.rename(folder / "images")
    poses = [f"{i} 1 0 0 {0.1 * i} 0 1 0 0 0 0 1 0 0 0 0 1" for i in range(5)]
    (folder / "poses.txt").write_text("\n".join(poses))
    (folder / "intrinsics.json").write_text(json.dumps({"fx": 100, "fy": 100, "cx": 64, "cy": 48}))
    (folder / "split.json").write_text(json.dumps({"mine": {"map": [0, 2, 4], "query": [1, 3]}}))
    return folder


@pytest.fixture(scope="module")
def seven_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of 7-Scenes. Not to be changed by tests."""
    return write_scene(tmp_path_factory.mktemp("miniature") / "den")


def test_evaluate_writes_table_json_and_pictures(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path
) -> None:
    files = ["--json", tmp_path / "figures.json", "--out", tmp_path / "pictures"]
    outcome = vggt3("evaluate", sequence, "--split", "mine", "--model", checkpoint, *files)
    assert outcome.code == 0, outcome
    data = json.loads((tmp_path / "figures.json").read_text())
    assert (data["split"], data["map"]["frames"], data["queries"]["total"]) == ("mine", 3, 2)
    assert {"accepted", "wrong_accepted", "chi_square_median", "ms_per_frame"} <= set(
        data["verified"]
    )
    assert data["verified"]["queries"] == 2
    assert (data["priors"], data["seed"]) == ("none", 0)
    for block in (
        data["localization"],
        data["baselines"]["mean_pose"],
        data["baselines"]["nearest_image"],
    ):
        assert {"median_position_m", "mean_rotation_deg", "success_10cm_10deg"} <= set(block)
    assert "walk, split mine: 3 map frames, 2 queries" in outcome.out
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "walk_trajectory.png",
        "walk_depth.png",
    }


def test_the_networks_poses_are_those_of_what_is_to_propose(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--propose", "local", "--neighbours", 3, "--json", tmp_path / "figures.json"]
    outcome = vggt3("evaluate", sequence, "--priors", "given", "--model", checkpoint, *options)
    assert outcome.code == 0, outcome
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["propose"], figures["neighbours"]) == ("local", 3)
    assert "  network, local " in outcome.out and "network alone" not in outcome.out
    assert figures["verified"]["stages_ms"]["local"] > 0


def test_several_sequences_give_medians_and_each(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path
) -> None:
    outcome = vggt3(
        "evaluate", sequence, sequence, "--model", checkpoint, "--json", tmp_path / "figures.json"
    )
    assert outcome.code == 0 and "median of 2 sequences" in outcome.out, outcome
    data = json.loads((tmp_path / "figures.json").read_text())
    assert len(data["each"]) == 2 and data["queries"]["total"] == 4
    alone = data["each"][0]["baselines"]["mean_pose"]
    assert data["baselines"]["mean_pose"]["median_position_m"] == pytest.approx(
        alone["median_position_m"]
    )


def test_folders_of_the_same_name_get_pictures_of_their_own(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(sequence, tmp_path / "elsewhere" / "walk"))
    files = ["--json", tmp_path / "figures.json", "--out", tmp_path / "pictures"]
    outcome = vggt3("evaluate", sequence, other, "--split", "mine", "--model", checkpoint, *files)
    assert outcome.code == 0, outcome
    pictures = {
        f"{name}_{kind}.png" for name in ("walk", "walk_2") for kind in ("trajectory", "depth")
    }
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == pictures
    each = json.loads((tmp_path / "figures.json").read_text())["each"]
    assert [entry["sequence"] for entry in each] == ["walk", "walk_2"]


def test_sequences_are_challenged_with_frames_of_the_others(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vggt3_ros.evaluation.challenges, "_MAX_QUERIES", 2)
    other = Path(shutil.copytree(sequence, tmp_path / "elsewhere"))
    options = [
        "--adversarial",
        "--split",
        "mine",
        "--model",
        checkpoint,
        "--json",
        tmp_path / "figures.json",
    ]
    outcome = vggt3("evaluate", sequence, other, *options)
    assert outcome.code == 0, outcome
    data = json.loads((tmp_path / "figures.json").read_text())
    kinds = [
        "other sequence",
        "other place",
        "half a copy",
        "black",
        "dark",
        "blurred",
        "half covered",
        "mirrored",
    ]
    assert list(data["verified"]["challenges"]) == kinds
    assert data["verified"]["challenges"]["other sequence"]["queries"] == 4
    assert outcome.out.count("other sequence ") == 3 and outcome.out.count("mirrored ") == 3


def test_a_folder_is_not_challenged_with_its_own_place(tmp_path: Path) -> None:
    for part in ("chess/seq-01", "chess/seq-02", "office"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "office")
    for same in (("office", "link"), ("chess", "chess/seq-01"), ("chess/seq-01", "chess/seq-02")):
        assert show_the_same_place(*(str(tmp_path / each) for each in same)), same
    assert not show_the_same_place(str(tmp_path / "office"), str(tmp_path / "chess" / "seq-01"))


def test_priors_are_given_with_the_noise_that_was_asked_for(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--model", checkpoint, "--split", "mine", "--json", tmp_path / "figures.json"]
    for priors in ("given", "noisy:1cm,1deg"):
        outcome = vggt3("evaluate", sequence, "--priors", priors, "--seed", 5, *options)
        assert outcome.code == 0, outcome
        data = json.loads((tmp_path / "figures.json").read_text())
        assert (data["priors"], data["seed"]) == (priors, 5)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "--priors: expected one argument"),
        (["noisy:3cm"], "pose priors are none, given, noisy:LENGTH,ANGLE"),
        (["drift:2cm,1deg"], "drift is SCALE,ANGLE such as 2%,0.1deg"),
        (["given", "--no-loops"], "--no-loops needs --priors drift:SCALE,ANGLE"),
        (["drift:2%,0.1deg", "--prior-poses", "hold"], "would keep the drift"),
        (["given,noisy:3cm,1deg"], "pose priors are none, given, noisy:LENGTH,ANGLE"),
    ],
)
def test_priors_of_no_kind_are_usage_errors(
    value: list[str], complaint: str, vggt3: Run, sequence: Path
) -> None:
    outcome = vggt3("evaluate", sequence, "--priors", *value)
    assert outcome.code == 2 and complaint in outcome.err


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "poses.txt").unlink(), "not a sequence with true poses"),
        (lambda folder: (folder / "poses.txt").write_text("0 1 nan"), "poses.txt, line 1"),
        (lambda folder: (folder / "images" / "000002.png").unlink(), "no image 000002"),
        (lambda folder: (folder / "images" / "000002.png").write_text("text"), "000002.png"),
        (lambda folder: (folder / "split.json").write_text("{"), "split.json, line 1"),
    ],
)
def test_damaged_sequence_fails_with_the_file(
    spoil: Callable[[Path], object], complaint: str, vggt3: Run, sequence: Path, checkpoint: Path
) -> None:
    spoil(sequence)
    assert vggt3("evaluate", sequence, "--model", checkpoint).failed_with(complaint)


def test_bad_options_fail_with_their_reason(
    vggt3: Run, sequence: Path, checkpoint: Path, tmp_path: Path
) -> None:
    assert vggt3("evaluate", sequence, "--model", checkpoint, "--split", "x").failed_with(
        "has no split 'x'", "mine"
    )
    assert vggt3("evaluate", tmp_path / "gone", "--model", checkpoint).failed_with(
        "gone: no such folder"
    )
    blocked = sequence / "poses.txt" / "pictures"
    assert vggt3("evaluate", sequence, "--model", checkpoint, "--out", blocked).failed_with(
        "is not a folder"
    )
    outcome = vggt3("evaluate", sequence, "--query-depth", "refined", "--dense", "off")
    assert outcome.failed_with(
        "--query-depth refined needs the depth that --dense off leaves out", code=2
    )
    outcome = vggt3("evaluate", sequence, "--model", checkpoint, "--neighbours", 3)
    assert outcome.failed_with("--neighbours 3 is about --propose local and both", code=2)


def test_the_papers_protocol_runs_on_a_scene(
    vggt3: Run, seven_scenes: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--protocol", "vgg-t3", "--model", checkpoint, "--json", tmp_path / "figures.json"]
    outcome = vggt3("evaluate", seven_scenes, *options)
    assert outcome.code == 0, outcome
    data = json.loads((tmp_path / "figures.json").read_text())
    assert [(each["scene"], each["map_frames"], each["queries"]) for each in data["scenes"]] == [
        ("den", 3, 3)
    ]
    assert data["scenes"][0]["pointmaps"]["of"] == "point head"
    assert {"accuracy_m", "completion_m", "normal_consistency"} <= set(data["mean"]["pointmaps"])
    assert "accuracy m" in outcome.out and "\nden " in outcome.out


@pytest.mark.parametrize(
    "options",
    [
        ["--split", "standard"],
        ["--priors", "given"],
        ["--steps", 3],
        ["--adversarial"],
        ["--dense", "off"],
        ["--propose", "local"],
        ["--seed", 3],
    ],
)
def test_the_papers_protocol_takes_nothing_that_contradicts_it(
    options: list[Any], vggt3: Run, seven_scenes: Path
) -> None:
    outcome = vggt3("evaluate", seven_scenes, "--protocol", "vgg-t3", *options)
    assert outcome.failed_with("--protocol vgg-t3 settles", f"leave out {options[0]}")


def test_the_papers_protocol_takes_7_scenes_alone(vggt3: Run, sequence: Path) -> None:
    assert vggt3("evaluate", sequence, "--protocol", "vgg-t3").failed_with(
        "neither a scene of 7-Scenes"
    )
