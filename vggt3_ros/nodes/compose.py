"""Several nodes in one process, for whoever has no `ros2 launch`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml
from rclpy.parameter import Parameter

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.lifecycle import run
from vggt3_ros.nodes.localizer_node import LocalizerNode
from vggt3_ros.nodes.mapper_node import MapperNode
from vggt3_ros.nodes.share import config_file

NODES = {"mapper": MapperNode, "localizer": LocalizerNode}


def compose(
    names: Sequence[str],
    namespace: str,
    params_files: Sequence[Path],
    remappings: Sequence[str],
    parameters: Sequence[str],
) -> None:
    """Run the nodes until SIGINT or SIGTERM; ends the process.

    The files of config/ come first, then params_files, then parameters ("name:=value" for all nodes, "node:name:=value"
    for one); remappings are "from:=to". Raises InputError for parameters of other nodes.
    """
    arguments = ["--ros-args", "-r", f"__ns:=/{namespace.strip('/')}"]
    for file in (*(config_file(f"{name}.yaml") for name in names), *params_files):
        arguments += ["--params-file", str(file)]
    for rule in remappings:
        arguments += ["-r", rule]
    # Not as arguments: there, "node:name:=value" would mean a node without a namespace.
    given = {name: [Parameter("autostart", value=True)] for name in names}
    for rule in parameters:
        for node, parameter in _parsed(rule, names):
            given[node].append(parameter)
    run([partial(NODES[name], parameter_overrides=given[name]) for name in names], arguments)


def _parsed(rule: str, names: Sequence[str]) -> list[tuple[str, Parameter]]:
    """The parameter that a rule sets, for each node that it is for."""
    name, _, value = rule.partition(":=")
    node, _, name = name.rpartition(":")
    if node and node not in names:
        raise InputError(f"parameter {rule}: there is no node {node!r} here; expected one of {', '.join(names)}")
    parameter = Parameter(name, value=yaml.safe_load(value))
    return [(each, parameter) for each in names if node in ("", each)]
