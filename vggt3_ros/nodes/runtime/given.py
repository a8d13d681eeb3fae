"""What command lines and parameter files give to nodes, so that nothing given is ignored without a
word.

rcl leaves out what fits no node, and rclpy what no node declares, both silently. Keys and rules are
read here as rcl reads them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.errors import InputError, did_you_mean
from vggt3_ros.nodes.runtime.parameter_file import read_parameter_file
from vggt3_ros.nodes.runtime.remappings import remappings_in_vain

if TYPE_CHECKING:
    from rclpy.node import Node

OUR_NODES = ("mapper", "localizer", "sim_camera")
STANDARD = ("use_sim_time", "start_type_description_service")  # parameters that every node has
_QOS = "qos_overrides."  # parameters of topics, which ROS takes for granted in any file
_FLAGS = {
    "-p": "-p",
    "--param": "-p",
    "-r": "-r",
    "--remap": "-r",
    "--params-file": "--params-file",
}
_ALIKE = 0.6  # likeness of names that may have been meant
_NEAR = 0.8  # likeness of names that are warned of where they may well be meant for other nodes


@dataclass(frozen=True)
class Given:
    """Parameters that one key of a file, or one rule of a command line, gives to the nodes that its
    pattern fits.

    source: the file or the rule. for_anybody: other nodes are meant as well, so that unknown names
    are no mistake.
    """

    source: str
    pattern: str
    names: tuple[str, ...]
    for_anybody: bool = False

    def fits(self, node: str) -> bool:
        """Whether a node of this full name gets them."""
        any_depth = r"(/\w+)*"
        one_level = r"/\w+"
        parts = re.split(r"(/\*\*|/\*)", self.pattern)
        expression = "".join(
            {"/**": any_depth, "/*": one_level}.get(part, re.escape(part)) for part in parts
        )
        return re.fullmatch(expression, node) is not None


def rcl_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments as rcl can read them: shells make `-p base_frame:=` of `-p base_frame:=''`, which
    it cannot.
    """
    rules = {rule for flag, rule in options(arguments) if flag == "-p"}
    return [f"{word}''" if word in rules and word.endswith(":=") else word for word in arguments]


def unused(arguments: Sequence[str], nodes: Sequence[Node]) -> list[str]:
    """What the arguments of this process give to its nodes in vain: warnings of what may be meant
    for others.

    Raises InputError for what can be meant for nobody else.
    """
    given: list[Given] = []
    remappings: list[str] = []
    for flag, value in options(arguments):
        if flag == "-r":
            remappings.append(value)
        else:
            given.extend(_rule(value) if flag == "-p" else read_file(Path(value)))
    declared = {
        node.get_fully_qualified_name(): set(node.get_parameters_by_prefix("")) for node in nodes
    }
    return [*check(given, declared), *remappings_in_vain(remappings, list(declared))]


def check(given: Sequence[Given], declared: Mapping[str, Collection[str]]) -> list[str]:
    """As `unused`, of nodes by their full names with the names of their parameters."""
    wrong: list[str] = []
    warnings: list[str] = []
    for each in given:
        warnings.extend(_without_effect(each, declared))
        (warnings if each.for_anybody else wrong).extend(_unknown(each, declared))
    for source in dict.fromkeys(each.source for each in given):
        parts = [each for each in given if each.source == source]
        (warnings if _is_for_us(parts, declared) else wrong).extend(
            _missed(source, parts, declared)
        )
    if wrong:
        raise InputError("; ".join(wrong))
    return warnings


def read_file(file: Path) -> list[Given]:
    """What a parameter file gives. Raises InputError when it cannot be read, or is no parameter
    file.
    """
    source = f"parameter file {file}"
    return [
        Given(source, pattern, tuple(names), pattern.rpartition("/")[2].startswith("*"))
        for pattern, names in read_parameter_file(file)
    ] or [Given(source, "", ())]


def _unknown(given: Given, declared: Mapping[str, Collection[str]]) -> list[str]:
    """Names that no node has which gets them; of those that others may have, the ones that are
    nearly ours.
    """
    nodes = [node for node in declared if given.fits(node)]
    known = {*STANDARD}
    for node in nodes:
        known.update(declared[node])
    messages = []
    for name in given.names if nodes else ():
        if name not in known and not name.startswith(_QOS):
            near = did_you_mean(name, known, _NEAR if given.for_anybody else _ALIKE)
            if near or not given.for_anybody:
                messages.append(
                    f"{given.source}: no parameter of {' or '.join(nodes)} is called {name!r}{near}"
                )
    return messages


def _without_effect(given: Given, declared: Mapping[str, Collection[str]]) -> list[str]:
    """Standard names that nodes take, but do not use."""
    if given.for_anybody or not any(given.fits(node) for node in declared):
        return []
    return [
        f"{given.source}: {name} has no effect here; image_qos has"
        for name in given.names
        if name.startswith(_QOS)
    ]


def _is_for_us(parts: Sequence[Given], declared: Mapping[str, Collection[str]]) -> bool:
    """Whether a source gives something to these nodes or to others of ours beside them."""
    nodes = {*declared}
    for node in declared:
        namespace = node.rpartition("/")[0]
        nodes.update(f"{namespace}/{name}" for name in OUR_NODES)
    return any(any(map(part.fits, nodes)) for part in parts)


def _missed(
    source: str, parts: Sequence[Given], declared: Mapping[str, Collection[str]]
) -> list[str]:
    """What fits no node, though it may be meant to."""
    if not _is_for_us(parts, declared):
        nodes = " or ".join(declared)
        keys = ", ".join(repr(part.pattern) for part in parts)
        some = next(iter(declared)).rpartition("/")[2]
        return [
            f"{source} sets nothing for {nodes}; its keys are {keys}, expected one such as"
            f" '/**/{some}'"
        ]
    messages = []
    for node in declared:
        if any(part.fits(node) for part in parts):
            continue
        name = node.rpartition("/")[2]
        for part in parts:
            last = part.pattern.rpartition("/")[2]
            if last == name or (last not in OUR_NODES and did_you_mean(last, [name], _NEAR)):
                messages.append(
                    f"{source}: the key {part.pattern!r} does not fit {node}; write '/**/{name}'"
                    " for any"
                )
    return messages


def options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The rules ("-p", "-r") and files ("--params-file") that ROS takes from a command line."""
    for_ros = False
    words = iter(arguments)
    for word in words:
        if word in ("--ros-args", "--"):
            for_ros = word == "--ros-args"
        elif for_ros and word in _FLAGS:
            yield _FLAGS[word], next(words, "")


def _rule(rule: str) -> list[Given]:
    """What `-p [NODE:]NAME:=VALUE` gives."""
    node, _, name = rule.partition(":=")[0].rpartition(":")
    return [Given(f"-p {rule}", f"/{node.lstrip('/')}" if node else "/**", (name,))]
