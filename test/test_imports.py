"""Who may import whom (drawn in CONTRIBUTING.md), and which third-party packages each part may
need.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vggt3_ros"

ALLOWED = {
    "geometry": set(),
    "landmarks": {"geometry"},
    "dense": {"geometry"},
    "model": {"geometry"},
    "scene": {"geometry"},
    "worlds": {"geometry"},
    "pipeline": {"geometry", "landmarks", "dense", "model", "scene"},
    "maps": {"geometry", "landmarks", "dense", "model", "scene", "pipeline"},
    "datasets": {"geometry", "landmarks", "pipeline", "worlds"},
    "training": {"geometry", "model", "worlds", "datasets"},
    "evaluation": {
        "geometry",
        "landmarks",
        "dense",
        "scene",
        "pipeline",
        "maps",
        "worlds",
        "datasets",
    },
    "nodes": {"geometry", "model", "scene", "worlds", "pipeline", "maps"},
    "cli": {
        "nodes",
        "geometry",
        "landmarks",
        "dense",
        "model",
        "scene",
        "worlds",
        "pipeline",
        "maps",
        "datasets",
        "training",
        "evaluation",
    },
}
# Folders and modules of nodes/, and which others of it they may import.
NODES_ALLOWED = {
    "runtime": set(),
    "messages": {"runtime"},
    "camera": {"runtime", "messages"},
    "mapper": {"runtime", "messages", "camera"},
    "localizer": {"runtime", "messages", "camera"},
    "sim_camera": {"runtime", "messages"},
    "viewer": {"runtime", "messages"},
    "mapper_node": {"runtime", "messages", "mapper"},
    "localizer_node": {"runtime", "messages", "localizer"},
    "sim_camera_node": {"runtime", "messages", "sim_camera"},
    "viewer_node": {"runtime", "messages", "viewer"},
    "compose": {"runtime", "mapper", "localizer", "mapper_node", "localizer_node"},
    "launching": {"runtime", "mapper", "localizer", "sim_camera"},  # parameters alone
    "demo": {"runtime", "messages", "camera", "sim_camera", "viewer_node"},
}
GENERATED = {"msg", "srv", "action"}  # messages, made by the build
EVERYONE_MAY = {
    "allocation",
    "errors",
    "files",
    "interrupts",
    "laps",
    "progress",
    "ranks",
    "threads",
    "__version__",
}

# What pyproject.toml declares beyond torch, numpy and safetensors, and what a developer's machine
# may have besides.
OPTIONAL = (
    "PIL",
    "cv2",
    "matplotlib",
    "tqdm",
    "yaml",
    "huggingface_hub",
    "scipy",
    "pycolmap",
    "skimage",
)

TRITON = "vggt3_ros.model.kernels.triton_"  # modules of kernels, imported where Triton runs

# In a child process: refuse to import the packages named in argv[1], then import the modules named
# after it.
IMPORT_BLOCKED = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked by the test", name=name)

blocked = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocker())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def imported_modules(source: str, module: str) -> set[str]:
    """Absolute names of everything that a module's source imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            origin = ".".join(parents + ([node.module] if node.module else []))
            names.update(f"{origin}.{alias.name}" for alias in node.names)
    return names


def forbidden_imports(source: str, module: str) -> set[str]:
    """Those of a module's imports that the rules do not allow its folder."""
    folder = module.split(".")[1]
    own = {
        name.split(".")[1]
        for name in imported_modules(source, module)
        if name.startswith("vggt3_ros.")
    }
    generated = GENERATED if folder == "nodes" else set()
    wrong = own - ALLOWED.get(folder, set()) - EVERYONE_MAY - generated - {folder}
    outside = {name.partition(".")[0] for name in imported_modules(source, module)}
    return wrong if folder == "nodes" else wrong | (outside & {"rclpy"})


def module_names() -> dict[str, Path]:
    """Dotted name and file of every module but `__main__` and the package itself."""
    files = (
        path.relative_to(PACKAGE.parent).with_suffix("") for path in sorted(PACKAGE.rglob("*.py"))
    )
    names = {
        ".".join(part for part in path.parts if part != "__init__"): path.with_suffix(".py")
        for path in files
    }
    skipped = {"vggt3_ros", "vggt3_ros.__main__"}
    return {name: PACKAGE.parent / path for name, path in names.items() if name not in skipped}


def import_in_child(
    blocked: tuple[str, ...], modules: list[str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORT_BLOCKED, ",".join(blocked), *modules],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("module", module_names())
def test_module_imports_only_what_its_folder_may(module: str) -> None:
    source = module_names()[module].read_text(encoding="utf-8")
    assert forbidden_imports(source, module) == set()


@pytest.mark.parametrize(
    "module", [name for name in module_names() if name.count(".") > 1 and ".nodes." in name]
)
def test_module_of_nodes_imports_only_what_its_part_may(module: str) -> None:
    part = module.split(".")[2]
    names = imported_modules(module_names()[module].read_text(encoding="utf-8"), module)
    parts = {name.split(".")[2] for name in names if name.startswith("vggt3_ros.nodes.")}
    assert parts - {part} - NODES_ALLOWED[part] == set()


@pytest.mark.parametrize(
    ("source", "module", "forbidden"),
    [
        ("from vggt3_ros.model.network import Vggt3", "vggt3_ros.scene.storage", {"model"}),
        ("def f():\n    import vggt3_ros.pipeline.frame", "vggt3_ros.geometry.se3", {"pipeline"}),
        ("from ..model import config", "vggt3_ros.evaluation.report", {"model"}),
        ("from vggt3_ros import training", "vggt3_ros.pipeline.frame", {"training"}),
        ("import rclpy.node", "vggt3_ros.pipeline.frame", {"rclpy"}),
        (
            "import rclpy\nfrom vggt3_ros.msg import SceneInfo",
            "vggt3_ros.nodes.messages.clouds",
            set(),
        ),
        ("from vggt3_ros.msg import SceneInfo", "vggt3_ros.scene.storage", {"msg"}),
        (
            "from vggt3_ros.geometry.se3 import se3\nfrom . import se3",
            "vggt3_ros.geometry.camera",
            set(),
        ),
    ],
)
def test_forbidden_import_is_noticed(source: str, module: str, forbidden: set[str]) -> None:
    assert forbidden_imports(source, module) == forbidden


def test_every_folder_with_modules_has_a_rule() -> None:
    folders = {
        name.split(".")[1] for name, path in module_names().items() if path.parent != PACKAGE
    }
    assert folders <= set(ALLOWED)


def test_everything_but_nodes_and_kernels_imports_without_rclpy_and_triton() -> None:
    modules = [
        name
        for name in module_names()
        if name.split(".")[1] != "nodes" and not name.startswith(TRITON)
    ]
    result = import_in_child(("rclpy", "triton"), modules)
    assert result.returncode == 0, result.stderr


def test_core_imports_with_torch_numpy_and_safetensors_alone() -> None:
    core = ("geometry", "dense", "model", "scene", "worlds", "training")
    modules = [
        name
        for name in module_names()
        if name.split(".")[1] in core and not name.startswith(TRITON)
    ]
    result = import_in_child(("rclpy", "triton", *OPTIONAL), modules)
    assert result.returncode == 0, result.stderr


def test_blocked_package_is_really_refused() -> None:
    result = import_in_child(("tqdm",), ["tqdm"])
    assert result.returncode != 0
    assert "tqdm is blocked by the test" in result.stderr
