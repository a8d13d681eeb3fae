"""What repeats is compiled once for all layers and phases, and computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from vggt3_ros.model.network import Vggt3
from vggt3_ros.training import trainer as trainer_module
from vggt3_ros.training.compiling import compile_regions
from vggt3_ros.training.initialise import convert, initialise
from vggt3_ros.training.trainer import Trainer

from .conftest import CPU, MINIATURE

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """What was compiled so far, by a compiler that leaves graphs as they are: the real one takes
    minutes on a CPU.
    """
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(
        trainer_module, "compile_regions", lambda network: compile_regions(network, backend)
    )
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


def test_all_layers_and_phases_share_what_was_compiled(tmp_path, graphs, monkeypatch) -> None:
    adopt = Trainer._adopt

    def adopt_and_compile(trainer: Trainer, *arguments: Any) -> None:
        adopt(trainer, *arguments)
        trainer_module.compile_regions(trainer.network)

    monkeypatch.setattr(Trainer, "_adopt", adopt_and_compile)
    counts: dict[str, int] = {}
    trainer = Trainer(replace(MINIATURE, validations=1), tmp_path, CPU, bf16=False)
    trainer.run(lambda report: counts.update({report.phase: len(graphs)}))
    # Frame blocks, the camera head's blocks, attention between frames, what follows it, the depth
    # head; then the attention that is fitted. The last phase has nothing that those before it had
    # not.
    assert MINIATURE.model.depth > 1 and counts == {"softmax": 5, "distil": 6, "ttt": 6}


@pytest.mark.parametrize("kind", ["softmax", "ttt"])
def test_a_compiled_network_gives_the_same_outputs_and_gradients(graphs, kind) -> None:
    torch.manual_seed(0)
    plain = Vggt3(MINIATURE.model)
    initialise(plain)
    plain = plain if kind == "softmax" else convert(plain, MINIATURE.converted_model)
    images = torch.rand(1, 3, 3, 48, 64)
    results = []
    for compiled in (False, True):
        if compiled:
            trainer_module.compile_regions(plain)
        plain.zero_grad()
        output = plain(images, 2, 2)
        (output.depth.mean() + output.pose_encodings.square().mean()).backward()
        gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        results.append(
            {"depth": output.depth.detach(), "poses": output.pose_encodings.detach(), **gradients}
        )
    assert graphs and results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, msg=name)
