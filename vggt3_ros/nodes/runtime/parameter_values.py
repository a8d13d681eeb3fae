"""The values of a node's parameters: declared, checked one by one and together, read, and changed
while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from vggt3_ros.errors import InputError, did_you_mean
from vggt3_ros.nodes.runtime.frame_names import frame_name
from vggt3_ros.nodes.runtime.parameters import NodeParameters, Parameter, Value, parameters_of

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter

Settings = TypeVar("Settings", bound=NodeParameters)
_NULLS = ("~", "null", "Null", "NULL")  # which rcl reads as strings


def declare(node: Node, kind: type[NodeParameters]) -> None:
    """Declare all parameters on a node. Raises InputError that lists every value that does not fit.

    Their types are ours to check (dynamic_typing): rclpy would refuse 5 where 5.0 is meant.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    wrong = []
    for parameter in parameters_of(kind):
        default = None if isinstance(parameter.default, tuple) else parameter.default
        given: Any = node.declare_parameter(
            parameter.name, default, ParameterDescriptor(dynamic_typing=True)
        ).value
        try:
            value = fitted(parameter, given)
        except InputError as error:
            wrong.append(str(error))
            continue
        node.set_parameters([ros_parameter(parameter, value)])
        node.set_descriptor(parameter.name, _descriptor(parameter))
    _refuse(wrong)


def read(node: Node, kind: type[Settings]) -> Settings:
    """The values of declared parameters. Raises InputError that lists what does not fit
    together.
    """
    parameters = parameters_of(kind)
    settings = kind(
        **{each.name: fitted(each, node.get_parameter(each.name).value) for each in parameters}
    )
    _refuse(settings.contradictions())
    return settings


def change(
    node: Node, changes: Sequence[RosParameter], settings: Settings, in_use: bool = True
) -> tuple[SetParametersResult, Settings]:
    """Answer to a wish to set parameters, all of them or none, and the settings to work with from
    now on.

    in_use: whether the node works with its settings: then those that are live can be changed, and
    must fit together. Otherwise `read` says later what does not, and the settings stay.
    """
    from rcl_interfaces.msg import SetParametersResult

    try:
        values = _accepted(node, changes, type(settings))
        changed = _changed(settings, values) if in_use else settings
    except InputError as error:
        # rclpy has noted the refused types already, for whoever asks what a parameter is
        for each in changes:
            node.describe_parameter(each.name).type = node.get_parameter(each.name).type_.value
        return SetParametersResult(successful=False, reason=str(error)), settings
    return SetParametersResult(successful=True), changed


def fitted(parameter: Parameter, value: Any) -> Value:
    """A value as the parameter takes it: 5 is a number, nothing at all is the empty string, and
    /map is map.

    Raises InputError that names the parameter, the value, and what was expected.
    """
    kind = type(parameter.default)
    if value is None and kind in (str, tuple) and not parameter.choices:
        value = kind()
    problem = _problem(parameter, value)
    if problem:
        raise InputError(f"{parameter.name} is {value!r}; expected {problem}")
    if kind is tuple:
        return tuple(float(number) for number in value)
    if parameter.form.startswith("frame"):
        return frame_name(value)
    return kind(value)


def ros_parameter(parameter: Parameter, value: Value) -> RosParameter:
    """A value that fits, as rclpy has it: an empty list alone would have no type."""
    from rclpy.parameter import Parameter as RosParameter

    if isinstance(value, tuple):
        return RosParameter(parameter.name, RosParameter.Type.DOUBLE_ARRAY, list(value))
    return RosParameter(parameter.name, value=value)


def _problem(parameter: Parameter, value: Any) -> str:
    """What was expected in the place of a value; empty if it fits."""
    if parameter.choices:
        meant = did_you_mean(value, parameter.choices) if isinstance(value, str) else ""
        return "" if value in parameter.choices else f"one of {parameter.allowed}{meant}"
    kind = type(parameter.default)
    if kind is tuple:
        numbers = (
            isinstance(value, Sequence)
            and not isinstance(value, (str, bytes))
            or hasattr(value, "typecode")
        )
        if not (numbers and all(_is_number(each) for each in value)):
            # so rcl and ros2 param read lists of two types
            mixed = isinstance(value, str) and value.startswith("[")
            return parameter.allowed + (
                ", all of them with decimal points: [0.1, 0.0]" if mixed else ""
            )
        if parameter.form == "pose" and len(value) and not _is_pose(value):
            return "7 finite numbers: x y z, quaternion of length 1 x y z w (or leave it out)"
        return ""
    if kind in (int, float):
        fits = _is_number(value) and (kind is float or isinstance(value, int))
        low = parameter.low
        high = parameter.high
        in_range = fits and (low is None or high is None or low <= value <= high)
        if in_range and parameter.form == "bits" and 0 < value < 8:
            return "8 to 16, or 0 to tell it by the highest bit seen"
        return "" if in_range else parameter.allowed
    if kind is bool:
        return "" if isinstance(value, bool) else "true or false"
    if not isinstance(value, str):
        return "a string: write it in quotes"
    if value in _NULLS:
        return "a string, which this is not in YAML: write '' for an empty one"
    if parameter.form == "frame" and not frame_name(value):
        return f"the name of a TF frame, such as {parameter.default!r}"
    return ""


def _accepted(
    node: Node, changes: Sequence[RosParameter], kind: type[NodeParameters]
) -> dict[str, Value]:
    """The new values of our parameters. Raises InputError if one does not fit, or others do not
    exist.
    """
    ours = {each.name: each for each in parameters_of(kind)}
    values: dict[str, Value] = {}
    for each in changes:
        if each.name in ours:
            if each.value is None:
                raise InputError(f"{each.name} cannot be deleted; set it to another value")
            values[each.name] = fitted(ours[each.name], each.value)
        elif not node.has_parameter(each.name):
            raise InputError(f"there is no parameter {each.name!r}{did_you_mean(each.name, ours)}")
    return values


def _changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Settings with new values. Raises InputError if they must not be set now, or do not fit
    together.
    """
    live = [each.name for each in parameters_of(type(settings)) if each.is_live]
    late = [
        name
        for name, value in values.items()
        if value != getattr(settings, name) and name not in live
    ]
    if late:
        raise InputError(
            f"{', '.join(late)} cannot be changed while the node runs: deactivate and clean it up"
            f" first, others can be: {', '.join(live)}"
        )
    changed = replace(settings, **values)
    _refuse(changed.contradictions())
    return changed


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What tools show of a parameter; ranges make sliders."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(description=parameter.meaning, dynamic_typing=True)
    if parameter.choices:
        descriptor.additional_constraints = f"one of {parameter.allowed}"
    if parameter.low is not None and parameter.high is not None:
        if isinstance(parameter.default, int):
            limits = IntegerRange(
                from_value=int(parameter.low), to_value=int(parameter.high), step=0
            )
            descriptor.integer_range = [limits]
        else:
            limits = FloatingPointRange(from_value=parameter.low, to_value=parameter.high, step=0.0)
            descriptor.floating_point_range = [limits]
    return descriptor


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_pose(numbers: Sequence[float]) -> bool:
    return (
        len(numbers) == 7
        and all(map(math.isfinite, numbers))
        and abs(math.hypot(*numbers[3:]) - 1) < 0.1
    )


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise InputError(
            "parameters do not fit: " + "; ".join(wrong) + ". Correct them where they were given"
        )
