"""Sizes and kinds of the network's parts: everything that is needed to build it, nothing that is
learnt.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known

GlobalAttention = Literal["ttt", "softmax", "anchored", "frame", "ttt+anchored"]
"""What a global layer attends to: fast weights fitted to all frames; keys of all frames; keys of
the scene's anchors; the frame's own tokens alone; anchors, and fast weights with a learnt gate.
"""

_WHOLE_NUMBERS = {
    "patch_size": 1, "embed_dim": 4, "num_heads": 1, "depth": 4, "camera_num_heads": 1,
    "camera_trunk_depth": 1,
    "dpt_features": 8, "num_register_tokens": 0, "camera_iterations": 1, "pos_embed_grid": 1,
    "dino_depth": 0,
    "dino_num_heads": 1, "image_size": 1,
}  # fmt: skip
"""Sizes that must be whole, and their least value."""


@dataclass(frozen=True)
class TttConfig:
    """A test-time-training layer (arXiv 2602.23361). `newton_schulz_steps` below 0 leaves gradients
    as they are.

    `num_heads` of the fast weights: None, as published, for as many as attention has; one wide head
    holds far more.
    """

    newton_schulz_steps: int = 5
    base_lr: float = 0.01
    mlp_ratio: int = 4
    short_conv_size_qkv: tuple[int, int, int] = (0, 0, 3)
    num_heads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "short_conv_size_qkv", tuple(self.short_conv_size_qkv))
        _require(self.base_lr > 0, "ttt.base_lr", self.base_lr, "positive")
        whole = isinstance(self.mlp_ratio, int) and self.mlp_ratio >= 1
        _require(whole, "ttt.mlp_ratio", self.mlp_ratio, "a whole number of at least 1")
        heads = self.num_heads
        valid = heads is None or (
            isinstance(heads, int) and not isinstance(heads, bool) and heads >= 1
        )
        _require(valid, "ttt.num_heads", heads, "null or a whole number of at least 1")
        steps = self.newton_schulz_steps
        _require(isinstance(steps, int), "ttt.newton_schulz_steps", steps, "a whole number")
        sizes = self.short_conv_size_qkv
        valid = len(sizes) == 3 and all(size == 0 or (size > 0 and size % 2 == 1) for size in sizes)
        _require(valid, "ttt.short_conv_size_qkv", sizes, "three sizes, each 0 (none) or odd")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `num_heads` appears where it is not as published."""
        data = {**asdict(self), "short_conv_size_qkv": list(self.short_conv_size_qkv)}
        return {name: value for name, value in data.items() if value is not None}


@dataclass(frozen=True)
class AnchorConfig:
    """Anchors: `count` frames that differ most, among them the reference, whose keys and values
    layers attend to.

    patch_stride: which of their patches, each `patch_stride`-th row and column, for all layers or
    one number a layer; 0 for camera and register tokens alone.
    """

    count: int = 8
    patch_stride: int | tuple[int, ...] = 1

    def __post_init__(self) -> None:
        _require(_is_whole(self.count, 1), "anchors.count", self.count, "a whole number above 0")
        if isinstance(self.patch_stride, list):
            object.__setattr__(self, "patch_stride", tuple(self.patch_stride))
        strides = self.patch_stride
        valid = all(_is_whole(s, 0) for s in (strides if isinstance(strides, tuple) else [strides]))
        _require(valid, "anchors.patch_stride", strides, "whole numbers, 0 or more")

    def stride(self, layer: int) -> int:
        """That of a layer."""
        strides = self.patch_stride
        return strides[layer] if isinstance(strides, tuple) else strides

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        strides = self.patch_stride
        kept = list(strides) if isinstance(strides, tuple) else strides
        return {"count": self.count, "patch_stride": kept}


