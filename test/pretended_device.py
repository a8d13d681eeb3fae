"""A device that computes on the CPU but says it is `meta`: mix-ups of devices and waits for a GPU,
found without one.

Within `PretendedDevice()` tensors on `meta` are wrappers around tensors of the CPU. As with a GPU,
an operator that mixes devices is refused, and what makes the host wait until the device is done is
noted, with its place in the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .host_waits import INDEXING, Wait, here, kind_of_wait

CPU, DEVICE = torch.device("cpu"), torch.device("meta")
_TAKING_NUMBERS = {"fill", "fill_", "masked_fill", "masked_fill_", *INDEXING}
"""Operators, beside torch's pointwise ones, that take a 0-dim tensor of the CPU with a GPU's."""


class PretendedTensor(torch.Tensor):
    """A tensor that says it is on DEVICE; its values are in `inner`, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls: type, inner: Tensor) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, [])

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"PretendedTensor({self.inner})"


class PretendedGenerator(torch.Generator):
    """A source of random numbers that says it is on DEVICE, and draws what one on the CPU draws."""

    _alive: WeakSet[torch.Generator] = WeakSet()

    def __init__(self) -> None:
        self._alive.add(self)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @classmethod
    def device_of(cls, generator: torch.Generator) -> torch.device:
        """What a generator says, also when torch has handed it on, which makes a plain one of
        it.
        """
        ours = any(generator._cdata == one._cdata for one in cls._alive)  # type: ignore[attr-defined]
        return DEVICE if ours else generator.device


class PretendedDevice(TorchDispatchMode):
    """Makes DEVICE usable while it is entered, and notes in `waits` what a GPU would make the host
    wait for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[Wait] = []
        self._functions = _Functions()

    def __enter__(self) -> PretendedDevice:
        self._functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.waits)

    @contextmanager
    def noting(self) -> Iterator[list[Wait]]:
        """The waits within this context alone, once it is left."""
        before, found = len(self.waits), list[Wait]()
        yield found
        found += self.waits[before:]


class _Functions(TorchFunctionMode):
    """What torch does otherwise with `meta` and with wrappers than with a GPU before it asks for an
    operator.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _MAKING:  # on `meta` they make no values
            given = dict(kwargs)
            target = given.pop("device", None) or (
                args[0].device if isinstance(args[0], Tensor) else CPU
            )
            if func is torch.Tensor.new_tensor:
                given.setdefault("dtype", args[0].dtype)
                args, func = args[1:], torch.tensor
            made = func(*args, **given)
            return made if made.device == torch.device(target) else made.to(target)
        if func in _INDEXED:  # lists in the index become tensors without values
            whole = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in whole)
            args = (args[0], index, *args[2:])
        if func is torch.Tensor.tolist:  # refused for wrappers
            args = (args[0].cpu(),)
        return func(*args, **kwargs)


_MAKING = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}
_INDEXED = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}


@dataclass(frozen=True)
class _Operator:
    """What an operator of torch is called and may do."""

    name: str
    takes_numbers: bool  # 0-dim tensors of the CPU beside a GPU's
    writes: tuple[tuple[int, str], ...]  # place and name of the arguments that it writes to
    returns_them: bool

    @staticmethod
    @cache
    def of(func: Any) -> _Operator:
        def is_written(part: Any) -> bool:
            return part.alias_info is not None and part.alias_info.is_write

        name, schema = func.overloadpacket.__name__, func._schema
        writes = tuple(
            (place, part.name) for place, part in enumerate(schema.arguments) if is_written(part)
        )
        returns_them = len(schema.returns) > 0 and is_written(schema.returns[0])
        return _Operator(
            name, name in _TAKING_NUMBERS or torch.Tag.pointwise in func.tags, writes, returns_them
        )


