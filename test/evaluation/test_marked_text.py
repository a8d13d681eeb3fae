"""Figures in a document are replaced where comments mark their place, and nowhere else."""

from __future__ import annotations

import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.marked_text import with_marked

DOCUMENT = "# Title\n<!-- begin rows -->\nold\n<!-- end rows -->\nthe end\n"


def test_what_is_between_the_marks_is_replaced_as_often_as_wanted() -> None:
    once = with_marked(DOCUMENT, "rows", "| a |\n")
    assert once == "# Title\n<!-- begin rows -->\n| a |\n<!-- end rows -->\nthe end\n"
    assert with_marked(with_marked(once, "rows", "b"), "rows", "| a |") == once


@pytest.mark.parametrize(
    "text", ["# Title\n", DOCUMENT + DOCUMENT, "<!-- end rows -->\n<!-- begin rows -->\n"]
)
def test_a_document_without_one_pair_of_marks_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="<!-- begin rows -->"):
        with_marked(text, "rows", "new")