@dataclass(frozen=True)
class ModelConfig:
    """The network's sizes. The defaults of the last block are those of the published models.

    attn: the kind of all global layers, as in the published models; where they differ, it is None
    and `global_attention` has one for each layer.

    `intermediate_layers` are the four layers whose tokens feed the heads; `pos_embed_grid` is the
    side of the backbone's stored position grid; `image_size` the long side in pixels at which the
    model was trained.
    """

    patch_size: int
    embed_dim: int
    num_heads: int
    depth: int
    intermediate_layers: tuple[int, int, int, int]
    camera_num_heads: int
    camera_trunk_depth: int
    dpt_features: int
    dpt_out_channels: tuple[int, int, int, int]
    attn: Literal["ttt", "softmax"] | None = None
    num_register_tokens: int = 4
    rope_freq: float = 100
    camera_iterations: int = 4
    pos_embed_grid: int = 37
    dino_depth: int = 24
    dino_num_heads: int = 16
    ttt: TttConfig | None = None

    global_attention: tuple[GlobalAttention, ...] | None = None
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    patch_embedding: Literal["dinov2", "conv"] = "dinov2"
    point_head: bool = True
    image_size: int = 518

    def __post_init__(self) -> None:
        for name, least in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            _require(_is_whole(value, least), name, value, f"a whole number of at least {least}")
        for name in ("intermediate_layers", "dpt_out_channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            numbers = getattr(self, name)
            valid = len(numbers) == 4 and all(
                isinstance(number, int) and number >= 0 for number in numbers
            )
            _require(valid, name, numbers, "four whole numbers")
        _require(self.rope_freq > 0, "rope_freq", self.rope_freq, "a positive number")
        _require(isinstance(self.point_head, bool), "point_head", self.point_head, "true or false")
        self._check_global_attention()
        kind = self.patch_embedding
        _require(kind in ("dinov2", "conv"), "patch_embedding", kind, "'dinov2' or 'conv'")
        head_dim = self.embed_dim // self.num_heads
        divisible = self.embed_dim == head_dim * self.num_heads and head_dim % 4 == 0
        _require(
            divisible, "embed_dim", self.embed_dim, "num_heads times a multiple of 4 (2-D RoPE)"
        )
        if self.ttt is not None and self.ttt.num_heads is not None:
            whole = self.embed_dim % self.ttt.num_heads == 0
            _require(
                whole,
                "ttt.num_heads",
                self.ttt.num_heads,
                f"a divisor of embed_dim {self.embed_dim}",
            )
        heads = self.camera_num_heads
        _require(
            2 * self.embed_dim % heads == 0, "camera_num_heads", heads, "a divisor of 2 embed_dim"
        )
        layers = self.intermediate_layers
        ordered = list(layers) == sorted(set(layers)) and 0 <= layers[0] and layers[-1] < self.depth
        _require(
            ordered,
            "intermediate_layers",
            layers,
            f"four rising layer numbers below depth {self.depth}",
        )
        whole = self.image_size % self.patch_size == 0
        _require(
            whole, "image_size", self.image_size, f"a multiple of patch_size {self.patch_size}"
        )
        _require(self.dpt_features % 8 == 0, "dpt_features", self.dpt_features, "a multiple of 8")
        even = all(width > 0 and width % 4 == 0 for width in self.dpt_out_channels)
        _require(even, "dpt_out_channels", self.dpt_out_channels, "multiples of 4")
        if self.patch_embedding == "dinov2":
            divisor = self.embed_dim % self.dino_num_heads == 0
            _require(
                divisor,
                "dino_num_heads",
                self.dino_num_heads,
                f"a divisor of embed_dim {self.embed_dim}",
            )
        if self.patch_embedding == "conv":
            power = self.patch_size >= 4 and self.patch_size & (self.patch_size - 1) == 0
            _require(
                power,
                "patch_size",
                self.patch_size,
                "a power of two, 4 or more, with patch_embedding conv",
            )

    def _check_global_attention(self) -> None:
        kinds = self.global_attention
        if kinds is not None:
            kinds = tuple(kinds)
            object.__setattr__(self, "global_attention", kinds)
            known = get_args(GlobalAttention)
            valid = len(kinds) == self.depth and all(kind in known for kind in kinds)
            expected = f"{self.depth} of {', '.join(known)}, one for each layer"
            _require(valid, "global_attention", kinds, expected)
            _require(
                self.attn is None, "attn", self.attn, "left out where global_attention is given"
            )
            if set(kinds) in ({"ttt"}, {"softmax"}):
                object.__setattr__(self, "attn", kinds[0])
                object.__setattr__(self, "global_attention", None)
        else:
            expected = "'ttt' or 'softmax', or else global_attention"
            _require(self.attn in ("ttt", "softmax"), "attn", self.attn, expected)
        expected = "given exactly where attn or global_attention has 'ttt'"
        _require((self.ttt is not None) == self.has_fast_weights, "ttt", self.ttt, expected)
        strides = self.anchors.patch_stride
        valid = not isinstance(strides, tuple) or len(strides) == self.depth
        _require(valid, "anchors.patch_stride", strides, f"one number, or {self.depth}")

    @property
    def global_kinds(self) -> tuple[GlobalAttention, ...]:
        """What each global layer attends to."""
        if self.global_attention is not None:
            return self.global_attention
        assert self.attn is not None
        return (self.attn,) * self.depth

    @property
    def has_fast_weights(self) -> bool:
        """Whether some layer is fitted to the scene."""
        return any("ttt" in kind for kind in self.global_kinds)

    @property
    def has_anchors(self) -> bool:
        """Whether some layer attends to keys of the scene's anchors when it is queried."""
        return any(kind not in ("ttt", "frame") for kind in self.global_kinds)

    @property
    def attends_to_anchors(self) -> bool:
        """Whether some layer attends to keys of anchors when a map is made, too, so that their
        number changes it.
        """
        return any("anchored" in kind for kind in self.global_kinds)

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Long sides in pixels of the images that it takes, the one it was trained at first: where
        patches have their positions by interpolation (dinov2), about three quarters and half of
        it, too.
        """
        if self.patch_embedding != "dinov2":
            return (self.image_size,)
        patches = self.image_size // self.patch_size
        sides = {self.patch_size * max(1, round(share * patches)) for share in (1.0, 0.75, 0.5)}
        return tuple(sorted(sides, reverse=True))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ModelConfig:
        """Build from plain data as in a checkpoint's JSON; unknown names are refused."""
        known = {field.name for field in fields(ModelConfig)}
        check_known(data, known, "model config", "entries")
        try:
            ttt = TttConfig(**data["ttt"]) if data.get("ttt") is not None else None
            anchors = AnchorConfig(**data.get("anchors", {}))
            return ModelConfig(**{**data, "ttt": ttt, "anchors": anchors})
        except TypeError as error:
            raise InputError(f"model config is incomplete or misspelt: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; entries that only our own small models use appear when they differ
        from the default.
        """
        data = asdict(self)
        data["intermediate_layers"] = list(self.intermediate_layers)
        data["dpt_out_channels"] = list(self.dpt_out_channels)
        if self.ttt is None:
            del data["ttt"]
        else:
            data["ttt"] = self.ttt.to_dict()
        if self.global_attention is None:
            del data["global_attention"]
        else:
            data["global_attention"] = list(self.global_attention)
            del data["attn"]
        data["anchors"] = self.anchors.to_dict()
        if self.anchors == AnchorConfig():
            del data["anchors"]
        for entry in fields(self):
            if (
                entry.name in ("patch_embedding", "point_head", "image_size")
                and data[entry.name] == entry.default
            ):
                del data[entry.name]
        return data

    @staticmethod
    def full(attn: Literal["ttt", "softmax"]) -> ModelConfig:
        """The published sizes: `nvidia/vgg-ttt` for 'ttt', `facebook/VGGT-1B` for 'softmax'."""
        return ModelConfig(
            patch_size=14,
            embed_dim=1024,
            num_heads=16,
            depth=24,
            intermediate_layers=(4, 11, 17, 23),
            camera_num_heads=16,
            camera_trunk_depth=4,
            dpt_features=256,
            dpt_out_channels=(256, 512, 1024, 1024),
            attn=attn,
            ttt=TttConfig() if attn == "ttt" else None,
        )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InputError(f"model config: {name} is {value!r}, expected {expected}")
