"""One YAML file per run: sizes, schedule, data and loss weights, checked as a whole before anything starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vggt3_ros.errors import InputError
from vggt3_ros.model.config import ModelConfig, TttConfig

_AT_LEAST_ONE = (
    "height", "width", "fit_steps", "dense_stride", "pool_groups", "group_rooms", "steps_per_group", "validate_every",
    "validation_rooms",
)  # fmt: skip


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss terms (see losses.py)."""

    camera: float
    direction: float
    reprojection: float
    depth: float
    patches: float
    matching: float

    def __post_init__(self) -> None:
        for field in fields(self):
            if not _is_number(getattr(self, field.name)):
                value = getattr(self, field.name)
                raise InputError(f"training config: weights.{field.name} is {value!r}, expected a number")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run; configs/train_tiny.yaml explains each entry."""

    model: ModelConfig
    ttt: TttConfig
    height: int
    width: int
    views: int
    query_views: int
    scenes: int
    softmax_steps: int
    distil_steps: int
    ttt_steps: int
    fit_steps: int
    dense_stride: int
    pool_groups: int
    group_rooms: int
    steps_per_group: int
    wide_after: int
    tours: float
    matrix_lr: float
    other_lr: float
    distil_matrix_lr: float
    distil_other_lr: float
    warmup: int
    weight_decay: float
    clip: float
    ema: float
    seed: int
    weights: LossWeights
    save_every_s: float
    validate_every: int
    validation_rooms: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise InputError(f"training config: {field.name} is {value!r}, expected a whole number, 0 or more")
            if field.type == "float" and not _is_number(value):
                raise InputError(f"training config: {field.name} is {value!r}, expected a number (1.0e-3, not 1e-3)")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InputError(f"training config: {name} is {getattr(self, name)!r}, expected at least 1")
        patch = self.model.patch_size
        checks = {
            "model.attn": (self.model.attn == "softmax", "'softmax': the second phase makes the ttt network"),
            "height": (self.height % patch == 0, f"a multiple of patch_size {patch}"),
            "width": (self.width % patch == 0, f"a multiple of patch_size {patch}"),
            "query_views": (0 <= self.query_views <= self.views - 2, "at most views - 2: at least 2 are mapped"),
            "scenes": (1 <= self.scenes <= self.pool_groups * self.group_rooms, "1 to the number of rooms in the pool"),
            "tours": (0 <= self.tours <= 1, "within 0..1"),
            "ema": (0 <= self.ema < 1, "within 0..1"),
        }
        for name, (valid, expected) in checks.items():
            if not valid:
                value = self.model.attn if name == "model.attn" else getattr(self, name)
                raise InputError(f"training config: {name} is {value!r}, expected {expected}")

    @property
    def phases(self) -> dict[str, int]:
        """Steps of every phase, in their order."""
        return {"softmax": self.softmax_steps, "distil": self.distil_steps, "ttt": self.ttt_steps}

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return sum(self.phases.values())

    @property
    def ttt_model(self) -> ModelConfig:
        """The network after the first phase, which is what a run produces."""
        return replace(self.model, attn="ttt", ttt=self.ttt)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as from_dict takes it."""
        data = asdict(self)
        data["ttt"]["short_conv_size_qkv"] = list(self.ttt.short_conv_size_qkv)
        return {**data, "model": self.model.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrainConfig:
        """Build from plain data; unknown and missing entries are refused by name."""
        known = {field.name for field in fields(TrainConfig)}
        if set(data) != known:
            unknown, missing = sorted(set(data) - known), sorted(known - set(data))
            raise InputError(f"training config: unknown entries {unknown}, missing entries {missing}")
        try:
            parts = {
                "model": ModelConfig.from_dict(data["model"]),
                "ttt": TttConfig(**data["ttt"]),
                "weights": LossWeights(**data["weights"]),
            }
        except TypeError as error:
            raise InputError(f"training config: {error}") from error
        return TrainConfig(**{**data, **parts})

    @staticmethod
    def read(path: Path) -> TrainConfig:
        """Read a YAML file."""
        import yaml

        try:
            data = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"training config {path} cannot be read: {error}") from error
        if not isinstance(data, dict):
            raise InputError(f"training config {path} must be a mapping of settings, got {type(data).__name__}")
        return TrainConfig.from_dict(data)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
