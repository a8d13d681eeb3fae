"""Texts with marks and in other encodings, keys that occur twice, names that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from vggt3_ros.errors import InputError, did_you_mean, nearest_name
from vggt3_ros.files import (
    atomic_path,
    check_known,
    clear_unfinished,
    read_json,
    read_text,
    read_yaml,
    write_json,
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_no_part_of_the_text(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"é": 1}\r\n'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"é": 1}


@pytest.mark.parametrize("data", ["a b".encode("utf-16-le"), b"caf\xe9", b"\x89PNG\x00"])
def test_what_is_no_text_is_refused_with_the_remedy(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.txt: it is not a text file.*save it as UTF-8"):
        read_text(tmp_path / "a.txt")


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"fx": 1, "fx": 2}')
    with pytest.raises(InputError, match="the key 'fx' occurs twice"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.yaml").write_text("cam:\n  k1: 1\n  k1: 2\n")
    with pytest.raises(InputError, match="the key 'k1' occurs twice"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1", "a mapping"),
        ("", "got nothing"),
        ("a: 1\n---\na: 2", "2 documents"),
    ],
)
def test_yaml_that_is_no_mapping_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_yaml(tmp_path / "a.yaml")


def test_unknown_names_are_told_with_the_nearest_known_one() -> None:
    check_known(["fx"], ["fx", "fy"], "a.json")
    with pytest.raises(
        InputError, match=r"a\.json: unknown keys \['widht'\]; did you mean 'width'\?"
    ):
        check_known(["fx", "widht"], ["fx", "width"], "a.json")
    with pytest.raises(InputError, match=r"unknown columns \['speed'\]; known are x, y"):
        check_known(["speed"], ["x", "y"], "a.csv", "columns")
    assert nearest_name("FX", ["fx", "width"]) == "fx" and nearest_name("speed", ["fx"]) is None
    assert did_you_mean("Max_Rat", ["max_rate"]) == " (did you mean 'max_rate'?)"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"fx": ' + "1" * 5000 + "}"])
def test_json_beyond_measure_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["a: 2024-99-01", "a: " + "1" * 5000, "a: " + "[" * 2000])
def test_yaml_beyond_measure_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"before": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"before": 1} and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_program_left_of_a_file_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    path, others = (
        tmp_path / "[a].json",
        [tmp_path / "[a].json", tmp_path / ".[a].json", tmp_path / ".[a].notes.json"],
    )
    for other in others:
        other.touch()
    with atomic_path(path) as temporary:
        clear_unfinished(path)
        assert not temporary.exists()
        temporary.touch()
    assert sorted(tmp_path.iterdir()) == sorted(others)
