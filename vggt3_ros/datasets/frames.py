"""Images as a user has them, with what is known of their cameras, as frames to map or localize."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from vggt3_ros.datasets.image_reader import ImageReader
from vggt3_ros.datasets.known_cameras import KnownCameras
from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.frame import Frame

_Path = str | os.PathLike[str]


def read_frames(
    images: _Path | Sequence[_Path],
    *,
    poses: _Path | None = None,
    intrinsics: _Path | None = None,
    depth: _Path | None = None,
    bit_depth: int = 0,
) -> list[Frame]:
    """Read images, and what is known of their cameras; all of their pixels are in memory then.

    images: a folder (all photographs in it and below it, in natural order), an image file, a video
    (all of its frames), or several of these. Frames are called by their path in the folder.
    poses: a file of poses, camera to world, metres, OpenCV axes. They are the frames'
    `prior_world_from_cam`: NaN where the file says that tracking was lost, None without a pose.
    intrinsics: the calibration that all images share, in pixels of the images as stored.
    depth: a folder of 16-bit png in millimetres, registered to the images and named like them.
    bit_depth: of images of more than 8 bits; 0: as their brightest pixels tell.
    docs/files.md tells which formats are read, and which pose belongs to which image.

    Images that cannot be used are left out, each with a warning that says why. Raises InputError,
    naming file and line, for what cannot be read, and when poses, depth or calibration fit none of
    the images.
    """
    given = [images] if isinstance(images, str | os.PathLike) else images
    arguments = [os.fspath(argument) for argument in given]
    cameras = KnownCameras.from_files(_path(poses), _path(intrinsics), _path(depth))
    reader = ImageReader(arguments, "map", cameras, bit_depth)
    frames = list(reader)
    for name, reason in reader.skipped:
        warnings.warn(f"{name} is left out: {reason}", stacklevel=2)
    cameras.check(len(frames))
    if not frames:
        raise InputError(f"none of the {len(reader)} images can be used; the warnings say why")
    return frames


def _path(value: _Path | None) -> Path | None:
    return None if value is None else Path(value)
