"""One YAML file per run: sizes, schedule, data and loss weights, checked as a whole before anything
starts.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known, read_yaml
from vggt3_ros.model.config import GlobalAttention, ModelConfig, TttConfig

_AT_LEAST_ONE = (
    "height", "width", "scenes", "fit_steps", "dense_stride", "pool_groups", "group_rooms",
    "validations",
    "validation_rooms",
)  # fmt: skip
_FRACTIONS = ("warmup", "wide_after", "abort_after", "tours", "shadows")


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss terms (see losses.py and dense_losses.py); a term of weight 0 is left
    out.
    """

    camera: float
    quaternion: float
    field_of_view: float
    direction: float
    reprojection: float
    depth: float
    depth_log: float
    points: float
    shape: float
    outliers: float
    patches: float
    matching: float

    def __post_init__(self) -> None:
        for field in fields(self):
            if not _is_number(getattr(self, field.name)):
                value = getattr(self, field.name)
                raise InputError(
                    f"training config: weights.{field.name} is {value!r}, expected a number"
                )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run; recipes/train_tiny.yaml explains each entry."""

    model: ModelConfig
    ttt: TttConfig | None
    convert_to: tuple[GlobalAttention, ...] | None
    height: int
    width: int
    aspects: tuple[float, float] | None
    crop: float
    views: int
    fewest_views: int
    query_views: int
    scenes: int
    softmax_steps: int
    distil_steps: int
    ttt_steps: int
    shares: tuple[float, float, float]
    student: str | None
    train: Literal["all", "global_attention"]
    fit_steps: int
    dense_stride: int
    pool_groups: int
    group_rooms: int
    renewals: int
    wide_after: float
    tours: float
    corridors: float
    yards: float
    shadows: float
    folders: tuple[str, ...]
    real: float
    optimizer: Literal["muon", "adamw"]
    matrix_lr: float
    other_lr: float
    distil_matrix_lr: float
    distil_other_lr: float
    warmup: float
    weight_decay: float
    clip: float
    ema: float
    seed: int
    weights: LossWeights
    save_every_s: float
    validations: int
    validation_rooms: int
    abort_after: float
    checkpointing: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (
                not isinstance(value, int) or isinstance(value, bool) or value < 0
            ):
                raise InputError(
                    f"training config: {field.name} is {value!r}, expected a whole number, 0 or"
                    " more"
                )
            if field.type == "float" and not _is_number(value):
                raise InputError(
                    f"training config: {field.name} is {value!r}, expected a number (1.0e-3, not"
                    " 1e-3)"
                )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InputError(
                    f"training config: {name} is {getattr(self, name)!r}, expected at least 1"
                )
        for name in _FRACTIONS:
            if getattr(self, name) > 1:
                raise InputError(
                    f"training config: {name} is {getattr(self, name)!r}, expected a share within"
                    " 0..1"
                )
        if self.aspects is not None:
            object.__setattr__(self, "aspects", tuple(self.aspects))
        for name in ("folders", "shares"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)):
                raise InputError(f"training config: {name} is {value!r}, expected a list")
            object.__setattr__(self, name, tuple(value))
        for name, (value, valid, expected) in self._checks().items():
            if not valid:
                raise InputError(f"training config: {name} is {value!r}, expected {expected}")
        if self.convert_to is not None:
            object.__setattr__(self, "convert_to", tuple(self.convert_to))
        _ = self.converted_model  # refuses `ttt` and `convert_to` that do not fit `model`

    def _checks(self) -> dict[str, tuple[object, bool, str]]:
        """What has to hold beyond the kind of a number: by name the value, whether it is right,
        what would be.
        """
        return self._view_checks() | self._run_checks()

    def _view_checks(self) -> dict[str, tuple[object, bool, str]]:
        """What has to hold of the network and of the views that it is shown."""
        patch = self.model.patch_size
        aspects = self.aspects
        rooms = self.pool_groups * self.group_rooms
        fewest = self.fewest_views
        views = self.views
        queries = self.query_views
        ordered = aspects is None or (len(aspects) == 2 and 0 < aspects[0] <= aspects[1])
        most = self.scenes * views // max(1, fewest)
        return {
            "model.attn": (
                self.model.attn,
                self.model.attn == "softmax" or not self.converts,
                "'softmax', which is converted later, or else ttt: null and one phase alone",
            ),
            "height": (self.height, self.height % patch == 0, f"a multiple of patch_size {patch}"),
            "width": (self.width, self.width % patch == 0, f"a multiple of patch_size {patch}"),
            "aspects": (
                aspects,
                ordered,
                "null or the smallest and the largest width / height, above 0",
            ),
            "crop": (self.crop, 0.1 <= self.crop <= 1, "within 0.1..1"),
            "fewest_views": (fewest, 2 <= fewest <= views, "2 to `views`"),
            "query_views": (
                queries,
                0 <= queries <= fewest - 2,
                "at most fewest_views - 2: at least 2 are mapped",
            ),
            "scenes": (
                self.scenes,
                most <= rooms,
                f"{most} scenes in a step at most the pool's {rooms} rooms",
            ),
        }

    def _run_checks(self) -> dict[str, tuple[object, bool, str]]:
        """What has to hold of places, optimizer and run."""
        return {
            "student": (
                self.student,
                self.student is None or (isinstance(self.student, str) and self.converts),
                "null or a network, and null where nothing is converted",
            ),
            "ttt": (
                self.ttt,
                self.converts or not (self.distil_steps or self.ttt_steps or any(self.shares[1:])),
                "given, or else no steps and shares of distillation and fast weights",
            ),
            "convert_to": (
                self.convert_to,
                self.converts or self.convert_to is None,
                "null where ttt is null",
            ),
            "shares": (
                self.shares,
                len(self.shares) == 3
                and all(_is_number(fraction) for fraction in self.shares)
                and sum(self.shares) > 0,
                "three shares of the time, 0 or more",
            ),
            "train": (
                self.train,
                self.train in ("all", "global_attention"),
                "'all' or 'global_attention'",
            ),
            "corridors": (self.corridors, self.corridors <= 1, "within 0..1"),
            "yards": (
                self.yards,
                self.corridors + self.yards <= 1,
                "a share, at most 1 together with corridors",
            ),
            "folders": (
                self.folders,
                all(isinstance(f, str) for f in self.folders),
                "a list of paths",
            ),
            "real": (
                self.real,
                self.real <= (1 if self.folders else 0),
                "within 0..1, and 0 without `folders`",
            ),
            "optimizer": (self.optimizer, self.optimizer in ("muon", "adamw"), "'muon' or 'adamw'"),
            "ema": (self.ema, 0 <= self.ema < 1, "within 0..1"),
            "checkpointing": (
                self.checkpointing,
                isinstance(self.checkpointing, bool),
                "true or false",
            ),
            "weights.points": (
                self.weights.points,
                self.model.point_head or self.weights.points == 0,
                "0: the model has no point head",
            ),
            "weights.outliers": (
                self.weights.outliers,
                self.weights.outliers < 1,
                "a share below 1",
            ),
        }

    @property
    def fixed_shape(self) -> bool:
        """Whether every step has the same number of views, of the same size."""
        return self.fewest_views == self.views and self.aspects is None

    @property
    def converts(self) -> bool:
        """Whether the network that the run begins with is converted to another."""
        return self.ttt is not None

    @property
    def first_phase(self) -> str:
        """What the phase before conversion is called: 'softmax', or 'whole' for any other
        network.
        """
        return "softmax" if self.model.attn == "softmax" else "whole"

    @property
    def phases(self) -> dict[str, int]:
        """Steps of every phase, in their order."""
        steps = self.softmax_steps
        return {self.first_phase: steps, "distil": self.distil_steps, "ttt": self.ttt_steps}

    @property
    def time_fractions(self) -> dict[str, float]:
        """Fractions of the time that the phases have, in their order, where a run has to end within
        some minutes.
        """
        return dict(zip(self.phases, self.shares, strict=True))

    @property
    def converted_model(self) -> ModelConfig:
        """The network after the first phase, which is what a run produces."""
        if not self.converts:
            return self.model
        attn: Literal["ttt"] | None = "ttt" if self.convert_to is None else None
        return replace(self.model, attn=attn, global_attention=self.convert_to, ttt=self.ttt)

    def hundredth(self) -> TrainConfig:
        """About a hundredth of the run, to see its schedule: narrow network, small images, few
        scenes, few steps.
        """
        model = self.model
        patch = self.model.patch_size
        rows, columns = (max(2, side // (2 * patch)) for side in (self.height, self.width))
        width = 4 * max(1, model.embed_dim // model.num_heads // 16)
        scenes = max(1, self.scenes // 16)
        return replace(
            self,
            model=replace(
                model,
                embed_dim=model.num_heads * width,
                dpt_features=8,
                dpt_out_channels=(8, 8, 8, 8),
                image_size=patch * max(rows, columns),
            ),
            height=patch * rows,
            width=patch * columns,
            scenes=scenes,
            pool_groups=2,
            group_rooms=scenes * self.views // self.fewest_views,
            renewals=self.renewals // 100,
            softmax_steps=math.ceil(self.softmax_steps / 100),
            distil_steps=math.ceil(self.distil_steps / 100),
            ttt_steps=math.ceil(self.ttt_steps / 100),
            validation_rooms=1,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as from_dict takes it."""
        data = asdict(self)
        data["ttt"] = None if self.ttt is None else self.ttt.to_dict()
        data["convert_to"] = None if self.convert_to is None else list(self.convert_to)
        data["aspects"] = None if self.aspects is None else list(self.aspects)
        return {**data, "folders": list(self.folders), "model": self.model.to_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrainConfig:
        """Build from plain data; unknown and missing entries are refused by name."""
        known = {field.name for field in fields(TrainConfig)}
        if set(data) != known:
            check_known(data, known, "training config", "entries")
            raise InputError(f"training config: missing entries {sorted(known - set(data))}")
        try:
            for part, settings in (("ttt", TttConfig), ("weights", LossWeights)):
                names = [field.name for field in fields(settings)]
                check_known(data[part] or {}, names, f"training config, {part}", "entries")
            parts = {
                "model": ModelConfig.from_dict(data["model"]),
                "ttt": None if data["ttt"] is None else TttConfig(**data["ttt"]),
                "weights": LossWeights(**data["weights"]),
            }
            return TrainConfig(**{**data, **parts})
        except TypeError as error:
            raise InputError(f"training config: {error}") from error

    @staticmethod
    def read(path: Path) -> TrainConfig:
        """Read a YAML file."""
        try:
            data = read_yaml(path)
        except InputError as error:
            raise InputError(f"training config {path} cannot be read: {error}") from error
        return TrainConfig.from_dict(data)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )
