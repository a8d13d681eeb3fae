"""The mapper: collects frames of a camera, reconstructs each collection, publishes and saves the
scene.
"""

from __future__ import annotations

from vggt3_ros.interrupts import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from vggt3_ros.nodes.mapper.active import ActiveMapper
from vggt3_ros.nodes.mapper.mapper import Mapper
from vggt3_ros.nodes.mapper.output import MapperOutput
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.mapper.services import MapperServices
from vggt3_ros.nodes.runtime.lifecycle import ManagedNode, run
from vggt3_ros.nodes.runtime.load_network import check_network, network_of
from vggt3_ros.nodes.runtime.open_scene import library_of


@dataclass(frozen=True, eq=False)
class ConfiguredMapper:
    """What there is between configure and cleanup: frames and scene, which stay while the node is
    not active.
    """

    mapper: Mapper
    output: MapperOutput

    def close(self) -> None:
        """Destroy the publishers; frames and scene are forgotten."""
        self.output.close()


class MapperNode(ManagedNode[MapperParameters, ConfiguredMapper, ActiveMapper]):
    """Lifecycle node `mapper`; its topics, services and action are in docs/ros.md.

    Three threads: the executor's (callbacks, which never block), the worker's (images to frames to
    the collection), and that of a reconstruction while there is one. The worker goes on collecting
    meanwhile.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("mapper", MapperParameters, **options)
        self._services_of_mapper = MapperServices(self, self._mapper)

    def configure(self) -> ConfiguredMapper:
        """Check everything that can be checked; publishers from now on."""
        check_network(self.settings)
        library = library_of(self, self.settings.scene_dir)
        with ExitStack() as undo:
            output = MapperOutput(self, lambda: self.settings)
            undo.callback(output.close)

            def say(message: str, failed: bool) -> None:
                output.say(message, failed)
                self._publish_status()

            mapper = Mapper(
                lambda: self.settings,
                library,
                self.made_by,
                output.publish_scene,
                say,
                self._publish_status,
            )
            undo.pop_all()
        return ConfiguredMapper(mapper, output)

    def activate(self, configured: ConfiguredMapper) -> ActiveMapper:
        """Load the network, listen to the camera."""
        network = network_of(self.settings)
        return ActiveMapper(
            self, lambda: self.settings, configured.mapper, configured.output, network
        )

    def _mapper(self) -> Mapper | None:
        return None if self.configured is None else self.configured.mapper

    def _publish_status(self) -> None:
        active = self.active  # which any thread may ask
        if active is not None:
            active.publish_status()


def main(args: list[str] | None = None) -> None:
    """Run the node by itself."""
    run([MapperNode], args)


if __name__ == "__main__":
    main()
