"""What a parameter of a node is. The parameters of a node are the fields of a frozen dataclass, a
`NodeParameters`.

They are declared, checked and read by these fields, the tables of the documentation are made of
them, and a test holds config/ to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

Value = bool | int | float | str | tuple[float, ...]
Form = Literal["", "frame", "frame or none", "pose", "bits"]
Default = TypeVar("Default", bound=Value)


@dataclass(frozen=True)
class Parameter:
    """One parameter. Numbers lie within low and high, both included; strings are one of choices, if
    there are any.

    form: what strings and numbers stand for: a TF frame, which may be empty or not, the pose of one
    in another, or a number of bits. is_live: whether it can be changed while the node runs; of the
    mapper, much of that counts from the next reconstruction on.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    form: Form = ""
    is_live: bool = False

    @property
    def kind(self) -> str:
        """Its type in words."""
        return {bool: "bool", int: "integer", float: "number", str: "string", tuple: "numbers"}[
            type(self.default)
        ]

    @property
    def allowed(self) -> str:
        """What values it takes, in words."""
        if self.choices:
            return ", ".join(repr(choice) for choice in self.choices)
        return (
            f"{self.kind} from {self.low:g} to {self.high:g}" if self.low is not None else self.kind
        )

    @property
    def meaning(self) -> str:
        """Its description, and whether it can be changed while the node runs."""
        return f"{self.description} (live)" if self.is_live else self.description


@dataclass(frozen=True)
class NodeParameters:
    """The values of a node's parameters. Subclasses have a field for each, made by `parameter`."""

    def contradictions(self) -> list[str]:
        """What is wrong with values that fit one by one."""
        return []

    def given(self) -> dict[str, Value]:
        """The values that are not the defaults, by name."""
        default = type(self)()
        return {
            name: value for name, value in vars(self).items() if value != getattr(default, name)
        }


def parameter(
    default: Default,
    description: str,
    low: float | None = None,
    high: float | None = None,
    *,
    form: Form = "",
    live: bool = False,
) -> Default:
    """A field of a node's parameters; see Parameter. The field's type says the rest: a Literal has
    the choices.
    """
    about = {
        "default": default,
        "description": description,
        "low": low,
        "high": high,
        "form": form,
        "is_live": live,
    }
    return field(default=default, metadata=about)


def parameters_of(kind: type[NodeParameters]) -> tuple[Parameter, ...]:
    """The parameters of a node, in the order of its fields."""
    types = get_type_hints(kind)
    return tuple(
        Parameter(each.name, choices=_choices(types[each.name]), **each.metadata)
        for each in fields(kind)
    )


def markdown_table(parameters: Sequence[Parameter]) -> str:
    """The parameters as a table for the documentation."""
    rows = ["| parameter | default | values | meaning |", "|---|---|---|---|"]
    for parameter in parameters:
        default = (
            list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        )
        shown = str(default).lower() if isinstance(default, bool) else repr(default)
        rows.append(
            f"| `{parameter.name}` | `{shown}` | {parameter.allowed} | {parameter.meaning} |"
        )
    return "\n".join(rows) + "\n"


def _choices(kind: object) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
