#!/usr/bin/env python3
"""Figures of the package's source: how long its functions are, and how densely they are written.

    .ci/house_figures.py [REVISION]

Counts over the syntax trees of vggt3_ros in a git revision, by default in the working tree.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "vggt3_ros"
LONG_FUNCTION = 60  # lines
LONG_LINE = 100  # characters
SHORT_DOCSTRING = 3  # words
PER_1000 = ("tuple assignments", "comprehensions")  # also shown per 1,000 lines

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (*FUNCTIONS, ast.ClassDef, ast.Module)


def sources(revision: str | None) -> Iterator[str]:
    """The text of every module of the package."""
    root = Path(__file__).parents[1]
    if revision is None:
        for path in (root / PACKAGE).rglob("*.py"):
            yield path.read_text(encoding="utf-8")
        return
    listed = _git(root, "ls-tree", "-r", "--name-only", revision, PACKAGE)
    for name in listed.splitlines():
        if name.endswith(".py"):
            yield _git(root, "show", f"{revision}:{name}")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


def figures(source: str) -> Counter[str]:
    """The figures of one module."""
    lines = source.splitlines()
    counts = Counter(
        {
            "files": 1,
            "lines": len(lines),
            f"lines over {LONG_LINE} characters": sum(len(line) > LONG_LINE for line in lines),
            "dict[str, Any]": source.count("dict[str, Any]"),
            "type: ignore": source.count("# type: ignore"),
        }
    )
    for node in ast.walk(ast.parse(source)):
        counts.update(_names_of(node))
    return counts


def _names_of(node: ast.AST) -> Iterator[str]:
    """Which of the figures a node of the syntax tree counts for."""
    if isinstance(node, FUNCTIONS):
        yield "functions"
        if (node.end_lineno or 0) - node.lineno + 1 > LONG_FUNCTION:
            yield f"functions over {LONG_FUNCTION} lines"
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
        if any(isinstance(target, ast.Tuple) for target in node.targets):
            yield "tuple assignments"
    if isinstance(node, COMPREHENSIONS):
        yield "comprehensions"
        inner = (child for child in ast.walk(node) if child is not node)
        if any(isinstance(child, COMPREHENSIONS) for child in inner):
            yield "comprehensions around comprehensions"
    if isinstance(node, DOCUMENTED):
        docstring = ast.get_docstring(node)
        if docstring is not None and len(docstring.split()) <= SHORT_DOCSTRING:
            yield f"docstrings of {SHORT_DOCSTRING} words or fewer"


ROWS = (  # of the table
    "files",
    "lines",
    "functions",
    f"functions over {LONG_FUNCTION} lines",
    f"lines over {LONG_LINE} characters",
    "tuple assignments",
    "comprehensions",
    "comprehensions around comprehensions",
    "dict[str, Any]",
    "type: ignore",
    f"docstrings of {SHORT_DOCSTRING} words or fewer",
)


def main(arguments: list[str]) -> None:
    """Print a table of all figures."""
    totals: Counter[str] = Counter()
    for source in sources(arguments[0] if arguments else None):
        totals.update(figures(source))
    for name in ROWS:
        density = f"  {1000 * totals[name] / totals['lines']:.1f} per 1,000 lines"
        print(f"{name:<38}{totals[name]:>7}{density if name in PER_1000 else ''}")


if __name__ == "__main__":
    main(sys.argv[1:])
