"""Dense mapping and visual localization for robots around the VGG-T3 network."""

import pkgutil

# Lets a source checkout and an installed copy (which may hold generated modules) serve the same
# package name.
__path__ = pkgutil.extend_path(__path__, __name__)
__version__ = "0.1.0"
