"""Folders that `vggt3 export` writes: whole or not at all, over nothing but an earlier one of the
kind.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.scene.replace import locked_parent, new_sibling, replace_folder, sync

IMAGES = "images"
IMAGE_FILES = rf"{IMAGES}/[0-9]{{5}}(_[A-Za-z0-9._-]+)?\.png"


def check_folder(option: str, target: Path, scene: Path, files: str, kind: str) -> None:
    """Raise `InputError` unless `target` is new, empty, or holds nothing but files whose paths in
    it match the regular expression `files`, outside the scene.

    kind: how messages call what such a folder holds, as in "a model".
    """
    target = target.resolve()
    scene = scene.resolve()
    if target == scene or scene in target.parents:
        raise InputError(f"{option} {target} lies inside the scene; give a folder of its own")
    if target.exists() and not target.is_dir():
        raise InputError(f"{option} {target} is a file; give the name of a folder")
    for path in sorted(target.rglob("*")) if target.is_dir() else ():
        name = path.relative_to(target).as_posix()
        is_plain = path.is_file() and not path.is_symlink()
        if not (is_plain and re.fullmatch(files, name)) and not _holds_something(path):
            raise InputError(
                f"{option} {target} holds {name!r}, which is no file of {kind}; give a new folder"
            )


def _holds_something(path: Path) -> bool:
    """Whether it is a folder whose content is looked at, too."""
    return path.is_dir() and not path.is_symlink() and any(path.iterdir())


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of `target` when the block succeeds."""
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked_parent(target):
        sibling = new_sibling(target)
        try:
            yield sibling
            for path in (*sibling.rglob("*"), sibling):
                sync(path)
            replace_folder(sibling, target)
        except BaseException:
            shutil.rmtree(sibling, ignore_errors=True)
            raise


def write_images(images: Tensor, file_names: tuple[str, ...], folder: Path) -> None:
    """Write images (M, 3, H, W) uint8 RGB as PNG, which loses nothing, into `folder`/images."""
    from PIL import Image

    (folder / IMAGES).mkdir()
    for image, name in zip(images, file_names, strict=True):
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(folder / IMAGES / name)
