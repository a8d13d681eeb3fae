"""Several nodes in one process, for whoever has no `ros2 launch`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml
from rclpy.parameter import Parameter

from vggt3_ros.errors import InputError, did_you_mean
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer_node import LocalizerNode
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.mapper_node import MapperNode
from vggt3_ros.nodes.runtime.config_files import config_file
from vggt3_ros.nodes.runtime.given import STANDARD
from vggt3_ros.nodes.runtime.lifecycle import run
from vggt3_ros.nodes.runtime.parameter_values import fitted, ros_parameter
from vggt3_ros.nodes.runtime.parameters import parameters_of
from vggt3_ros.nodes.runtime.remappings import remappings_in_vain

_NODES = {"mapper": MapperNode, "localizer": LocalizerNode}
_DECLARED = {
    "mapper": parameters_of(MapperParameters),
    "localizer": parameters_of(LocalizerParameters),
}


def compose(
    names: Sequence[str],
    namespace: str,
    params_files: Sequence[Path],
    remappings: Sequence[str],
    parameters: Sequence[str],
) -> None:
    """Run the nodes until SIGINT or SIGTERM; ends the process.

    The files of config/ come first, then params_files, then parameters ("name:=value" for all
    nodes, "node:name:=value" for one); remappings are "from:=to". Raises InputError for parameters
    and topics that no node has, for other nodes, and for values that do not fit.
    """
    namespace = f"/{namespace.strip('/')}".rstrip("/")
    arguments = ["--ros-args", "-r", f"__ns:={namespace or '/'}"]
    for file in (*(config_file(f"{name}.yaml") for name in names), *params_files):
        arguments += ["--params-file", str(file)]
    useless = remappings_in_vain(remappings, [f"{namespace}/{name}" for name in names])
    if useless:
        raise InputError("; ".join(useless))
    for rule in remappings:
        arguments += ["-r", rule]
    # Not as arguments: there, "node:name:=value" would mean a node without a namespace.
    given = {name: [Parameter("autostart", value=True)] for name in names}
    for rule in parameters:
        for node, parameter in _parsed(rule, names):
            given[node].append(parameter)
    run([partial(_NODES[name], parameter_overrides=given[name]) for name in names], arguments)


def _parsed(rule: str, names: Sequence[str]) -> list[tuple[str, Parameter]]:
    """The parameter that a rule sets, for each node that has it and that the rule is for."""
    name, _, text = rule.partition(":=")
    node, _, name = name.rpartition(":")
    if node and node not in names:
        raise InputError(
            f"parameter {rule}: there is no node {node!r} here; expected one of {', '.join(names)}"
        )
    declared = {}
    known = {*STANDARD}
    for each in names:
        if node in ("", each):
            declared[each] = {one.name: one for one in _DECLARED[each]}
            known.update(declared[each])
    if name not in known:
        raise InputError(
            f"parameter {rule}: none of {', '.join(declared)} has"
            f" {name!r}{did_you_mean(name, known)}"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"parameter {rule}: {text!r} is no YAML value ({error}); put it in quotes"
        ) from error
    if name in STANDARD:
        if not isinstance(value, bool):
            raise InputError(f"parameter {rule}: expected true or false")
        return [(each, Parameter(name, value=value)) for each in declared]
    return [
        (each, ros_parameter(ours[name], fitted(ours[name], value)))
        for each, ours in declared.items()
        if name in ours
    ]
