"""Files read as people's tools write them (byte order marks, keys given twice, keys nobody knows),
and written whole or not at all.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vggt3_ros.errors import InputError, nearest_name

_MARKS = (  # the longer ones first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NEAR = 0.5  # of two letters, such as fx, one may be wrong
_SHOWN = 12  # known names that a complaint lists when none is near


def cache_folder() -> Path:
    """Where this package remembers what costs time to find out; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "vggt3_ros"


def read_text(path: Path) -> str:
    """The file's text without a byte order mark: UTF-8, or UTF-16 and UTF-32 where a mark says so.

    Raises InputError when the file is missing or not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or (
        encoding in ("utf-16", "utf-32") and text and not any(map(_is_plain, text))
    ):
        raise InputError(
            f"cannot read {path}: it is not a text file, or in another encoding; save it as UTF-8"
        )
    return text


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError with the line of the first mistake, or naming a key that
    occurs twice.
    """
    text = read_text(path)
    try:
        data = json.loads(text, object_pairs_hook=lambda pairs: unique(pairs, path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    # a number of thousands of digits, brackets without end
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, also one with OpenCV's header and matrices.

    Raises InputError with the place of the first mistake, or naming a key that occurs twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            unique(((key.value, None) for key, _ in node.value if isinstance(key.value, str)), path)
            return super().construct_mapping(node, deep)

    def matrix(loader: Loader, node: Any) -> dict[Any, Any]:
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", matrix)
    text = "\n".join(
        "" if line.startswith("%YAML") else line for line in read_text(path).splitlines()
    )
    try:
        documents = [data for data in yaml.load_all(text, Loader) if data is not None]
    # ValueError: dates that there are not
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML ({error})") from error
    if len(documents) > 1:
        raise InputError(
            f"{path} holds {len(documents)} documents, divided by ---; keep one of them"
        )
    if not documents or not isinstance(documents[0], dict):
        kind = type(documents[0]).__name__ if documents else "nothing"
        raise InputError(f"{path}: expected a mapping of names to values, got {kind}")
    return {str(key): value for key, value in documents[0].items()}


def check_writable(path: Path, option: str) -> None:
    """Refuse a file that could not be written, before any long calculation.

    Raises `InputError` when `path` is a folder, or its parent folder is missing or not writable.
    """
    parent = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give the name of a file")
    if not parent.is_dir():
        raise InputError(
            f"{option} {path}: there is no folder {parent}; create it or choose another place"
        )
    try:
        if path.exists() and not path.is_file():  # a pipe or a device: opening it might block
            return
        # asks the disk itself; permission bits do not tell all
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise InputError(
            f"{option} {path} cannot be written: {error.strerror}; choose another place"
        ) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` with the same suffix, which becomes `path` when the block
    succeeds.

    Pipes and devices such as /dev/stdout are written directly: they cannot be replaced.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()  # through a symbolic link: the file behind it is replaced, the link stays
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_unfinished(path: Path) -> None:
    """Delete what killed programs left of writing `path` by `atomic_path`. For files that one
    program alone writes.
    """
    for left in path.parent.glob(f".{glob.escape(path.stem)}.{'?' * 8}{path.suffix}"):
        left.unlink(missing_ok=True)


def write_json(path: Path | None, data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Write `data` to `path` as JSON, whole or not at all; nothing where `path` is None."""
    if path is None:
        return
    text = json.dumps(data, indent=1) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_known(given: Iterable[str], known: Iterable[str], where: str, kind: str = "keys") -> None:
    """Raise InputError that names what is unknown among the given names, with the known ones
    nearest to them.

    where: what the message begins with, such as the file; kind: what the names are, such as "keys"
    or "columns".
    """
    names = sorted(set(known))
    unknown = [name for name in given if name not in names]
    if not unknown:
        return
    nearest = dict.fromkeys(nearest_name(name, names, _NEAR) for name in unknown)
    nearest.pop(None, None)
    if nearest:
        hint = f"did you mean {', '.join(map(repr, nearest))}?"
    else:
        hint = f"known are {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else '.'}"
    raise InputError(f"{where}: unknown {kind} {unknown}; {hint} Correct or remove them")


def is_number(text: str) -> bool:
    """Whether a word is a number, written as Python would read it; inf and nan are."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def unique(pairs: Iterable[tuple[str, Any]], where: Path | str) -> dict[str, Any]:
    """The pairs as a dictionary. Raises InputError for a key that occurs twice: one would be lost
    without a word.

    where: what the message begins with, such as the file.
    """
    pairs = list(pairs)
    counts = Counter(key for key, _ in pairs)
    twice = [key for key, count in counts.items() if count > 1 and key != "<<"]
    if twice:
        raise InputError(f"{where}: the key {twice[0]!r} occurs twice; keep one of them")
    return dict(pairs)


def _is_plain(letter: str) -> bool:
    return letter.isascii() and (letter.isprintable() or letter.isspace())
