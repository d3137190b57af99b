"""Modules built as a file describes them, no larger than what the file holds, and filled with its tensors."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from handful.errors import UserError
from handful.networks.head import Head

M = TypeVar("M", bound=nn.Module)

#: Bytes that a module may hold while it is built, beyond four times those of the file's tensors.
_MORE = 2**26

#: Functions that make tensors of a given size.
_MAKING = {
    torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones, torch.rand, torch.randn, torch.zeros,
}  # fmt: skip

#: What constructors raise of arguments that make no sense.
_OF_ARGUMENTS = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError, MemoryError,
)  # fmt: skip


def restored(build: Callable[[], M], state: Any) -> M:
    """Build a module and fill it.

    Args:
        build: gives the module, as a file that anybody may have written describes it.
        state: the tensors that the file holds, by their names in the module.

    Raises:
        UserError: they are no tensors by name, the module would be larger than they are, it cannot be built, or they
            do not fit it.

    Example:
        >>> restored(lambda: nn.Linear(2, 1), {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})(torch.ones(2))
        tensor([2.], grad_fn=<ViewBackward0>)
        >>> restored(lambda: nn.Linear(10**6, 10**5), {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        Traceback (most recent call last):
        handful.errors.UserError: describes a network that is larger than the tensors of the file
    """
    held = _checked(state)
    try:
        with _Bounded(4 * _bytes(held) + _MORE):
            module = build()
    except UserError:
        raise
    except _OF_ARGUMENTS as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise UserError(f"describes a network that cannot be built ({why})") from error
    try:
        module.load_state_dict(held)
    except RuntimeError as error:
        first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
        raise UserError(f"its weights do not fit the network it names ({first})") from error
    for part in module.modules():
        if isinstance(part, Head):
            part.check()
    return module


def _checked(state: Any) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UserError("holds no tensors by name")
    for name, value in state.items():
        usual = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not usual or value.is_complex() or value.is_quantized:
            raise UserError(f"{name} is no tensor of real numbers")
    return dict(state)


def _bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes in memory; a number that stands for many counts once."""
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    return sum(storages.values())


class _Bounded(TorchFunctionMode):
    """Refuses to make tensors of more bytes altogether, before their memory is taken."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _MAKING:
            shape = func(*args, **{**kwargs, "device": "meta"})  # takes no memory and no random number
            self._left -= shape.numel() * shape.element_size()
            if self._left < 0:
                raise UserError("describes a network that is larger than the tensors of the file")
        return func(*args, **kwargs)
