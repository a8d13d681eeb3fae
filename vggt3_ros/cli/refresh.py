"""`vggt3 refresh SCENE LOG... --out NEW`: a scene without what has gone from the place since it was
made, as logs of `vggt3 localize --log` or of the localizer tell. The scene itself is not changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vggt3_ros.cli.common import add_json_option, check_not_input, scene_files
from vggt3_ros.files import check_writable, write_json


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "refresh", help="a scene without what has gone since", description=__doc__
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="scene folder to refresh; it is not changed"
    )
    parser.add_argument(
        "logs",
        nargs="+",
        type=Path,
        metavar="LOG",
        help="logs of this very scene, the oldest first",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NEW", help="scene folder to write or replace"
    )
    add_json_option(parser, "write what has gone, and what does not follow, as JSON")


def run(args: argparse.Namespace) -> int:
    """Refresh and save. Outputs that cannot be written are refused before the work begins."""
    from vggt3_ros.maps.refresh import refresh
    from vggt3_ros.maps.scene_log import SceneLog
    from vggt3_ros.scene.storage import check_target, load_scene, save_scene

    source = args.scene.resolve()
    if source in (args.out.resolve(), *args.out.resolve().parents):
        raise argparse.ArgumentTypeError(
            f"--out {args.out} is the scene that is refreshed, or in it; name another folder"
        )
    check_target(args.out)
    if args.json is not None:
        check_writable(args.json, "--json")
        inputs = [*scene_files(args.scene), *scene_files(args.out), *args.logs]
        check_not_input(args.json, "--json", inputs)
    logs = [SceneLog.load(path) for path in args.logs]
    scene = load_scene(args.scene)
    for path, log in zip(args.logs, logs, strict=True):
        log.check_is_of(scene, str(path))
    made = refresh(scene, source.name, logs)
    save_scene(made.scene, args.out)
    data = {
        "scene": str(args.out),
        "scene_id": made.scene.scene_id,
        "refreshed": str(args.scene),
        "views": made.views,
        "views_believed": made.believed,
        "landmarks_before": made.before,
        "landmarks_looked_for": made.looked_for,
        "landmarks_gone": int(made.gone.sum()),
        "landmarks": made.left,
        "points": len(made.scene.points),
        "points_before": len(scene.points),
        "keyframes": len(made.scene.keyframes),
        "keyframes_gone": list(made.keyframes_gone),
        "does_not_follow": list(made.does_not_follow),
    }
    write_json(args.json, data)
    _print(data)
    return 0


def _print(data: dict[str, Any]) -> None:
    print(
        f"scene     {data['scene']}: {data['keyframes']} keyframes, {data['landmarks']} landmarks,"
        f" {data['points']} points"
    )
    print(
        f"views     {data['views_believed']} of {data['views']} can be believed; they looked for"
        f" {data['landmarks_looked_for']} of {data['landmarks_before']} landmarks"
    )
    print(
        f"gone      {data['landmarks_gone']} landmarks,"
        f" {data['points_before'] - data['points']} of {data['points_before']} points,"
        f" {len(data['keyframes_gone'])} keyframes"
        + "".join(f" {name}" for name in data["keyframes_gone"])
    )
    for sentence in data["does_not_follow"]:
        print(f"stays     {sentence}")
