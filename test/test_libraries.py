"""What the code takes from other libraries is there in their installed versions, also where no test
comes by.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vggt3_ros"
# those that apt has, too
LIBRARIES = ("PIL", "cv2", "matplotlib", "numpy", "psutil", "scipy", "tqdm", "yaml")


def taken(tree: ast.Module) -> Iterator[str]:
    """Full names of everything that a module takes from the libraries, such as
    "numpy.linalg.norm".
    """
    known: dict[str, str] = {}  # name in the module: full name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                library = alias.name.partition(".")[0]
                if library in LIBRARIES:
                    known[alias.asname or library] = alias.name if alias.asname else library
                    yield alias.name
        elif (
            isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES
        ):
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            chain = [node.attr]
            inner = node.value
            while isinstance(inner, ast.Attribute):
                chain.insert(0, inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name) and inner.id in known:
                yield ".".join([known[inner.id], *chain])


def exists(name: str) -> bool:
    """Whether a full name is that of a module, or of something in one; what lies in values is not
    looked at.
    """
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.fixture(scope="module")
def places() -> dict[str, str]:
    """File of every full name."""
    return {
        name: path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in taken(ast.parse(path.read_text(encoding="utf-8")))
    }


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_name_that_is_taken_from_a_library_exists(
    library: str, places: dict[str, str]
) -> None:
    names = [name for name in places if name.partition(".")[0] == library]
    assert names
    assert {name: places[name] for name in names if not exists(name)} == {}
