"""What a node says about itself on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node


class Level(Enum):
    """How bad it is; the values are those of diagnostic_msgs/DiagnosticStatus."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR


class Diagnostics:
    """Publishes one status of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, level: Level, message: str, values: Mapping[str, object]) -> None:
        """Publish one status: its level, a sentence, and values by name, dated now."""
        name = self._node.get_fully_qualified_name()
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        status = DiagnosticStatus(
            level=level.value, name=name, message=message, hardware_id="", values=pairs
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def destroy(self) -> None:
        """Destroy the publisher of diagnostics."""
        self._node.destroy_publisher(self._publisher)
