from __future__ import annotations

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.device import usable_device


@pytest.mark.parametrize("there, expected", [(True, "cuda"), (False, "cpu")])
def test_without_a_name_it_is_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert usable_device(None) == expected


def test_a_device_that_works_is_taken_by_its_name() -> None:
    assert usable_device("cpu") == "cpu"
    if torch.cuda.is_available():
        assert usable_device("cuda:0") == "cuda:0"


@pytest.mark.parametrize("name", ["tpu", "", "cuda:99", "cpu:x", "meta", "xla"])
def test_a_device_that_cannot_be_used_is_named_with_a_remedy(name: str) -> None:
    with pytest.raises(InputError, match=f"device {name} .*(try|give) cpu"):
        usable_device(name)
