"""Each part of the network alone, against the specification's module files."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vggt3_ros.geometry.camera import decode_camera, encode_camera, unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.model import fast_weights
from vggt3_ros.model.camera_head import CameraHead
from vggt3_ros.model.config import TttConfig
from vggt3_ros.model.dpt_head import DptHead
from vggt3_ros.model.rope import RopeTable, apply_rope, axis_angles, rope_table
from vggt3_ros.model.ttt_attention import ShortConv, TttAttention

from ..conftest import GOLDEN
from .test_golden import assert_close

DATA = load_file(GOLDEN / "dev_modules.safetensors")
GRID, IMAGES = (4, 5), 3


def load(module: nn.Module, prefix: str) -> nn.Module:
    """Give a module the state stored under a prefix."""
    state = {n.removeprefix(prefix): t for n, t in DATA.items() if n.startswith(prefix)}
    aliases = {n.replace(".conv.", ".conf."): t for n, t in state.items() if ".conv." in n}
    module.load_state_dict({**state, **aliases})
    return module.eval()


def ttt_layer() -> tuple[TttAttention, RopeTable, Tensor]:
    layer = load(TttAttention(48, 3, TttConfig()), "fwa.state.")
    return layer, rope_table(GRID, 5, 16, 100, "cpu"), DATA["fwa.in"].unflatten(1, (IMAGES, -1))


def test_rope_rotates_by_row_and_column() -> None:
    assert_close(
        "rope", apply_rope(DATA["rope.in"], rope_table(GRID, 5, 16, 100, "cpu")), DATA["rope.out"]
    )


@pytest.mark.parametrize(
    ("name", "bf16", "dtype"),
    [
        ("fp32", False, torch.float32),
        ("autocast_fp32_tokens", True, torch.float32),
        ("autocast_bf16_tokens", True, torch.bfloat16),
    ],
)
def test_rope_tables_round_as_the_weights_were_trained(
    name: str, bf16: bool, dtype: torch.dtype
) -> None:
    angles = axis_angles(38, 32, 100, bf16, "cpu")
    assert_close("cos", angles.cos().to(dtype).float(), DATA[f"rope_table.{name}.cos"].float())
    assert_close("sin", angles.sin().to(dtype).float(), DATA[f"rope_table.{name}.sin"].float())


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("shape", ["wide", "tall", "square"])
def test_newton_schulz(shape: str, steps: int) -> None:
    actual = fast_weights.newton_schulz(DATA[f"ns.{shape}.in"], steps)
    assert_close(shape, actual, DATA[f"ns.{shape}.out{steps}"])


def test_newton_schulz_with_negative_steps_changes_nothing() -> None:
    assert torch.equal(fast_weights.newton_schulz(DATA["ns.wide.in"], -1), DATA["ns.wide.in"])


def test_short_conv_leaves_special_tokens_alone() -> None:
    conv = ShortConv(48, 3)
    conv.conv.weight.data = DATA["shortconv.weight"]
    # (B, S, P, C)
    tokens = DATA["shortconv.in"].transpose(1, 2).flatten(2).unflatten(1, (IMAGES, -1))
    with torch.no_grad():
        actual = conv(tokens, GRID)
    assert_close(
        "shortconv",
        actual,
        DATA["shortconv.out"].transpose(1, 2).flatten(2).unflatten(1, (IMAGES, -1)),
    )


def test_ttt_layer_projects_queries_keys_values_and_rates() -> None:
    layer, rope, x = ttt_layer()
    with torch.no_grad():
        k, v, rates = layer.training_signals(x, rope, GRID)
        assert_close("q", layer.queries(x, rope, GRID).flatten(0, 1), DATA["fwa.q"])
    assert_close("k", k.flatten(0, 1), DATA["fwa.k"])
    assert_close("v", v.flatten(0, 1), DATA["fwa.v"])
    for group in range(3):
        assert_close(f"lr{group}", rates[group].flatten(0, 1), DATA[f"fwa.lr{group}"])


def test_gradients_match_and_add_up_over_tokens() -> None:
    layer, rope, x = ttt_layer()
    with torch.no_grad():
        k, v, rates = layer.training_signals(x, rope, GRID)
        whole = fast_weights.gradient(layer.initial, k, v, rates)
        halves = [
            fast_weights.gradient(
                layer.initial, k[..., part, :], v[..., part, :], rates[..., part, :]
            )
            for part in (slice(0, 30), slice(30, None))
        ]
    for name, gradient, summed in zip(
        ("w0", "w1", "w2"), whole, halves[0] + halves[1], strict=True
    ):
        assert_close(name, gradient.flatten(0, 1), DATA[f"fwa.grad1.{name}"])
        assert_close(name, summed.flatten(0, 1), DATA[f"fwa.grad1.{name}"])


@pytest.mark.parametrize("steps", [1, 2])
def test_ttt_layer_fits_and_retrieves(steps: int) -> None:
    layer, rope, x = ttt_layer()
    with torch.no_grad():
        weights = layer.fit(x, rope, GRID, steps)
        output = layer.retrieve(x, weights, rope, GRID)
    for name, weight in weights._asdict().items():
        assert_close(name, weight.flatten(0, 1), DATA[f"fwa.steps{steps}.final_{name}"])
    assert_close("out", output.flatten(1, 2), DATA[f"fwa.steps{steps}.out"])


def test_camera_head() -> None:
    head = load(CameraHead(48, 4, 2, 4), "camera.state.")
    with torch.no_grad():
        assert_close("iterations", head(DATA["camera.in"]), DATA["camera.out_iters"])


def test_camera_head_gives_the_same_for_wanted_frames_alone() -> None:
    head = load(CameraHead(48, 4, 2, 4), "camera.state.")
    with torch.no_grad():
        assert_close(
            "wanted", head(DATA["camera.in"], wanted=1), DATA["camera.out_iters"][-1:, :, -1:]
        )


@pytest.mark.parametrize("kind", ["depth", "point"])
def test_dpt_head(kind: str) -> None:
    head = DptHead(40, 14, 16, (12, 20, 24, 24), "depth" if kind == "depth" else "points")
    load(head, f"dpt_{kind}.state.")
    with torch.no_grad():
        values, confidence = head.decode(
            [head.project(DATA[f"dpt.in.{i}"][0, :, 5:], i, GRID) for i in range(4)]
        )
    expected = DATA[f"dpt_{kind}.pred"][0]
    assert_close("values", values, expected[..., 0] if kind == "depth" else expected)
    assert_close("confidence", confidence, DATA[f"dpt_{kind}.conf"][0])


def test_cameras_are_decoded_encoded_and_unprojected() -> None:
    encoding, extrinsic, intrinsic = (
        DATA[f"geom.{n}"][0] for n in ("pose_enc", "extrinsic", "intrinsic")
    )
    cam_from_world, intrinsics = decode_camera(encoding, (56, 70))
    assert_close("extrinsic", cam_from_world, extrinsic)
    assert_close("intrinsic", intrinsics, intrinsic)
    assert_close(
        "roundtrip",
        encode_camera(extrinsic, intrinsic, (56, 70)),
        DATA["geom.pose_enc_roundtrip"][0],
    )
    assert_close("inverse", se3_inverse(extrinsic), DATA["geom.pose_c2w"])
    cam_points = unproject(DATA["geom.depth"][..., 0], intrinsic)
    world = transform_points(se3_inverse(extrinsic), cam_points.flatten(1, 2)).view_as(cam_points)
    assert_close("points", world, DATA["geom.points"])
