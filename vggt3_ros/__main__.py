"""`python3 -m vggt3_ros`: the command line from a source checkout, without installation."""

from __future__ import annotations

import sys

from vggt3_ros.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
