"""`vggt3 export SCENE --nav2 DIR`: the occupancy grid of a scene as nav2_map_server loads it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import positive_float
from vggt3_ros.cli.export_folder import check_folder, new_folder

if TYPE_CHECKING:
    from vggt3_ros.pipeline.grid_lattice import GridSettings
    from vggt3_ros.pipeline.occupancy import OccupancyGrid
    from vggt3_ros.scene.scene import Scene

IMAGE = "map.pgm"
YAML = "map.yaml"
# what map_saver writes, and thresholds that make the same of it in every map_server
_GREY = {"FREE": 254, "OCCUPIED": 0, "UNKNOWN": 205}
_THRESHOLDS = {"occupied_thresh": 0.65, "free_thresh": 0.196}


def add_nav2_options(parser: argparse.ArgumentParser) -> None:
    """Add --nav2 and what belongs to it."""
    parser.add_argument(
        "--nav2",
        type=Path,
        default=None,
        metavar="DIR",
        help=(
            f"folder for {IMAGE} and {YAML}, an occupancy grid for Nav2's map_server; made if"
            " missing, an earlier map in it is replaced; needs a metric scene"
        ),
    )
    parser.add_argument(
        "--resolution",
        type=positive_float,
        default=None,
        metavar="METRES",
        help="with --nav2: side of a cell (default: 0.05)",
    )
    parser.add_argument(
        "--heights",
        type=positive_float,
        nargs=2,
        default=None,
        metavar=("LOW", "HIGH"),
        help=(
            "with --nav2: metres above the floor between which things are in the robot's way"
            " (default: 0.1 1.5)"
        ),
    )
    parser.add_argument(
        "--reach",
        type=positive_float,
        default=None,
        metavar="METRES",
        help=(
            "with --nav2: distance from its camera up to which depth tells of the grid (default: 5)"
        ),
    )
    parser.add_argument(
        "--floor",
        type=float,
        default=None,
        metavar="Z",
        help="with --nav2: Z of the floor in the map (default: where it is found)",
    )


def check_nav2_options(args: argparse.Namespace) -> None:
    """Raise for options of a grid without --nav2."""
    names = ("resolution", "heights", "reach", "floor")
    given = [name for name in names if getattr(args, name) is not None]
    if given and args.nav2 is None:
        raise argparse.ArgumentTypeError(f"--{given[0]} is of a grid; give --nav2 DIR, too")


def check_nav2_folder(folder: Path, scene: Path) -> None:
    """Raise `InputError` for a folder that holds something else, before the scene is read."""
    check_folder("--nav2", folder, scene, r"map\.(pgm|yaml)", "a map of Nav2")


def export_nav2(scene: Scene, args: argparse.Namespace) -> dict[str, Any]:
    """Write the map, tell its size, and return that as data for JSON."""
    from vggt3_ros.pipeline.occupancy import FREE, OCCUPIED, UNKNOWN
    from vggt3_ros.pipeline.scene_grid import scene_grid

    settings = _settings(args)
    grid = scene_grid(scene, settings, args.floor)
    with new_folder(args.nav2) as folder:
        write_map(grid, folder)
    rows, columns = grid.cells.shape
    counts = {
        name: grid.count(value)
        for name, value in (("free", FREE), ("occupied", OCCUPIED), ("unknown", UNKNOWN))
    }
    print(
        f"grid      {args.nav2}: {columns} x {rows} cells of {grid.resolution:g} m,"
        f" {counts['free']} free, {counts['occupied']} occupied"
    )
    heights = f"{settings.low:g} to {settings.high:g} m"
    print(f"          {heights} above a floor at Z = {grid.floor_z:.3f} m")
    return {
        "nav2": str(args.nav2),
        "columns": columns,
        "rows": rows,
        "resolution_m": grid.resolution,
        "floor_z_m": grid.floor_z,
        **counts,
    }


def _settings(args: argparse.Namespace) -> GridSettings:
    from vggt3_ros.pipeline.grid_lattice import GridSettings

    given = {"resolution": args.resolution, "reach": args.reach}
    if args.heights is not None:
        given["low"], given["high"] = args.heights
    return GridSettings(**{name: value for name, value in given.items() if value is not None})


def write_map(grid: OccupancyGrid, folder: Path) -> None:
    """Write map.pgm and map.yaml: the topmost row of the image is that of the greatest y, the
    origin is the outer corner of the lower left pixel.

    Source: nav2_map_server's documentation of its map format, mode trinary.
    """
    import numpy as np

    from vggt3_ros.pipeline.occupancy import FREE, OCCUPIED

    cells = grid.cells.numpy()[::-1]
    grey = np.full(cells.shape, _GREY["UNKNOWN"], np.uint8)
    grey[cells == FREE] = _GREY["FREE"]
    grey[cells == OCCUPIED] = _GREY["OCCUPIED"]
    rows, columns = cells.shape
    (folder / IMAGE).write_bytes(f"P5\n{columns} {rows}\n255\n".encode() + grey.tobytes())
    x, y = grid.origin
    entries = {
        "image": IMAGE,
        "mode": "trinary",
        "resolution": grid.resolution,
        "origin": f"[{x:.9g}, {y:.9g}, 0.0]",
        "negate": 0,
        **_THRESHOLDS,
    }
    lines = [f"{name}: {value}\n" for name, value in entries.items()]
    (folder / YAML).write_text("".join(lines), encoding="utf-8")
