"""The kernels compile for a GPU, without one: for compute capability 9.0 and the published network
nothing is spilt to memory, no product waits for another, and the shared memory is that of a
consumer card.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

WIDTH = 64
HIDDEN = 256
LARGEST = 99 * 1024


@pytest.fixture
def assembled(monkeypatch, tmp_path) -> Callable[[str], str]:
    """What CUDA's assembler, which triton brings, says of a kernel."""
    triton = pytest.importorskip("triton")
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    assemblers = sorted(tools.glob("ptxas*"))  # of several versions of CUDA
    if not assemblers:
        pytest.skip("this triton has no assembler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))

    def assemble(text: str) -> str:
        (tmp_path / "kernel.ptx").write_text(text)
        for assembler in assemblers:
            run = subprocess.run(
                [assembler, "-v", "--gpu-name=sm_90a", "kernel.ptx", "-o", "kernel"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            if run.returncode == 0:
                return run.stderr
        raise AssertionError(run.stderr)

    return assemble


def compiled(kernel, kinds: dict[str, str], constants: dict[str, int], **options):
    """A kernel whose pointers have these types; strides are multiples of 16, as at published
    sizes.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    names = kernel.arg_names
    pointers = {name: "*" + kinds[name] for name in names if name in kinds}
    signature = dict.fromkeys(names, "i32") | dict.fromkeys(constants, "constexpr") | pointers
    aligned = [name for name in names if name in pointers or name.endswith("stride")]
    source = ASTSource(
        kernel,
        signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    return compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def assert_lean(kernel, said: str) -> None:
    assert kernel.metadata.shared <= LARGEST
    assert " 0 bytes spill stores, 0 bytes spill loads" in said
    assert "serialized" not in said


@pytest.mark.parametrize("name", ["gradient", "apply"])
def test_fast_weights(assembled, name) -> None:
    from vggt3_ros.model.kernels import triton_fast_weights, triton_operations

    tile = getattr(triton_operations, f"{name}_tile")(WIDTH, torch.bfloat16)
    kinds = dict.fromkeys(["k", "v", "q", "w0", "w1", "w2"], "bf16")
    kernel = compiled(
        getattr(triton_fast_weights, f"{name}_kernel"),
        {**kinds, "rates": "fp32", "out": "fp32" if name == "gradient" else "bf16"},
        {"WIDTH": WIDTH, "HIDDEN": HIDDEN, "TILE": tile.hidden, "TOKENS": tile.tokens},
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    assert "wgmma" in kernel.asm["ptx"]
    assert_lean(kernel, assembled(kernel.asm["ptx"]))


def test_newton_schulz(assembled) -> None:
    from vggt3_ros.model.kernels.triton_fast_weights import newton_schulz_kernel

    kernel = compiled(
        newton_schulz_kernel,
        {"matrices": "fp32", "out": "fp32"},
        {"ROWS": WIDTH, "COLUMNS": HIDDEN},
        num_warps=8,
    )
    assert "wgmma" in kernel.asm["ptx"]
    assert_lean(kernel, assembled(kernel.asm["ptx"]))


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("unit", {"HEADS": 4, "GROUPS": 1, "QUARTER": WIDTH // 4, "ROWS": 32}),
        ("norm_rope", {"HEADS": 4, "QUARTER": WIDTH // 4, "ROWS": 32}),
        ("convolve", {"COLUMNS": 8, "CHANNELS": 64}),
    ],
)
def test_tokens(assembled, name, constants) -> None:
    from vggt3_ros.model.kernels import triton_tokens

    kinds = dict.fromkeys(["x", "y", "out"], "bf16")
    kinds |= dict.fromkeys(["cos", "sin", "weight", "bias"], "fp32")
    kernel = compiled(getattr(triton_tokens, f"{name}_kernel"), kinds, constants, num_warps=4)
    assert ".v4." in kernel.asm["ptx"]  # several values are read at once
    assert_lean(kernel, assembled(kernel.asm["ptx"]))
