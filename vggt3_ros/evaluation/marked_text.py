"""Measured figures in a document, between two comments that mark their place."""

from __future__ import annotations

from vggt3_ros.errors import InputError


def with_marked(document: str, name: str, text: str) -> str:
    """The document with `text` between `<!-- begin NAME -->` and `<!-- end NAME -->`, in place of
    what is there.

    Raises InputError unless both comments stand there once, in this order.
    """
    begin = f"<!-- begin {name} -->"
    end = f"<!-- end {name} -->"
    counts = (document.count(begin), document.count(end))
    if counts != (1, 1) or document.index(begin) > document.index(end):
        raise InputError(
            f"the document must hold the comments {begin} and {end}, once each and in this order;"
            f" it has {counts[0]} and {counts[1]} of them"
        )
    before, _, rest = document.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"
