"""Look into a model and leave no trace: modes, flags, random state and wrappers."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The plain module inside `DistributedDataParallel`, `DataParallel` or `torch.compile` wrappers."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def model_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter, float32 for a model without one."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate `model` with gradients to its inputs, in any surrounding mode, and put everything back.

    Inside: evaluation mode, no gradients to parameters, gradients enabled even under `torch.inference_mode`,
    autocast off, compiled parts run eagerly (hooks inside compiled code do not fire). Afterwards, also after an
    exception: every module's own `training` flag, every parameter's `requires_grad` and the random state of the
    CPU and of the model's devices are what they were.
    """
    training = [(module, module.training) for module in model.modules()]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    devices = {parameter.device for parameter, _ in required if parameter.device.type == "cuda"}
    random_state = torch.get_rng_state()
    cuda_state = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", *(device.type for device in devices)}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if any(_is_compiled(module) for module, _ in training):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module, _ in training:
                module.training = False
            for parameter, _ in required:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, flag in training:
                module.training = flag
            for parameter, flag in required:
                parameter.requires_grad_(flag)
            torch.set_rng_state(random_state)
            for device, state in cuda_state:
                torch.cuda.set_rng_state(state, device)


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def run_in_chunks(total: int, chunk: int, work: Callable[[int, int], None]) -> int:
    """Call `work(start, stop)` over `range(total)` in pieces of `chunk`, halved whenever memory runs out.

    Args:
        total: number of work items.
        chunk: items a call to begin with, at least 1.
        work: keeps its results only when it succeeds, so that a piece can be repeated.

    Returns:
        The chunk size in use at the end.

    Raises:
        torch.OutOfMemoryError: not even one item fits.
    """
    start = 0
    while start < total:
        stop = min(total, start + chunk)
        full = False
        try:
            work(start, stop)
        except torch.OutOfMemoryError:
            if stop - start == 1:
                raise
            full = True  # leave the handler first: the exception keeps the failed piece's tensors alive
        if full:
            chunk = (stop - start) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start = stop
    return chunk
