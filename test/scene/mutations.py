"""Damage to the files of a scene, by chance but the same every time, and what loading makes of it.

As a program: python3 test/scene/mutations.py SCENE [COUNT] says how many of COUNT damaged copies
are refused.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from vggt3_ros.errors import SceneError
from vggt3_ros.scene.storage import load_scene

Put = Callable[[Path], None]


def flipped(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def removed(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randint(1, 8)]


def inserted(data: bytearray, chance: random.Random) -> None:
    data.insert(chance.randrange(len(data) + 1), chance.choice(b' \t\n"0,}]\x00\xff'))


def digit_changed(data: bytearray, chance: random.Random) -> None:
    """Where there is no digit, another byte."""
    digits = [at for at, value in enumerate(data[:20_000]) if chr(value) in "0123456789"]
    at = chance.choice(digits or range(len(data)))
    data[at] = chance.choice([value for value in b"0123456789" if value != data[at]])


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def repeated(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.randint(1, 40)]


def zeroed(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    size = min(chance.randint(1, 64), len(data) - at)
    data[at : at + size] = bytes(size)


MUTATIONS = (flipped, removed, inserted, digit_changed, cut, repeated, zeroed)


def outcomes(scene: Path, count: int, seed: int = 0, afterwards: Put | None = None) -> Counter[str]:
    """How often a scene with one file damaged, or gone, is "refused", "accepted" or crashes
    ("ValueError: ...").

    Small files are chosen as often as large ones. afterwards(folder) may do something about the
    damage.
    """
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(shutil.copytree(scene, Path(parent) / "scene"))
        originals = {file.name: file.read_bytes() for file in folder.iterdir()}
        for _ in range(count):
            name = chance.choice(sorted(originals))
            data = bytearray(originals[name])
            while data == originals[name]:
                chance.choice(MUTATIONS)(data, chance)
            (folder / name).write_bytes(data)
            if chance.random() < 0.01:
                (folder / name).unlink()
            if afterwards is not None:
                afterwards(folder)
            found[outcome(folder)] += 1
            for changed in (name, "scene.json"):
                (folder / changed).write_bytes(originals[changed])
        load_scene(folder)  # what was damaged is whole again: nothing else refused the others
    return found


def outcome(folder: Path) -> str:
    """What loading a scene comes to."""
    try:
        load_scene(folder)
    except SceneError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


if __name__ == "__main__":
    print(dict(outcomes(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)))
