"""Blocks of figures: frozen dataclasses whose fields hold unit and definition, with one way into
JSON and medians.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

Block = TypeVar("Block")


def figure(
    unit: str = "",
    definition: str = "",
    *,
    key: str = "",
    named: str = "",
    optional: bool = False,
    inline: bool = False,
    hidden: bool = False,
) -> dict[str, Any]:
    """Metadata of a field of a block.

    unit: of the figure. definition: goes into `definitions`, as `named` where it defines more than
    this field; what has none is explained by the definition of its block, or by its name. key: in
    JSON, where it is no name in Python. In JSON, `optional` fields are left out where they are
    None, the entries of `inline` blocks stand among those of their parent, and `hidden` fields do
    not appear.
    """
    about = {"unit": unit, "definition": definition, "key": key, "named": named}
    return {**about, "optional": optional, "inline": inline, "hidden": hidden}


def to_json(value: Any) -> Any:
    """Blocks, mappings, sequences and tensors, however nested, as dicts and lists for json.dump in
    strict JSON.

    Numbers that are infinite or NaN become None, since JSON has neither.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return dict(_entries(value))
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # a tensor or an array; neither library is loaded for it
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _entries(block: Any) -> Iterator[tuple[str, Any]]:
    for each in fields(block):
        value = getattr(block, each.name)
        about = each.metadata
        if about.get("hidden") or (value is None and about.get("optional")):
            continue
        if about.get("inline"):
            yield from to_json(value).items()
        else:
            yield about.get("key") or each.name, to_json(value)


def definitions(block: type) -> dict[str, str]:
    """The definitions that the fields of a block hold, and those of the blocks in it, by their
    names.
    """
    found: dict[str, str] = {}
    types = get_type_hints(block)
    for each in fields(block):
        about = each.metadata
        if about.get("definition"):
            found[about["named"] or each.name] = about["definition"]
        for inner in blocks_in(types[each.name]):
            found |= definitions(inner)
    return found


def blocks_in(annotation: Any) -> Iterator[type]:
    """The dataclasses that a type is made of: itself, or what it is a union, a mapping or a
    sequence of.
    """
    if isinstance(annotation, type) and is_dataclass(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from blocks_in(part)


def combined(blocks: Items[Block], of: Callable[[list[float]], Any]) -> Block:
    """The numbers in blocks (or mappings) of one kind, each drawn together by `of`, such as np.mean
    or np.median.

    A number that is not defined (NaN) is left out, and of NaN alone comes NaN; so is a block that
    is None. What is neither number nor block becomes None in a block, and is left out of a mapping.
    """
    first: Any = blocks[0]
    if isinstance(first, Mapping):
        return _combined_mappings(blocks, of)
    together = {}
    for each in fields(first):
        values = [getattr(block, each.name) for block in blocks]
        together[each.name] = _together(values, of)
    result: Block = replace(first, **together)
    return result


def _combined_mappings(mappings: Items[Any], of: Callable[[list[float]], Any]) -> Any:
    values: dict[str, list[Any]] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            values.setdefault(key, []).append(value)
    together = {key: _together(each, of) for key, each in values.items()}
    return {key: item for key, item in together.items() if item is not None}


def _together(items: Items[Any], of: Callable[[list[float]], Any]) -> Any:
    known = [item for item in items if item is not None]
    if known and (isinstance(known[0], Mapping) or is_dataclass(known[0])):
        return combined(known, of)
    numbers = [
        item for item in known if isinstance(item, int | float) and not isinstance(item, bool)
    ]
    if not numbers:
        return None
    defined = [number for number in numbers if not math.isnan(number)]
    return float(of(defined)) if defined else math.nan
