"""Data sets on disk that evaluations read, too."""

from __future__ import annotations

from ..datasets.conftest import plain_folder  # noqa: F401  (a fixture)
