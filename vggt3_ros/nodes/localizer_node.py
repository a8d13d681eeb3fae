"""The localizer: where the newest image was taken in a scene, or why that is unknown."""

from __future__ import annotations

from vggt3_ros.interrupts import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

from typing import Any

from vggt3_ros.nodes.localizer.active import ActiveLocalizer
from vggt3_ros.nodes.localizer.output import LocalizerOutput
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer.services import LocalizerServices
from vggt3_ros.nodes.runtime.lifecycle import ManagedNode, run
from vggt3_ros.nodes.runtime.load_network import check_network, network_of
from vggt3_ros.scene.library import find_scene


class LocalizerNode(ManagedNode[LocalizerParameters, LocalizerOutput, ActiveLocalizer]):
    """Lifecycle node `localizer`; its topics and services are in docs/ros.md."""

    def __init__(self, **options: Any) -> None:
        super().__init__("localizer", LocalizerParameters, **options)
        self._services_of_localizer = LocalizerServices(self)

    def configure(self) -> LocalizerOutput:
        """Check everything that can be checked; publishers from now on."""
        check_network(self.settings)
        if self.settings.scene_dir and not self.settings.follow_mapper:
            find_scene(self.settings.scene_dir)
        self._services_of_localizer.paused = False
        return LocalizerOutput(self, lambda: self.settings)

    def activate(self, configured: LocalizerOutput) -> ActiveLocalizer:
        """Load network and scene, listen to the camera and to the mapper."""
        services = self._services_of_localizer
        network = network_of(self.settings)
        return ActiveLocalizer(
            self, lambda: self.settings, configured, lambda: services.paused, network
        )

    def settings_changed(self) -> None:
        """The tracker has settings of its own."""
        if self.active is not None:
            self.active.session.take_over(self.settings)


def main(args: list[str] | None = None) -> None:
    """Run the node by itself."""
    run([LocalizerNode], args)


if __name__ == "__main__":
    main()
