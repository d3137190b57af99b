"""Layer-wise relevance propagation through zennit, an optional extra."""

import copy
import operator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from handful.attribution.context import AttributionContext
from handful.attribution.methods.class_maps import class_weights
from handful.attribution.registry import register
from handful.attribution.state import refuse_without_modules
from handful.errors import UserError
from handful.networks.classifier import Classifier

RULES = ("epsilon", "gamma", "zplus")

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
#: What relevance passes through unchanged or by the gradient alone.
_KNOWN_FUNCTIONS = {functional.relu, torch.relu, functional.pad, operator.getitem, torch.flatten, functional.max_pool2d}
_KNOWN_METHODS = {"flatten", "relu"}
_KNOWN_MODULES = (
    nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout,
    nn.Dropout2d, nn.Flatten,
)  # fmt: skip


@register("lrp", title="LRP", reduction="sum", signed=True)
def lrp(context: AttributionContext, rule: str = "zplus", epsilon: float = 1e-6, gamma: float = 0.25) -> Tensor:
    """Relevance of each input value, `(N, T, C, H, W)`; it starts as the score and is handed down layer by layer.

    Works on a copy whose batch norms are merged into their convolutions and whose residual sums share relevance in
    proportion to what they add (a backward pass that copies it to both branches instead explodes). Biases keep
    their part, so the sum misses the score by it: `completeness`.

    Args:
        context: the images and targets.
        rule: of the convolutions: `"epsilon"`, `"gamma"` or `"zplus"` (αβ with α = 1, β = 0); linear layers take ε.
        epsilon: ε of the ε rule.
        gamma: γ of the γ rule.

    Raises:
        UserError: zennit is not installed, or the network does something no rule is known for.

    Source: Bach et al. 2015 (10.1371/journal.pone.0130140); composites as in Montavon et al. 2019
    ("Layer-Wise Relevance Propagation: An Overview", section 10.3).
    """
    try:
        from zennit.composites import LayerMapComposite
        from zennit.rules import Epsilon, Gamma, Norm, Pass, ZPlus
        from zennit.types import Activation, AvgPool, Convolution, Linear
    except ImportError as error:
        raise UserError("lrp needs the optional package zennit: pip install zennit") from error
    if rule not in RULES:
        raise UserError(f'LRP rule "{rule}" is unknown: give {", ".join(RULES)}')
    of_convolutions = {"epsilon": Epsilon(epsilon), "gamma": Gamma(gamma), "zplus": ZPlus()}[rule]
    context.notes["rule"] = rule
    composite = LayerMapComposite([
        (_Sum, Norm()), (Activation, Pass()), (AvgPool, Norm()), (Convolution, of_convolutions),
        (Linear, Epsilon(epsilon)),
    ])  # fmt: skip
    network = _explicit(context.model)
    raw = context.empty(*context.images.shape[1:])

    def work(start: int, stop: int) -> None:
        for column in range(context.targets.count):
            images = context.images[start:stop].detach().requires_grad_()
            with composite.context(network) as ruled:
                scores = context.observe(start, ruled(images))[:, column]
                (found,) = torch.autograd.grad(scores, images, grad_outputs=scores.detach())
            raw[start:stop, column] = found

    context.over_images(work)
    context.completeness = raw.flatten(2).sum(dim=2) - context.clean_scores()
    return raw


class _Sum(nn.Module):
    """The sum over the last dimension, a module so that a rule can be given to it."""

    def forward(self, parts: Tensor) -> Tensor:
        """`(…, k)` → `(…)`."""
        return parts.sum(dim=-1)


def _explicit(model: nn.Module) -> nn.Module:
    """A copy of the network as a plain graph of modules that rules are known for."""
    refuse_without_modules(model, "lrp")
    if isinstance(model, Classifier):
        _, weights, bias = class_weights(model)
        linear = nn.Linear(weights.shape[1], weights.shape[0]).to(weights)
        with torch.no_grad():
            linear.weight.copy_(weights)
            linear.bias.copy_(bias)
        model = nn.Sequential(model.backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    try:
        graph = cast(fx.GraphModule, fuse(_plain_norms(copy.deepcopy(model)).eval()))
    except Exception as error:  # tracing fails in many ways
        raise UserError(f"lrp cannot follow the forward pass of {type(model).__name__}: {error}") from error
    _modules_for_sums(graph)
    for node in graph.graph.nodes:
        _check(node, graph)
    for module in graph.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return graph.requires_grad_(False)


def _plain_norms(module: nn.Module) -> nn.Module:
    """The module with batch norms of several processes as those of one, which they are in evaluation mode."""
    if isinstance(module, nn.SyncBatchNorm):
        plain = nn.BatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        plain.load_state_dict(module.state_dict())
        return plain.to(module.running_mean.device if module.running_mean is not None else None)
    for name, child in module.named_children():
        setattr(module, name, _plain_norms(child))
    return module


def _modules_for_sums(graph: fx.GraphModule) -> None:
    """Turn every addition of two tensors into a stack and a `_Sum`."""
    for node in list(graph.graph.nodes):
        tensors = [part for part in node.args if isinstance(part, fx.Node)]
        if node.target in _ADDITIONS and node.op in ("call_function", "call_method") and len(tensors) == 2:
            name = f"sum_{node.name}"
            graph.add_module(name, _Sum())
            with graph.graph.inserting_before(node):
                stacked = graph.graph.call_function(torch.stack, (tensors,), {"dim": -1})
                summed = graph.graph.call_module(name, (stacked,))
            node.replace_all_uses_with(summed)
            graph.graph.erase_node(node)
    graph.recompile()


def _check(node: fx.Node, graph: fx.GraphModule) -> None:
    """Refuse what no rule is known for: a wrong map in silence is worse than none."""
    what: Any = None
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if not isinstance(module, (*_KNOWN_MODULES, _Sum)):
            what = type(module).__name__
    elif (node.op == "call_function" and node.target not in {*_KNOWN_FUNCTIONS, torch.stack}) or (
        node.op == "call_method" and node.target not in _KNOWN_METHODS
    ):
        what = getattr(node.target, "__name__", node.target)
    if what is not None:
        raise UserError(f'lrp knows no rule for "{what}" in this network: use another method')