def _run(func: Any, args: Any, kwargs: dict[str, Any], waits: list[Wait]) -> Any:
    """Compute an operator on the CPU as if the pretended tensors among its arguments were on a
    GPU.
    """
    operator = _Operator.of(func)
    name = operator.name
    leaves = _leaves([*args, *kwargs.values()])
    ours = any(type(leaf) is PretendedTensor for leaf in leaves)
    target = (
        torch.device(kwargs["device"])
        if kwargs.get("device") is not None
        else DEVICE
        if ours
        else CPU
    )
    if name in ("is_pinned", "_pin_memory"):
        return _pinning(name, args[0])
    _check_generators(func, leaves, target)
    if not ours and target == CPU:
        return func(*args, **kwargs)
    written = _leaves(
        [args[at] if at < len(args) else kwargs.get(name) for at, name in operator.writes]
    )
    if ours and name not in ("_to_copy", "copy_"):
        _check_devices(func, operator, args, leaves, written)
    kind = kind_of_wait(name, args, kwargs)
    if kind is not None:
        waits.append(Wait(kind, *here()))
    plain = {key: _unwrapped(value) for key, value in kwargs.items()}
    if "device" in kwargs:
        plain["device"] = CPU
    out = func(*[_unwrapped(value) for value in args], **plain)
    if operator.returns_them:
        grown = [
            one for one in written if type(one) is PretendedTensor and one.shape != one.inner.shape
        ]
        assert not grown, (
            f"{func} changed the shape of a tensor in place, which PretendedTensor cannot follow"
        )
        return written[0] if len(written) == 1 else tuple(written)
    return out if target == CPU else _wrapped(out)


def _pinning(name: str, tensor: Tensor) -> Any:
    assert not isinstance(tensor, PretendedTensor), "only tensors of the CPU can be pinned"
    if name == "is_pinned":
        return getattr(tensor, "pretended_pinned", False)
    pinned = tensor.clone()
    pinned.pretended_pinned = True  # type: ignore[attr-defined]
    return pinned


def _check_devices(
    func: Any, operator: _Operator, args: Any, leaves: list[Any], written: list[Tensor]
) -> None:
    """Raise as CUDA does for operands on different devices, one of which is ours."""
    strangers = [
        leaf for leaf in leaves if isinstance(leaf, Tensor) and type(leaf) is not PretendedTensor
    ]
    assert not any(stranger.device == DEVICE for stranger in strangers), (
        f"{func} got a tensor without values"
    )
    if operator.name in INDEXING:  # indices are sent along
        indices = {id(index) for index in args[1]}
        strangers = [leaf for leaf in strangers if id(leaf) not in indices]
    if operator.takes_numbers:
        results = {id(one) for one in written}
        strangers = [leaf for leaf in strangers if leaf.dim() > 0 or id(leaf) in results]
    if strangers:
        _refuse(
            func,
            f"Expected all tensors to be on the same device, but found at least two, {DEVICE}"
            " and cpu",
        )


def _check_generators(func: Any, leaves: list[Any], target: torch.device) -> None:
    for leaf in leaves:
        if isinstance(leaf, torch.Generator) and PretendedGenerator.device_of(leaf) != target:
            found = PretendedGenerator.device_of(leaf)
            _refuse(func, f"Expected a '{target}' device type for generator but found '{found}'")


def _refuse(func: Any, reason: str) -> None:
    file, function, line = here()
    raise RuntimeError(f"{reason}! ({func}, {file}:{line} in {function})")


def _unwrapped(value: Any) -> Any:
    if type(value) is PretendedTensor:
        return value.inner
    return [_unwrapped(part) for part in value] if isinstance(value, (list, tuple)) else value


def _wrapped(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_wrapped(part) for part in value)
    return PretendedTensor(value) if isinstance(value, Tensor) else value


def _leaves(values: list[Any]) -> list[Any]:
    """What is in the lists among the values, and the others."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += _leaves([*value])
        elif value is not None:
            found.append(value)
    return found
