"""Remappings of a command line, and which of them fit no topic, service or action of the nodes: rcl
ignores those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vggt3_ros.errors import did_you_mean

_CAMERA = ("image", "camera_info", "depth", "odom")
_RESULTS = ("scene", "points", "keyframes", "keyframes_cloud", "grid", "pose", "initialpose")
_OF_NODES = ("mapper", "localizer", "sim_camera")  # what is below them
_SCHEME = re.compile("^(rostopic|rosservice)://")
_GLOBAL = ("/tf", "/tf_static", "/clock", "/diagnostics", "/rosout", "/parameter_events")


def remappings_in_vain(rules: Iterable[str], nodes: Sequence[str]) -> list[str]:
    """What is to be said of rules (FROM:=TO) whose name is none of the nodes'; nodes: their full
    names.
    """
    namespaces = {node.rpartition("/")[0] for node in nodes}
    short = (*_CAMERA, *_RESULTS, *_OF_NODES, *(node.rpartition("/")[2] for node in nodes))
    known = [*_GLOBAL]
    for namespace in namespaces:
        known += (f"{namespace}/{name}" for name in short)
    names = sorted({node.rpartition("/")[2] for node in nodes})
    complaints = []
    for rule in rules:
        given = _SCHEME.sub("", rule.partition(":=")[0])
        rule_of, _, name = given.rpartition(":")
        if rule_of and rule_of not in names:
            here = f"there is no node {rule_of!r} here, but {' and '.join(names)}"
            complaints.append(f"-r {rule} remaps nothing: {here}")
            continue
        if name.startswith(("__", "~")):
            continue
        full = (
            [name] if name.startswith("/") else [f"{namespace}/{name}" for namespace in namespaces]
        )
        if not any(_lies_in(each, known) for each in full):
            near = did_you_mean(name, known if name.startswith("/") else (*short, *_GLOBAL))
            complaints.append(
                f"-r {rule} remaps nothing: no topic or service here is called {name!r}{near}"
            )
    return complaints


def _lies_in(name: str, known: Sequence[str]) -> bool:
    """Whether a name is one of the known ones, or below one of them."""
    return any(name == one or name.startswith(f"{one}/") for one in known)
