"""A network run twice: once recording layers, once more from a layer on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from handful.errors import UserError


@dataclass
class Recording:
    """What the first pass left behind.

    Attributes:
        output: the network's output.
        local: output of the split layer, ``(B, C, H, W)``.
        readouts: output of each layer asked for, by name.
    """

    output: Tensor
    local: Tensor
    readouts: dict[str, Tensor]
    earlier: list[tuple[nn.Module, Any]] = field(repr=False)


class TwoPass:
    """Runs a network while recording layers, then runs it again from the split layer with other features.

    The second pass repeats nothing that lies before the split: modules that had finished by then hand back what
    they returned in the first pass. It works on any module whose layers are called through `nn.Module.__call__`,
    without tracing it, and leaves no hook behind.

    Args:
        network: the network, not changed.
        split: name of the layer (of `named_modules`) whose output the second pass replaces.
        readouts: names of the layers to record.

    Raises:
        UserError: a name is not a layer of the network.
    """

    def __init__(self, network: nn.Module, split: str, readouts: Sequence[str]) -> None:
        modules = dict(network.named_modules())
        for name in (split, *readouts):
            if name not in modules or not name:
                raise UserError(f"no layer '{name}' in the network; it has, for instance, {_examples(network)}")
        self.network = network
        self.split = split
        self.readouts = tuple(readouts)
        self._split_module = modules[split]
        self._readout_modules = {name: modules[name] for name in readouts}
        # children of the split's ancestors that are not ancestors themselves: their outputs are all that the
        # code between them can see
        path = split.split(".")
        ancestors = [".".join(path[:depth]) for depth in range(len(path))]
        on_path = {modules[name] for name in [*ancestors, split]}
        self._neighbours = [child for name in ancestors for child in modules[name].children() if child not in on_path]

    def record(self, images: Tensor) -> Recording:
        """First pass. Images ``(B, 3, H, W)``.

        Raises:
            UserError: a layer is not called exactly once, or its output is not a map ``(B, C, H, W)``.
        """
        seen: dict[str, Tensor] = {}
        earlier: list[tuple[nn.Module, Any]] = []

        def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if name in seen:
                    raise UserError(f"layer '{name}' is called more than once in a pass; choose another layer")
                if not isinstance(output, Tensor) or output.dim() != 4:
                    raise UserError(f"layer '{name}' gives no spatial map (B, C, H, W); choose another layer")
                seen[name] = output.clone()  # a following layer may work in place

            return hook

        def keep_earlier(module: nn.Module, _inputs: Any, output: Any) -> None:
            if self.split not in seen:
                earlier.append((module, output.clone() if isinstance(output, Tensor) else output))

        names = {self.split: self._split_module, **self._readout_modules}
        handles = [module.register_forward_hook(keep(name)) for name, module in names.items()]
        handles += [module.register_forward_hook(keep_earlier) for module in self._neighbours]
        try:
            output = self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            if name not in seen:
                raise UserError(f"layer '{name}' is not called in a pass; choose another layer")
        return Recording(output, seen[self.split], {name: seen[name] for name in self.readouts}, earlier)

    def replay(self, recording: Recording, images: Tensor, local: Tensor) -> Tensor:
        """Second pass: the network's output where the split layer gives `local` instead.

        Args:
            recording: of the first pass over the same images.
            images: the images of the first pass (only their shape and device matter before the split).
            local: features ``(B, C, H, W)`` that replace `recording.local`.
        """
        # in the layout of the first pass: another one may round otherwise
        if recording.local.is_contiguous(memory_format=torch.channels_last):
            local = local.contiguous(memory_format=torch.channels_last)
        results: dict[nn.Module, deque[Any]] = {self._split_module: deque([local])}
        for module, output in recording.earlier:
            results.setdefault(module, deque()).append(output)
        with _stand_in(results):
            return cast(Tensor, self.network(images))


@contextmanager
def _stand_in(results: dict[nn.Module, deque[Any]]) -> Iterator[None]:
    """Let modules return stored results, call after call; once these are used up they compute again."""
    own: dict[nn.Module, Any] = {}

    def stored(module: nn.Module, queue: deque[Any]) -> Callable[..., Any]:
        compute = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not queue:
                return compute(*args, **kwargs)
            result = queue.popleft()
            # the next layer may work in place, and what is stored is needed again
            return result.clone() if isinstance(result, Tensor) else result

        return forward

    try:
        for module, queue in results.items():
            own[module] = module.__dict__.get("forward")
            module.__dict__["forward"] = stored(module, queue)
        yield
    finally:
        for module, forward in own.items():
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward


def layer_shapes(network: nn.Module, names: Sequence[str], image_size: int) -> tuple[dict[str, torch.Size], torch.Size]:
    """Shapes (without the batch) that layers and the output have for square images; the network is not changed.

    Raises:
        UserError: as `TwoPass`.
    """
    training = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            network.eval()
            recording = TwoPass(network, names[0], names).record(
                torch.zeros(1, 3, image_size, image_size, device=device)
            )
    finally:
        for module, mode in training.items():
            module.training = mode
    return {name: value.shape[1:] for name, value in recording.readouts.items()}, recording.output.shape[1:]


def _examples(network: nn.Module) -> str:
    names = [name for name, _ in network.named_modules() if name and name.count(".") <= 1]
    return ", ".join(f"'{name}'" for name in names[:12])
