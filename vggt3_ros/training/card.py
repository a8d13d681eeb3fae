"""The card of trained weights: what they are, how they were made, and what they reach, baselines
beside every figure.

    python3 -m vggt3_ros.training.card vggt3_ros/weights/tiny.safetensors training.json
    runs/tiny/validation.json \
        box50.json box50.given.json rooms.json rooms.given.json > tables.md

`training.json` is written by whoever trained: {"data", "training": {"steps", "seconds", "machine",
"settings"}}. Of the run's validations the last one counts. The others are what `vggt3 evaluate ...
--json` wrote, NAME.given.json with `--priors given`: of those the verified poses count. The card
goes beside the weights, as .json; its tables are printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.files import write_json
from vggt3_ros.model.checkpoint import load_network

_VALIDATION = (
    "unseen places, medians: windows of 8 mapped and 8 localized views of 24 rooms (seeds from"
    " 950000), and of 12 corridors and yards (corridor_*, yard_*; 970000, 980000); tour_*: drives"
    " of 16 mapped and 8 localized views in 12 rooms (960000). nearest_* is the pose of the most"
    " similar map image, still_* that of no motion"
)


def card(
    weights: Path, run: dict[str, Any], validation: dict[str, Any], files: list[Path]
) -> dict[str, Any]:
    """Everything that is known of a weights file, as plain data; `files` hold evaluations."""
    network = load_network(weights)
    long = network.config.image_size
    evaluation: dict[str, dict[str, Any]] = {}
    for file in files:
        figures = _read(file)
        entry = evaluation.setdefault(file.name.split(".")[0], {})
        each = figures.get("each", [figures])  # of several sequences, whose medians `figures` are
        measured = {one["model_fingerprint"] for one in each}
        if measured != {network.fingerprint()}:
            raise InputError(
                f"{file} was measured with other weights ({', '.join(measured)}); evaluate again"
            )
        if each[0]["priors"] == "given":
            names = (
                "queries",
                "accepted",
                "wrong_accepted",
                "median_position_m",
                "median_rotation_deg",
            )
            entry["verified_with_priors"] = {name: figures["verified"][name] for name in names}
        else:
            entry |= {
                name: figures[name] for name in ("trajectory_extent_m", "localization", "baselines")
            }
            of_map = (
                "frames",
                "ate_m",
                "ate_percent",
                "pair_rotation_deg",
                "pair_direction_deg",
                "depth_abs_rel",
            )
            entry["map"] = {name: figures["map"][name] for name in of_map}
    data = {
        "model": weights.stem,
        "licence": "Apache-2.0",
        "fingerprint": network.fingerprint(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "file_bytes": weights.stat().st_size,
        "stored_as": "fp16",
        "input": f"{long} x {long * 3 // 4} pixels (long side {long})",
        "config": network.config.to_dict(),
        **run,
        "validation": {"places": _VALIDATION, **validation},
        "evaluation": evaluation,
    }
    rounded: dict[str, Any] = _rounded(data)
    return rounded


def tables(card: dict[str, Any]) -> str:
    """The figures of a card as Markdown."""
    lines = [
        (
            "| sequence | ATE % | pair rotation / direction deg | depth AbsRel | queries: position"
            " % / rotation deg | mean map pose | most similar map image | verified, map poses"
            " given: accepted, wrong, position cm / rotation deg |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in card["evaluation"].items():
        if "map" not in figures:
            raise InputError(
                f"{name} was evaluated with --priors given alone; give its evaluation without them"
                " as well"
            )
        mapped = figures["map"]
        baselines = figures["baselines"]
        verified = figures.get("verified_with_priors")
        lines.append(
            f"| {name} | {_number(mapped['ate_percent'])} | {_number(mapped['pair_rotation_deg'])}"
            f" / {_number(mapped['pair_direction_deg'])} | {_number(mapped['depth_abs_rel'], 3)} |"
            f" {_pose(figures['localization'])} | {_pose(baselines['mean_pose'])} |"
            f" {_pose(baselines['nearest_image'])} |"
            f" {'-' if verified is None else _verified(verified)} |"
        )
    validation = card["validation"]
    lines += [
        "",
        "| validation | windows of rooms | tours | corridors | yards |",
        "|---|---|---|---|---|",
    ]
    for figure in (
        "pair_rotation_deg",
        "still_pair_rotation_deg",
        "pair_direction_deg",
        "ate_percent",
        "depth_abs_rel",
        "query_position_percent",
        "query_rotation_deg",
        "nearest_position_percent",
        "nearest_rotation_deg",
    ):
        digits = 3 if figure == "depth_abs_rel" else 2
        values = (validation.get(prefix + figure) for prefix in ("", "tour_", "corridor_", "yard_"))
        lines.append(f"| {figure} | {' | '.join(_number(value, digits) for value in values)} |")
    return "\n".join(lines)


def _pose(figures: dict[str, float]) -> str:
    return (
        f"{_number(figures['median_position_percent'])} / {_number(figures['median_rotation_deg'])}"
    )


def _verified(figures: dict[str, Any]) -> str:
    centimetres = (
        None if figures["median_position_m"] is None else 100 * figures["median_position_m"]
    )
    poses = f"{_number(centimetres)} / {_number(figures['median_rotation_deg'], 2)}"
    return f"{figures['accepted']} of {figures['queries']}, {figures['wrong_accepted']}, {poses}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _rounded(data: Any) -> Any:
    """The same with four digits behind the point."""
    if isinstance(data, dict):
        return {name: _rounded(value) for name, value in data.items()}
    return round(data, 4) if isinstance(data, float) else data


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}") from error


def main(arguments: list[str]) -> None:
    """Write the card beside the weights, and its tables to standard output."""
    if len(arguments) < 3:
        raise InputError(
            f"got {len(arguments)} files, expected weights, training.json, validation.json,"
            " evaluations"
        )
    weights, run, validations, *files = (Path(argument) for argument in arguments)
    validated = _read(validations)
    if not validated:
        raise InputError(f"{validations} is empty: the run was never validated")
    data = card(weights, _read(run), validated[-1], files)
    shown = tables(data)
    write_json(weights.with_suffix(".json"), data)
    print(shown)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Vggt3Error as error:
        sys.exit(f"card: {error}")
