"""Replacing a folder in one step: whatever happens, the path holds the old folder or the new one.

Linux can exchange two names atomically (renameat2 with RENAME_EXCHANGE). File systems without it
get two renames; a program killed between them leaves the old folder under `previous_name`, where
`current` and `recover` find it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_SAVING = ".vggt3-saving-"  # in the names of temporary folders


def previous_name(folder: Path) -> Path:
    """Where the old folder lies for the moment between two renames on file systems that cannot
    exchange.
    """
    return folder.with_name(f".{folder.name}.vggt3-previous")


def current(folder: Path) -> Path:
    """Where to read the content of `folder`: there, or where an interrupted replacement left it."""
    previous = previous_name(folder)
    return previous if previous.is_dir() and not os.path.lexists(folder) else folder


@contextmanager
def locked_parent(folder: Path) -> Iterator[None]:
    """Let one program at a time replace folders beside `folder`; the lock of a killed program is
    void.
    """
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        # a network file system without locks: two savers at once may collide
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED | {errno.EBADF, errno.ENOLCK}:
                raise
        yield
    finally:
        os.close(handle)


def new_sibling(folder: Path) -> Path:
    """Create an empty temporary folder beside `folder`, after clearing what killed programs left.

    Call it under locked_parent: then every older sibling is a leftover.
    """
    recover(folder)
    prefix = f".{folder.name}{_SAVING}"
    clear_leftovers(folder.parent, prefix)
    sibling = folder.with_name(prefix + uuid.uuid4().hex)
    sibling.mkdir()  # not mkdtemp, whose mode 0700 would hide the scene from other users
    return sibling


def clear_leftovers(parent: Path, prefix: str = ".") -> None:
    """Delete what killed programs left in `parent`, as far as the names begin so. Call it under
    locked_parent.
    """
    for entry in parent.iterdir():
        if entry.name.startswith(prefix) and _SAVING in entry.name:
            shutil.rmtree(entry, ignore_errors=True)


def replace_folder(sibling: Path, folder: Path) -> None:
    """Put `sibling` in the place of `folder` and delete the old folder. Its files must be synced
    already.
    """
    if not os.path.lexists(folder):
        os.rename(sibling, folder)
    elif _exchange(sibling, folder):
        sync(folder.parent)
        shutil.rmtree(sibling, ignore_errors=True)
    else:
        os.rename(folder, previous_name(folder))
        os.rename(sibling, folder)
        sync(folder.parent)
        shutil.rmtree(previous_name(folder), ignore_errors=True)
    sync(folder.parent)


def recover(folder: Path) -> None:
    """Finish or undo a replacement by two renames that was interrupted."""
    previous = previous_name(folder)
    if not previous.is_dir():
        return
    if os.path.lexists(folder):
        shutil.rmtree(previous, ignore_errors=True)
    else:
        os.rename(previous, folder)


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names atomically; False where the system or file system cannot. Raises OSError
    otherwise.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if (
        renameat2(
            _AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), ctypes.c_uint(_RENAME_EXCHANGE)
        )
        == 0
    ):
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(b))
