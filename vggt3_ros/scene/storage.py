"""Saving and loading scenes: a folder of safetensors, JSON and PLY, replaced in one step, checked
when read.

scene.json lists size and SHA-256 of every other file and has a checksum of its own: a scene is
whole or refused. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import safetensors.numpy
import safetensors.torch
from torch import Tensor

from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.geometry.pointcloud import parse_ply, write_ply
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.description import (
    DEPTH,
    DESCRIPTION,
    FILES,
    IMAGES,
    LANDMARKS,
    MEMORY,
    POINTS,
    FileRecord,
    assemble,
    describe,
    parse_description,
    recognized,
)
from vggt3_ros.scene.keyframe_list import KEYFRAMES, describe_keyframes
from vggt3_ros.scene.replace import current, locked_parent, new_sibling, replace_folder, sync
from vggt3_ros.scene.scene import Scene

_RESTORE = "restore the scene from a copy or map again"
_PERMISSIONS = "check its permissions and the disk"
_IMAGES = "images"  # the tensor in the file of images


def save_scene(scene: Scene, folder: str | os.PathLike[str]) -> Path:
    """Write the scene to `folder` and return its absolute path. Missing parent folders are made.

    An existing scene is replaced in one step: killed or failing at any moment, this leaves the old
    scene or the new one. Plain files that a user put beside the scene's own are carried over.
    Raises SceneError when the folder is not a scene, or cannot be written (full disk, no
    permission).
    """
    target = Path(folder).resolve()
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked_parent(target):
            sibling = new_sibling(target)
            try:
                check_target(target)  # again, now that nobody else saves
                _write(scene, sibling)
                for extra in _foreign_files(target):
                    _link(target / extra, sibling / extra)
                sync(sibling)
                replace_folder(sibling, target)
            except BaseException:
                shutil.rmtree(sibling, ignore_errors=True)
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise SceneError(
            f"cannot save the scene to {target}: {reason}; an earlier scene there is unharmed, "
            f"choose a folder that is writable and has room"
        ) from error
    return target


def load_scene(
    folder: str | os.PathLike[str],
    expect_fingerprint: str | None = None,
    with_depth: bool = True,
    with_images: bool = True,
) -> Scene:
    """Read a scene, writing nothing. Tensors are on the CPU.

    with_depth, with_images: False leaves the depth of its keyframes, or their images, most of a
    scene's bytes, unread and None, for who localizes in the scene only; such a scene is not to be
    saved again. Raises SceneError with the reason when there is no scene, when it is damaged, of a
    newer format, or (with `expect_fingerprint`) made by another network.
    """
    target = Path(folder).resolve()
    unread = {name for name, wanted in ((DEPTH, with_depth), (IMAGES, with_images)) if not wanted}
    scene: Scene | None = None
    while scene is None:
        identity = _identity(current(target))
        try:
            scene = _read(current(target), unread)
        except SceneError:
            if _identity(current(target)) == identity:
                raise
        if _identity(current(target)) != identity:
            scene = None  # a save replaced the folder while it was being read: read the new one
    if expect_fingerprint is not None:
        scene.require_network(expect_fingerprint)
    return scene


def check_target(folder: str | os.PathLike[str]) -> None:
    """Raise SceneError if a scene cannot be saved to `folder`; ask before a long reconstruction."""
    target = Path(folder).resolve()
    refusal = f"cannot save the scene to {target}"
    if not target.name:
        raise SceneError(
            f"{refusal}: it is the root of the file system; give the path of a new folder"
        )
    try:
        existing = next(parent for parent in target.parents if os.path.lexists(parent))
        if not existing.is_dir():
            raise SceneError(f"{refusal}: {existing} is a file; choose another path")
        if os.path.lexists(target) and not target.is_dir():
            raise SceneError(f"{refusal}: it is a file; give the name of a folder")
        if target.is_dir() and any(target.iterdir()):
            _check_is_replaceable(target)
    except OSError as error:
        raise SceneError(f"{refusal}: {error.strerror}; {_PERMISSIONS}") from error
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SceneError(f"{refusal}: {existing} is not writable; choose another folder")


def _check_is_replaceable(target: Path) -> None:
    """A folder with content may be replaced only if that content is a scene, plus plain files at
    most.
    """
    advice = "nothing was changed; choose a new folder, or the folder of an existing scene"
    try:
        recognized((target / DESCRIPTION).read_bytes())
    except (OSError, SceneError) as error:
        why = "it has no scene.json" if isinstance(error, FileNotFoundError) else str(error)
        raise SceneError(f"{target} exists and is not a scene ({why}); {advice}") from error
    for entry in target.iterdir():
        if entry.is_symlink() or not entry.is_file():
            raise SceneError(
                f"{target} holds {entry.name!r}, which is no file of a scene; {advice}"
            )


def _foreign_files(target: Path) -> list[str]:
    return (
        [entry.name for entry in target.iterdir() if entry.name not in FILES]
        if target.is_dir()
        else []
    )


def _link(source: Path, copy: Path) -> None:
    try:
        os.link(source, copy)
    except OSError:  # no hard links on this file system
        shutil.copy2(source, copy)


def _write(scene: Scene, folder: Path) -> None:
    """Write all files, each of them synced; scene.json last because it describes the others.

    Raises SceneError when the scene would not be read back.
    """
    (folder / MEMORY).write_bytes(_packed(scene.memory))
    if scene.landmarks:
        (folder / LANDMARKS).write_bytes(_packed(scene.landmarks))
    # by way of numpy: safetensors has 16-bit numbers of torch since lately only
    if scene.depth is not None:
        (folder / DEPTH).write_bytes(safetensors.numpy.save(scene.depth.arrays()))
    if scene.images is not None:
        (folder / IMAGES).write_bytes(_packed({_IMAGES: scene.images}))
    keyframes = describe_keyframes(scene.keyframes)
    (folder / KEYFRAMES).write_bytes(keyframes)
    write_ply(scene.points, folder / POINTS)
    records = {file.name: _record(file.read_bytes()) for file in sorted(folder.iterdir())}
    try:
        description = describe(scene, records)
        assemble(
            parse_description(description),
            keyframes,
            scene.memory,
            scene.landmarks,
            scene.points,
            scene.depth,
            scene.images,
        )
    except (SceneError, ValueError) as error:
        raise SceneError(
            f"cannot save a scene that would be refused when it is read: {error}"
        ) from error
    (folder / DESCRIPTION).write_bytes(description)
    for file in folder.iterdir():
        sync(file)


def _packed(tensors: dict[str, Tensor]) -> bytes:
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain)


def _read(folder: Path, unread: Collection[str]) -> Scene:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise SceneError(
            f"no scene at {folder}: it {what}; give a folder that a reconstruction was saved to"
        )
    try:
        description = parse_description((folder / DESCRIPTION).read_bytes())
    except FileNotFoundError as error:
        advice = "give a folder that a reconstruction was saved to"
        raise SceneError(f"{folder} is not a scene: it has no scene.json; {advice}") from error
    except OSError as error:
        raise SceneError(
            f"cannot read {folder / DESCRIPTION}: {error.strerror}; {_PERMISSIONS}"
        ) from error
    except SceneError as error:
        raise SceneError(f"{folder}: {error}") from error
    wanted = {name: record for name, record in description.files.items() if name not in unread}
    contents = {name: _checked(folder / name, record) for name, record in wanted.items()}
    try:
        memory = safetensors.torch.load(contents[MEMORY])
        landmarks = safetensors.torch.load(contents[LANDMARKS]) if LANDMARKS in contents else {}
        points = parse_ply(contents[POINTS], POINTS)
        depth = (
            KeyframeDepth.from_arrays(safetensors.numpy.load(contents[DEPTH]))
            if DEPTH in contents
            else None
        )
        images = safetensors.torch.load(contents[IMAGES])[_IMAGES] if IMAGES in contents else None
        return assemble(description, contents[KEYFRAMES], memory, landmarks, points, depth, images)
    except (
        OSError,
        Vggt3Error,
        safetensors.SafetensorError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        raise SceneError(f"{folder} is damaged: {error}; {_RESTORE}") from error


def _checked(path: Path, record: FileRecord) -> bytes:
    """The bytes of a file, once they are known to be those that were saved."""
    scene = path.parent
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SceneError(f"{scene} is damaged: {path.name} is missing; {_RESTORE}") from error
    except OSError as error:
        raise SceneError(f"cannot read {path}: {error.strerror}; {_PERMISSIONS}") from error
    if len(data) != record.size:
        size = f"{len(data)} bytes instead of {record.size}"
        raise SceneError(f"{scene} is damaged: {path.name} has {size}; {_RESTORE}")
    if _record(data) != record:
        raise SceneError(
            f"{scene} is damaged: {path.name} has another checksum than saved; {_RESTORE}"
        )
    return data


def _record(data: bytes) -> FileRecord:
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
