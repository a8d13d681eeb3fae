"""Blocks of figures: what becomes of them in JSON, and over several of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from vggt3_ros.evaluation.blocks import combined, definitions, figure, to_json


@dataclass(frozen=True)
class Inner:
    share: float = field(metadata=figure("share", "of everything"))
    kind: str | None = field(default=None, metadata=figure(optional=True))


@dataclass(frozen=True)
class Outer:
    count: float = field(metadata=figure("count", "how many", named="counts"))
    kinds: dict[str, Inner]
    extra: Inner | None = field(default=None, metadata=figure(optional=True))
    whole: Inner = field(default=Inner(1.0), metadata=figure(inline=True))
    why: str | None = None
    attention: str = field(default="ttt", metadata=figure(key="global"))
    secret: int = field(default=7, metadata=figure(hidden=True))
    pose: torch.Tensor = field(default_factory=lambda: torch.eye(2))


def test_json_has_the_fields_but_for_what_is_hidden_or_has_nothing_to_tell() -> None:
    assert to_json(Outer(3, {"one": Inner(math.inf, "x")})) == {
        "count": 3,
        "kinds": {"one": {"share": None, "kind": "x"}},
        "share": 1.0,
        "why": None,
        "global": "ttt",
        "pose": [[1.0, 0.0], [0.0, 1.0]],
    }
    assert to_json(Outer(3, {}, extra=Inner(0.5)))["extra"] == {"share": 0.5}


def test_definitions_are_those_of_a_block_and_of_the_blocks_in_it() -> None:
    assert definitions(Outer) == {"counts": "how many", "share": "of everything"}


def test_numbers_are_drawn_together_and_what_is_not_defined_is_left_out() -> None:
    first = Outer(1, {"one": Inner(0.1, "x"), "two": Inner(math.nan)}, why="because")
    second = Outer(2, {"one": Inner(0.3, "x"), "two": Inner(0.5)}, extra=Inner(math.inf))
    both = combined([first, second], np.median)
    assert both.count == 1.5 and both.why is None
    assert both.kinds == {"one": Inner(0.2), "two": Inner(0.5)}
    assert both.extra == Inner(math.inf), "of those that have it"
    assert math.isnan(combined([Inner(math.nan)], np.mean).share)


def test_mappings_are_drawn_together_like_blocks() -> None:
    assert combined([{"a": 1, "b": "text", "c": True}, {"a": 3, "d": {"e": 1}}], np.mean) == {
        "a": 2.0,
        "d": {"e": 1.0},
    }
