"""The pretended device refuses what a GPU refuses, and notes every event at which one would make
the host wait.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt3_ros.geometry.se3 import check_pose, se3_inverse

from .host_waits import Wait
from .pretended_device import CPU, DEVICE, PretendedDevice, PretendedGenerator

MIXED = {
    "sum": lambda there, here: there + here,
    "sum the other way round": lambda there, here: here + there,
    "in place on the CPU": lambda there, here: here.add_(there),
    "in place on a number of the CPU": lambda there, here: here[0, 0].clone().add_(there[0, 0]),
    "product": lambda there, here: there @ here,
    "cat": lambda there, here: torch.cat([there, here]),
    "stack": lambda there, here: torch.stack([there, here]),
    "stack of numbers": lambda there, here: torch.stack([there[0, 0], here[0, 0]]),
    "where": lambda there, here: torch.where(there > 0, there, here),
    "mask": lambda there, here: there.masked_fill(here > 0, 0.0),
    "result": lambda there, here: torch.add(there, there, out=here),
    "data without a device": lambda there, here: there * torch.tensor([1.0, 2.0, 3.0]),
    "range without a device": lambda there, here: there + torch.arange(3),
    "indices of a gather": lambda there, here: there.gather(0, here.long()),
    "indices of a selection": lambda there, here: there.index_select(0, torch.tensor([0])),
    "indices that are there": lambda there, here: here[(there > 0).long()[0]],
    "values put in": lambda there, here: there.index_put_(
        (torch.tensor([0], device=DEVICE),), here[0]
    ),
    "convolution": lambda there, here: torch.conv2d(there[None, None], here[None, None]),
    "comparison": lambda there, here: torch.equal(there, here),
    "generator of the CPU": lambda there, here: torch.rand(
        2, generator=torch.Generator(), device=DEVICE
    ),
    "generator of the CPU in place": lambda there, here: there.normal_(generator=torch.Generator()),
    "generator that is there": lambda there, here: torch.rand(2, generator=PretendedGenerator()),
}

WAITING = {
    "to device": [
        lambda there, here: here.to(DEVICE),
        lambda there, here: here.to(DEVICE, non_blocking=True),  # pageable memory
        lambda there, here: here.pin_memory().to(DEVICE),
        lambda there, here: there.copy_(here),
        lambda there, here: torch.tensor([1.0, 2.0], device=DEVICE),
        lambda there, here: there.new_tensor(0.5),
        lambda there, here: torch.as_tensor(2.0, device=DEVICE),
    ],
    "to host": [
        lambda there, here: there.cpu(),
        lambda there, here: there.double().to("cpu"),
        lambda there, here: here.copy_(there),
        lambda there, here: there.tolist(),
    ],
    "value": [
        lambda there, here: float(there[0, 0]),
        lambda there, here: int(there[0, 0]),
        lambda there, here: bool((there > 0).all()),
        lambda there, here: there.sum().item(),
        lambda there, here: here[there[0, 0].long()],
        lambda there, here: torch.equal(there, there),
        lambda there, here: torch.linalg.inv(there),
    ],
    "size": [
        lambda there, here: there.nonzero(),
        lambda there, here: there[there > 0],
        lambda there, here: torch.masked_select(there, there > 0),
        lambda there, here: there.index_put_((there > 0,), there.flatten() + 1),
        lambda there, here: there.unique(),
        lambda there, here: there.long().flatten().bincount(),
        lambda there, here: there.repeat_interleave(
            torch.ones(3, dtype=torch.long, device=DEVICE), 0
        ),
    ],
    "indices": [lambda there, here: there[torch.tensor([0, 2])], lambda there, here: there[[0, 2]]],
    "none": [
        lambda there, here: 2 * there + torch.tensor(1.0),
        lambda there, here: torch.where(there > 0, 1.0, there),
        lambda there, here: there[0, 1:],
        lambda there, here: there[torch.arange(2, device=DEVICE)],
        lambda there, here: there[1].fill_(3.0),
        lambda there, here: there.__setitem__((0, 1), 3.0),
        lambda there, here: there.masked_fill_(there > 1, 0.0),
        lambda there, here: there.__setitem__(there > 1, 0.0),
        lambda there, here: there.new_full((), 0.3) + torch.eye(3, device=DEVICE),
        lambda there, here: torch.zeros_like(there, device=CPU) + here,
        lambda there, here: torch.rand(2, generator=PretendedGenerator(), device=DEVICE),
        lambda there, here: here.pin_memory().to(DEVICE, non_blocking=True) + there,
        lambda there, here: there.sort().values.cumsum(0).median(),
        lambda there, here: here.nonzero(),
        lambda there, here: torch.tensor([1.0]).item(),
    ],
}


def pair() -> tuple[Tensor, Tensor]:
    """The same matrix on the device and on the CPU."""
    here = torch.arange(1.0, 10.0).view(3, 3) + torch.eye(3)
    return torch.empty(3, 3, device=DEVICE).copy_(here), here


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_a_mix_of_devices_is_refused(mix) -> None:
    with PretendedDevice():
        there, here = pair()
        with pytest.raises(
            RuntimeError, match=r"same device.*meta and cpu|device type for generator"
        ):
            mix(there, here)


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, i) for kind, calls in WAITING.items() for i in range(len(calls))]
)
def test_waits_for_the_device_are_noted(kind, number) -> None:
    with PretendedDevice() as device:
        there, here = pair()
        with device.noting() as waits:
            WAITING[kind][number](there, here)
    assert [wait.kind for wait in waits] == ([] if kind == "none" else [kind])


def test_a_wait_names_the_innermost_place_in_the_package() -> None:
    with PretendedDevice() as device:
        pose = torch.eye(4, device=DEVICE)
        with (
            device.noting() as waits,
            pytest.raises(RuntimeError, match=r"same device.*geometry/se3\.py:\d+ in check"),
        ):
            check_pose(pose, "pose")  # which is for poses on the CPU
    assert Wait("value", "geometry/se3.py", "check_pose", waits[0].line) == waits[0]
    assert waits[0].place == "geometry/se3.py:check_pose"


def test_values_and_gradients_are_those_of_the_cpu() -> None:
    def gradients(device: torch.device) -> list[Tensor]:
        weight = (torch.arange(16.0).view(4, 4) / 16).to(device).requires_grad_(True)
        layer = torch.nn.LayerNorm(4).to(device)
        pose = torch.eye(4, device=device) + 0.1 * layer(weight @ weight)
        pose[0, 3:] *= 2  # in place on a view
        loss = se3_inverse(pose[None])[0].square().sum() + pose.detach().sum()
        loss.backward()
        assert (
            weight.grad is not None
            and weight.grad.device == device
            and layer.weight.grad is not None
        )
        return [loss.detach().cpu(), weight.grad.cpu(), layer.weight.grad.cpu()]

    with PretendedDevice():
        there = gradients(DEVICE)
    for a, b in zip(gradients(CPU), there, strict=True):
        assert type(b) is Tensor and torch.equal(a, b)


def test_a_generator_there_draws_what_one_on_the_cpu_draws() -> None:
    with PretendedDevice():
        there = torch.randn(4, generator=PretendedGenerator().manual_seed(7), device=DEVICE).cpu()
    assert torch.equal(there, torch.randn(4, generator=torch.Generator().manual_seed(7)))
