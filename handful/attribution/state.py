"""Evaluate a model and leave no trace: modes, flags, random state and wrappers."""

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from handful.errors import UserError


class FunctionModel(nn.Module):
    """A function from images to scores, as a module.

    Args:
        function: called with images `(B, C, H, W)`.
    """

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> object:
        """What the function gives."""
        return self.function(images)


def unwrap(model: object) -> nn.Module:
    """Return the plain module that can be explained.

    Takes it out of `DistributedDataParallel`, `DataParallel`, `AveragedModel`, `torch.compile` and `torch.export`;
    makes a module of a function; copies a module whose parameters were made under `torch.inference_mode`, which no
    gradient can pass.

    Raises:
        UserError: neither a module nor a function; weights on the meta device, or of lazy layers that have not run.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 2)
        >>> unwrap(torch.nn.DataParallel(model)) is model
        True
    """
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel | AveragedModel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, torch.export.ExportedProgram):
            model = model.module()
        elif isinstance(model, nn.Module):
            _refuse_without_weights(model)
            if any(part.is_inference() for part in (*model.parameters(), *model.buffers())):
                with torch.inference_mode(False):
                    return copy.deepcopy(model)
            return model
        elif callable(model) and not isinstance(model, type):
            return FunctionModel(model)
        else:
            raise UserError(f"the model must be a torch module, not {_description(model)}")


def _refuse_without_weights(model: nn.Module) -> None:
    for name, part in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(part):
            raise UserError(f"{name} has no size yet, as in lazy layers that have not run: run the model once")
        if part.is_meta:
            raise UserError(f"{name} lies on the meta device, which holds no numbers: load the model's weights first")


def _description(model: object) -> str:
    return f"the class {model.__name__} itself" if isinstance(model, type) else type(model).__name__


def _runs_module(node: torch.fx.Node) -> bool:
    """Whether a node of a graph runs a layer; an exported graph only runs the check of its inputs."""
    return node.op == "call_module" and node.target != "_guards_fn"


def refuse_without_modules(model: nn.Module, method: str) -> None:
    """Refuse a model whose layers do not run as modules, so that no method can look into them.

    Raises:
        UserError: the model is scripted, traced, exported or a function.
    """
    form = None
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        form = "scripted or traced"
    elif isinstance(model, torch.fx.GraphModule) and not any(_runs_module(node) for node in model.graph.nodes):
        form = "exported"
    elif isinstance(model, FunctionModel):
        form = "given as a function"
    if form is not None:
        raise UserError(
            f"{method} looks into the layers of a model, and those of a model that is {form} cannot be reached: give "
            "the module it was made from, or use gradient, integrated_gradients or occlusion"
        )


def model_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter, float32 for a model without one."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


def model_device(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer, the CPU for a model without any."""
    for part in (*model.parameters(), *model.buffers()):
        return part.device
    return torch.device("cpu")


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate `model` with gradients to its inputs, in any surrounding mode, and put everything back.

    Inside: evaluation mode, no gradients to parameters, gradients enabled even under `torch.inference_mode`,
    autocast off, compiled parts run eagerly (hooks inside compiled code do not fire). Afterwards, also after an
    exception: every module's own `training` flag, every parameter's `requires_grad` and the random state of the
    CPU and of the model's devices are what they were.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout()).train()
        >>> with torch.no_grad(), undisturbed(model):
        ...     model.training, torch.is_grad_enabled(), model[0].weight.requires_grad
        (False, True, False)
        >>> model.training, model[0].weight.requires_grad
        (True, True)
    """
    # a frozen script has no flag
    training = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
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
