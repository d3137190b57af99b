"""A pretended accelerator: tensors that hold CPU memory, say that they lie elsewhere and refuse what CUDA refuses.

Where there is no GPU, it finds tensors of two devices that meet, `.numpy()` without `.cpu()` and random generators of
the wrong device, with real numbers, gradients and control flow. It is slow and knows nothing of kernels.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"

_aten = torch.ops.aten

#: Operations whose arguments may lie on two devices, as they may with CUDA: copies, and indices on the CPU.
_MAY_MIX = {
    _aten.copy_, _aten._to_copy, _aten.index, _aten.index_put_, _aten.index_put, _aten._index_put_impl_,
    _aten.lift_fresh, _aten.set_, _aten._unsafe_index,
}  # fmt: skip

#: Operations that take no number on the CPU beside tensors of the device.
_NO_NUMBERS = {
    _aten.cat, _aten.stack, _aten.gather, _aten.scatter, _aten.scatter_, _aten.index_select, _aten.mm, _aten.addmm,
    _aten.scatter_add, _aten.scatter_add_, _aten.index_add_, _aten.searchsorted,
}  # fmt: skip


#: Operations whose indices must lie where the tensor lies, or on the CPU.
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}


class _Elsewhere(torch.Tensor):
    """A tensor on the pretended device; `held` is the CPU tensor that it really is."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "_Elsewhere":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=f"{NAME}:0",
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"{NAME}({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = _Elsewhere(self.held.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        else:
            copied.requires_grad_(self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().clone().__reduce_ex__(protocol)  # files are read on the CPU


class _Mode(TorchDispatchMode):
    """Sees the tensors that are made on the pretended device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@functools.cache
def _traits(func: Any) -> tuple[bool, bool, bool]:
    """Of an operation: whether its arguments may lie on two devices, take numbers of the CPU, and share memory."""
    packet = func.overloadpacket
    return (
        packet in _MAY_MIX,
        packet not in _NO_NUMBERS,
        any(returned.alias_info is not None for returned in func._schema.returns),
    )


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    ours: list[_Elsewhere] = []
    others: list[torch.Tensor] = []

    def held(value: Any) -> Any:
        if isinstance(value, _Elsewhere):
            ours.append(value)
            return value.held
        if isinstance(value, torch.Tensor):
            others.append(value)
        elif isinstance(value, list | tuple):
            return [held(one) for one in value]
        return value

    plain_args = [held(value) for value in args]
    plain_kwargs = {name: held(value) for name, value in kwargs.items()}
    device = kwargs.get("device")
    target = bool(ours) if device is None else torch.device(device).type == NAME
    if not ours and not target:
        return func(*args, **kwargs)
    may_mix, numbers, shares = _traits(func)
    if ours and others:
        _refuse_mixed(func, args[0], others, may_mix, numbers)
    if device is not None:
        plain_kwargs["device"] = "cpu"
    found = func(*plain_args, **plain_kwargs)
    if func.overloadpacket is _aten.copy_ and not isinstance(args[0], _Elsewhere):
        return args[0]
    if not target:
        return found.clone() if func.overloadpacket is _aten._to_copy and found is plain_args[0] else found
    if shares and found is plain_args[0] and torch.Tag.inplace_view not in func.tags:
        return args[0]  # changed in place: what the lines below give, at a third of their cost
    found = _Elsewhere(found) if type(found) is torch.Tensor else pytree.tree_map_only(torch.Tensor, _Elsewhere, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if shares else found


def _refuse_mixed(func: Any, first: Any, others: list[torch.Tensor], may_mix: bool, numbers: bool) -> None:
    if may_mix:
        if func.overloadpacket in _INDEXED and not isinstance(first, _Elsewhere):
            raise RuntimeError(f"{func}: indices on {NAME} for a tensor on the CPU")
    elif not numbers or any(one.ndim for one in others):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {NAME}:0 and cpu")


class _Generator(torch.Generator):
    """A generator that says where its numbers are wanted."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        made = super().__new__(cls, "cpu")
        made.elsewhere = torch.device(device).type == NAME
        return made


def _with_checked_generator(function: Any) -> Any:
    """A function that draws numbers, refusing a generator of another device."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        elsewhere = getattr(kwargs.get("generator"), "elsewhere", None)
        if elsewhere is not None and elsewhere != (torch.device(kwargs.get("device") or "cpu").type == NAME):
            raise RuntimeError(f"{function.__name__}: expected a generator of {kwargs.get('device') or 'cpu'}")
        return function(*args, **kwargs)

    return checked


_DRAWING = ("rand", "randn", "randint", "randperm")

_ready = False


@contextlib.contextmanager
def pretended() -> Iterator[torch.device]:
    """Give the pretended device; within, tensors can be made on it."""
    global _ready
    if not _ready:
        _setup_privateuseone_for_python_backend(NAME)
        _ready = True
    generator, torch.Generator = torch.Generator, _Generator  # type: ignore[misc]
    drawing = {name: getattr(torch, name) for name in _DRAWING}
    for name, function in drawing.items():
        setattr(torch, name, _with_checked_generator(function))
    numpy = torch.Tensor.numpy

    def to_array(self: torch.Tensor, *, force: bool = False) -> Any:
        if not isinstance(self, _Elsewhere):
            return numpy(self, force=force)
        if not force:
            raise TypeError(f"can't convert {NAME}:0 tensor to numpy; use Tensor.cpu() first")
        return numpy(self.held, force=True)

    tolist = torch.Tensor.tolist
    torch.Tensor.numpy = to_array  # type: ignore[method-assign]
    torch.Tensor.tolist = lambda self: tolist(self.held if isinstance(self, _Elsewhere) else self)  # type: ignore
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Mode():
            yield torch.device(NAME, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
        for name, function in drawing.items():
            setattr(torch, name, function)
        torch.Generator = generator  # type: ignore[misc]
        torch.Tensor.numpy = numpy  # type: ignore[method-assign]
        torch.Tensor.tolist = tolist  # type: ignore[method-assign]
