"""Dense mapping and visual localization for robots around the VGG-T3 network.

What most programs need is here: `read_frames`, `load_network`, `reconstruct`, `save_scene`,
`load_scene`, `Localizer`, `Frame`. Each is imported when it is first asked for, so that
`import vggt3_ros` alone needs nothing installed.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vggt3_ros.datasets.frames import read_frames
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.pipeline.frame import Frame
    from vggt3_ros.pipeline.localize import Localizer
    from vggt3_ros.pipeline.reconstruct import reconstruct
    from vggt3_ros.scene.storage import load_scene, save_scene

# Lets a source checkout and an installed copy (which may hold generated modules) serve the same
# package name.
__path__ = pkgutil.extend_path(__path__, __name__)
__version__ = "0.1.0"

__all__ = [
    "Frame",
    "Localizer",
    "load_network",
    "load_scene",
    "read_frames",
    "reconstruct",
    "save_scene",
]

_MODULES = {
    "Frame": "vggt3_ros.pipeline.frame",
    "Localizer": "vggt3_ros.pipeline.localize",
    "load_network": "vggt3_ros.model.checkpoint",
    "load_scene": "vggt3_ros.scene.storage",
    "read_frames": "vggt3_ros.datasets.frames",
    "reconstruct": "vggt3_ros.pipeline.reconstruct",
    "save_scene": "vggt3_ros.scene.storage",
}


def __getattr__(name: str) -> object:
    """What `__all__` names, from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # the next time it is simply there
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
