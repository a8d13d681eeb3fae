"""What a node listens to, and why nothing comes: what the ROS graph tells about a topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

_OF_ROS = ("/parameter_events", "/clock")  # every node has these
_LISTED = 12  # topics at most
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"  # of a publisher that was discovered before its node


def type_of(message: type) -> str:
    """The name of a message's type, such as "sensor_msgs/msg/Image"."""
    return f"{message.__module__.partition('.')[0]}/msg/{message.__name__}"


def listens_to(node: Node) -> str:
    """All topics that a node subscribes to, each with its type and quality of service, in one
    line.
    """
    topics: dict[tuple[str, str], list[str]] = {}
    for each in node.subscriptions:
        if each.topic_name not in _OF_ROS:
            topics.setdefault((each.topic_name, type_of(each.msg_type)), []).append(
                _quality(each.qos_profile)
            )
    lines = [
        f"{name} ({kind}, {' and '.join(how)})" for (name, kind), how in sorted(topics.items())
    ]
    return f"listens to {', '.join(lines)}"


def publishers_of(node: Node, topic: str) -> list[str]:
    """Full names of the nodes that publish a topic (resolved); there may be several of one name."""
    publishers = node.get_publishers_info_by_topic(topic)
    return sorted(f"{each.node_namespace.rstrip('/')}/{each.node_name}" for each in publishers)


def why_nothing_comes(
    node: Node,
    topic: str,
    kind: str,
    profile: QoSProfile | None,
    alternatives: Mapping[str, str],
    name: str,
) -> str:
    """Why a subscription of a topic gets nothing, as far as the graph tells, and what to do.

    kind: the subscription's type; profile: its own, None where it adapts itself to publishers.
    alternatives: of types that the topic may have instead, what to do then. name: ours for the
    topic, to be remapped.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return f"nobody publishes it; {_elsewhere(node, topic, (kind, *alternatives), name)}"
    who = ", ".join(sorted(set(publishers_of(node, topic))))
    ours = [each for each in publishers if each.topic_type == kind]
    if not ours:
        given = publishers[0].topic_type
        remedy = alternatives.get(given, f"remap {name} to a topic of type {kind}")
        return f"{who} publishes {given} there, expected {kind}: {remedy}"
    if profile is not None and not any(fits(each.qos_profile, profile) for each in ours):
        given = _quality(ours[0].qos_profile)
        wanted = _quality(profile)
        return (
            f"{who} publishes it {given}, which does not reach a subscription that is {wanted}: set"
            " image_qos to sensor_data"
        )
    return (
        f"{who} publishes it, but nothing arrives: check that it runs, and the network"
        " (docs/ros.md, large messages)"
    )


def _elsewhere(node: Node, topic: str, kinds: Sequence[str], name: str) -> str:
    """The topics of these types that somebody publishes."""
    there = [
        f"{other} ({', '.join(types)})"
        for other, types in sorted(node.get_topic_names_and_types())
        if other != topic and set(types) & set(kinds) and node.count_publishers(other)
    ]
    if not there:
        return (
            f"there is no topic of type {' or '.join(kinds)} at all: start its publisher"
            " (ROS_DOMAIN_ID?)"
        )
    more = f" and {len(there) - _LISTED} more" if len(there) > _LISTED else ""
    return f"there are {', '.join(there[:_LISTED])}{more}: remap {name} (-r {name}:=TOPIC)"


def fits(offered: QoSProfile, wanted: QoSProfile) -> bool:
    """Whether what a publisher offers reaches a subscription."""
    best_effort = ReliabilityPolicy.BEST_EFFORT
    volatile = DurabilityPolicy.VOLATILE
    reliable_enough = wanted.reliability == best_effort or offered.reliability != best_effort
    return reliable_enough and (wanted.durability == volatile or offered.durability != volatile)


def _quality(profile: QoSProfile) -> str:
    reliability = (
        "best effort" if profile.reliability == ReliabilityPolicy.BEST_EFFORT else "reliable"
    )
    return (
        f"{reliability}, latched"
        if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        else reliability
    )
