"""docs/how_it_flows.md names files and functions of the package: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "how_it_flows.md").read_text(encoding="utf-8")
STEPS = sorted(set(re.findall(r"`([\w/]+\.py): ([\w.]+)`", TEXT)))


def defines(source: str, name: str) -> bool:
    """Whether a module defines a function or class of that name, or `Class.method`."""
    body: list[ast.stmt] = ast.parse(source).body
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = next((node for node in body if isinstance(node, kinds) and node.name == part), None)
        if found is None:
            return False
        body = found.body
    return True


@pytest.mark.parametrize(("file", "name"), STEPS, ids=[": ".join(step) for step in STEPS])
def test_a_step_exists(file: str, name: str) -> None:
    assert defines((ROOT / "vggt3_ros" / file).read_text(encoding="utf-8"), name)


@pytest.mark.parametrize(
    "trip",
    ["An image to the published points", "An image to a pose", "Photographs to a scene folder"],
)
def test_a_trip_is_told_step_by_step(trip: str) -> None:
    told = TEXT.partition(f"## {trip}\n")[2].partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. `[\w/]+\.py: ", told, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 8


@pytest.mark.parametrize(
    ("name", "there"), [("A", True), ("A.f", True), ("g", True), ("f", False), ("A.g", False)]
)
def test_what_is_not_there_is_noticed(name: str, there: bool) -> None:
    assert defines("class A:\n    async def f(self): ...\ndef g(): ...", name) is there
