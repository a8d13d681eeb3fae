"""What can go wrong for a user, each with a message that says what was given, what was expected, and what to do."""

from __future__ import annotations


class Vggt3Error(Exception):
    """Base of every error that vggt3_ros raises on purpose; its text is complete and needs no traceback."""


class InputError(Vggt3Error):
    """Images, poses, settings or arguments that cannot be used."""


class CheckpointError(Vggt3Error):
    """Network weights that are missing, foreign, misshapen or unreadable."""


class SceneError(Vggt3Error):
    """A stored scene that is damaged, foreign, of another version or made by another network."""
