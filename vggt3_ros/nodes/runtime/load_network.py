"""The network of a node: whether it can be had, and on which device."""

from __future__ import annotations

import gc

import torch

from vggt3_ros.model.checkpoint import load_network, require_checkpoint
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.network import Vggt3
from vggt3_ros.nodes.runtime.network_parameters import NetworkParameters
from vggt3_ros.pipeline.device import usable_device


def check_network(settings: NetworkParameters) -> None:
    """Raise InputError or CheckpointError when device or weights cannot be had, or the execution
    not on the device; loads nothing.
    """
    require_checkpoint(settings.model)
    Execution.parse(settings.execution, torch.device(_device(settings)))


def network_of(settings: NetworkParameters) -> Vggt3:
    """The network on its device. Raises InputError and CheckpointError."""
    return load_network(settings.model, _device(settings), settings.precision, settings.execution)


def free_unused_memory() -> None:
    """Return the memory of networks that nobody uses any more, to the GPU's other users too."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _device(settings: NetworkParameters) -> str:
    return usable_device(None if settings.device == "auto" else settings.device)
