"""A network for many passes: batch norms, fixed in evaluation, become part of the convolutions before them."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

#: The outputs of the two may differ by this much, relative to the largest; rounding stays far below.
_TOLERANCE = 1e-4


def folded(model: nn.Module, size: tuple[int, int, int]) -> nn.Module:
    """A copy that computes the same function without batch norms behind convolutions; the model where there are none.

    A batch norm is folded where its input is what a convolution has returned. The copy is used if its outputs for an
    image of random numbers, always the same, are those of the model; they are not where what a convolution returns is
    used elsewhere too.

    Args:
        model: in evaluation mode; images to numbers.
        size: `(C, H, W)` of its images.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> [type(layer).__name__ for layer in folded(model, (3, 8, 8))]
        ['Conv2d', 'Identity', 'ReLU']
    """
    norms = {name for name, module in model.named_modules() if _is_fixed_norm(module)}
    if not norms:
        return model
    images = torch.randn(1, *size, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()))
    with torch.no_grad():
        same = copy.deepcopy(model)
        pairs, expected = _pairs(same, images, norms)
        if not pairs:
            return model
        for name, (convolution, norm) in pairs.items():
            _fold(convolution, norm)
            parent, _, last = name.rpartition(".")
            setattr(same.get_submodule(parent), last, _rest(norm))
        found = same(images)
    close = (found - expected).abs().max() <= _TOLERANCE * expected.abs().max()
    return same if close else model


def _is_fixed_norm(module: nn.Module) -> bool:
    """A batch norm of torch, or of timm with an activation in it, that knows its statistics and runs no hooks."""
    return (
        (type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) or type(module).__name__ == "BatchNormAct2d")
        and isinstance(module.running_mean, Tensor)
        and _is_plain(module)
    )


def _is_plain(module: nn.Module) -> bool:
    """Whether its tensors are what its forward pass uses: no parametrization, no hooks."""
    return not (hasattr(module, "parametrizations") or module._forward_hooks or module._forward_pre_hooks)


def _pairs(model: nn.Module, images: Tensor, norms: set[str]) -> tuple[dict[str, tuple[nn.Conv2d, Any]], Tensor]:
    """Name of a batch norm → the convolution whose output it takes, and itself; and the model's output."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    runs: Counter[nn.Module] = Counter()
    found: dict[str, tuple[nn.Conv2d, Any]] = {}

    def after(module: nn.Conv2d, _: object, output: Tensor) -> None:
        runs[module] += 1
        outputs[id(output)] = (module, output, output._version)

    def before(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        runs[module] += 1
        convolution, output, version = outputs.get(id(inputs[0]), (None, None, 0))
        if convolution is not None and output is inputs[0] and output._version == version:
            found[name] = (convolution, module)

    hooks = []
    for name, module in model.named_modules():
        if name in norms:
            hooks.append(module.register_forward_pre_hook(lambda m, i, name=name: before(name, m, i)))
        elif isinstance(module, nn.Conv2d) and _is_plain(module):
            hooks.append(module.register_forward_hook(after))
    expected = model(images)
    for hook in hooks:
        hook.remove()
    taken = Counter(convolution for convolution, _ in found.values())
    return {name: (c, n) for name, (c, n) in found.items() if runs[c] == runs[n] == taken[c] == 1}, expected


def _fold(convolution: nn.Conv2d, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.weight = nn.Parameter(weight.detach(), requires_grad=False)
    convolution.bias = nn.Parameter(bias.detach(), requires_grad=False)


def _rest(norm: Any) -> nn.Module:
    """What a batch norm does beside normalising."""
    return nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()
