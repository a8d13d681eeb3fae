"""Parameter files as ROS reads them: the parameters of every node in one, and what is wrong with it
in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from vggt3_ros.errors import InputError

_VALUES = "ros__parameters"
_SHAPE = (
    f"expected 'NODE:', below it, indented, '{_VALUES}:', and below that 'name: value'; see"
    " config/mapper.yaml"
)
_BOOL = re.compile(
    r"y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF"
)
_WHOLE = re.compile(r"[-+]?(\d+|0[xX][0-9a-fA-F]+)")


def read_parameter_file(file: Path) -> list[tuple[str, list[str]]]:
    """For each key that nodes are named by, such as "/**/mapper", the full names of its parameters
    ("group.name").

    Raises InputError that names the line, unless it is YAML that holds parameters of nodes, each
    below its name and `ros__parameters`, in lists of one type, as ROS wants them.
    """
    try:
        root = yaml.compose(file.read_bytes(), Loader=yaml.SafeLoader)
    except OSError as error:
        what = (
            "there is no such file" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
        )
        raise InputError(
            f"parameter file {file}: {what}; expected a YAML file like config/mapper.yaml"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(
            f"parameter file {file}: it is no YAML ({_place(error)}); correct it there"
        ) from error
    if root is None:
        raise InputError(f"parameter file {file}: it is empty; {_SHAPE}")
    try:
        return list(_sections(root, "", ""))
    except InputError as error:
        raise InputError(f"parameter file {file}: {error}") from error


def check_value(text: str) -> None:
    """Raise InputError for the value of a rule (-p NAME:=VALUE) that is a list of several types."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return  # ROS says so
    if root is not None:
        list(_names(root, "its value"))


def _place(error: yaml.YAMLError) -> str:
    """Where YAML ends to be YAML, and why."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _sections(node: yaml.Node, name: str, above: str) -> Iterator[tuple[str, list[str]]]:
    """What is below a name in the file ('': the file itself); above: the key of nodes, up to the
    name.
    """
    line = f"line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        what = f"{name!r} has a value without {_VALUES!r} above it" if name else "it holds no names"
        what = f"{name!r} has a value for itself" if name == _VALUES else what
        raise InputError(f"{line}: {what}; {_SHAPE}")
    if name == _VALUES:
        yield above, list(_names(node, ""))
        return
    for key, value in node.value:
        word = str(key.value)
        if word == _VALUES and not above:
            raise InputError(
                f"line {key.start_mark.line + 1}: there is no node's name above {_VALUES!r};"
                f" {_SHAPE}"
            )
        yield from _sections(
            value, word, above if word == _VALUES else f"{above}/{word.strip('/')}"
        )


def _names(node: yaml.Node, name: str) -> Iterator[str]:
    """Full names of the parameters in a value; those in groups are joined by dots."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _names(value, f"{name}.{key.value}" if name else str(key.value))
        return
    if isinstance(node, yaml.SequenceNode):
        kinds = {_kind(each) for each in node.value}
        if kinds == {"whole number", "number"}:
            what = (
                "mixes whole numbers and others; ROS takes lists of one type: write decimal points,"
                " 0.0 for 0"
            )
            raise InputError(f"line {node.start_mark.line + 1}: {name} {what}")
        if len(kinds) > 1:
            what = (
                f"is a list of several types ({', '.join(sorted(kinds))}); ROS takes lists of one"
                " type"
            )
            raise InputError(f"line {node.start_mark.line + 1}: {name} {what}")
    yield name


def _kind(node: yaml.Node) -> str:
    """The type that ROS gives to an entry of a list."""
    if not isinstance(node, yaml.ScalarNode):
        return "list"
    if node.style is not None:  # in quotes
        return "string"
    if _BOOL.fullmatch(node.value):
        return "bool"
    if _WHOLE.fullmatch(node.value):
        return "whole number"
    try:
        float(node.value)
    except ValueError:
        return (
            "number" if re.fullmatch(r"[-+]?\.(inf|nan)", node.value, re.IGNORECASE) else "string"
        )
    return "number"
