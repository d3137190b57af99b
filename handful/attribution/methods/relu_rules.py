"""Guided backprop and deconvolution: the gradient with another rule at every ReLU."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from handful.attribution.context import AttributionContext
from handful.attribution.methods.gradient import input_gradient
from handful.attribution.registry import register
from handful.attribution.state import refuse_without_modules
from handful.errors import UserError


class _PositiveBackward(torch.autograd.Function):
    """Forward: the given output. Backward to the input: the positive part of the gradient, wherever the input was."""

    @staticmethod
    def forward(_ctx: Any, _inputs: Tensor, output: Tensor) -> Tensor:
        return output.clone()

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].clamp(min=0), None


class _ReluCalls(TorchFunctionMode):
    """Counts ReLUs, also those that end at six, whether of a module or a function call."""

    _RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu6)
    _HARDTANH = (functional.hardtanh, functional.hardtanh_)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        lowest = (kwargs or {}).get("min_val", args[1] if len(args) > 1 else -1.0)
        self.count += func in self._RELUS or (func in self._HARDTANH and lowest == 0)  # nn.ReLU6 is a hardtanh
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _relu_rule(model: nn.Module, method: str, keep_gate: bool) -> Iterator[None]:
    """Within, every `nn.ReLU` or `nn.ReLU6` passes back max(R, 0); with `keep_gate` only where its input went through.

    Raises:
        UserError: no such module ran within, or some ReLUs are function calls, which cannot be hooked.
    """
    refuse_without_modules(model, method)
    runs = 0
    calls = _ReluCalls()
    inputs: dict[nn.Module, Tensor] = {}
    handles = []

    def before(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inputs[module] = args[0]
        return (args[0].clone(), *args[1:])  # an in-place ReLU shall not gate what is remembered

    def after(module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal runs
        runs += 1
        if keep_gate:
            if output.requires_grad:
                output.register_hook(lambda grad: None if grad is None else grad.clamp(min=0))
            return None
        return _PositiveBackward.apply(inputs.pop(module), output.detach())

    try:
        for module in model.modules():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                if not keep_gate:
                    handles.append(module.register_forward_pre_hook(before))
                handles.append(module.register_forward_hook(after))
        with calls:
            yield
    finally:
        for handle in handles:
            handle.remove()
    if runs == 0:
        raise UserError(
            f"{method} changes the backward rule of nn.ReLU and nn.ReLU6 modules, and {type(model).__name__} runs "
            "none: it would silently be the plain gradient"
        )
    if calls.count > runs:
        raise UserError(
            f"{method} changes the backward rule of nn.ReLU and nn.ReLU6 modules, and {calls.count - runs} of the "
            f"{calls.count} ReLUs of {type(model).__name__} are function calls: it would silently be the plain "
            "gradient in part"
        )


@register("guided_backprop", title="guided backprop", reduction="max_abs")
def guided_backprop(context: AttributionContext) -> Tensor:
    """R ← 1[z > 0] max(R, 0) at every ReLU, 1[0 < z < 6] at a ReLU6 (Springenberg et al. 2015, arXiv 1412.6806).

    It sharpens edges and hardly depends on the class or on the upper layers' weights (Adebayo et al. 2018,
    arXiv 1810.03292): read it as a picture of what the first layers see.
    """
    with _relu_rule(context.model, "guided_backprop", keep_gate=True):
        return input_gradient(context)


@register("deconvolution", reduction="max_abs")
def deconvolution(context: AttributionContext) -> Tensor:
    """R ← max(R, 0) at every ReLU, whatever its input was (Zeiler & Fergus 2014, arXiv 1311.2901)."""
    with _relu_rule(context.model, "deconvolution", keep_gate=False):
        return input_gradient(context)
