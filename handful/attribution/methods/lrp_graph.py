"""A network rewritten as a plain graph of modules, so that relevance rules can be attached to every step."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from handful.attribution.methods.class_maps import class_weights
from handful.attribution.state import refuse_without_modules
from handful.errors import UserError
from handful.networks.classifier import Classifier

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_RELUS = {functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_"}
_MEANS = {torch.mean, "mean"}
_POOLS = {functional.avg_pool2d: nn.AvgPool2d, functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d}
_DROPOUTS = {functional.dropout, functional.dropout1d, functional.dropout2d}
_IN_PLACE = {operator.iadd, functional.relu_, torch.relu_, "add_", "relu_"}

#: What relevance passes through by the gradient alone: it is copied, moved or dropped.
_KNOWN_FUNCTIONS = {
    functional.pad, operator.getitem, torch.flatten, functional.max_pool2d, torch.cat, torch.stack, torch.reshape,
    torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, torch.broadcast_tensors, getattr,
}  # fmt: skip
_KNOWN_METHODS = {
    "flatten", "size", "view", "reshape", "contiguous", "permute", "transpose", "squeeze", "unsqueeze", "dim",
}  # fmt: skip
_KNOWN_MODULES = (
    nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Flatten,
)  # fmt: skip


class Sum(nn.Module):
    """The sum over the last dimension, a module so that a rule can be given to it."""

    def forward(self, parts: Tensor) -> Tensor:
        """`(…, k)` → `(…)`."""
        return parts.sum(dim=-1)


class Scale(nn.Conv2d):
    """A batch norm in evaluation mode that no convolution precedes: one factor and one offset per channel.

    Args:
        norm: with running statistics.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        super().__init__(len(mean), len(mean), 1, groups=len(mean), device=mean.device, dtype=mean.dtype)
        factor = (variance + norm.eps).rsqrt()
        factor = factor if norm.weight is None else factor * norm.weight
        offset = -mean * factor if norm.bias is None else norm.bias - mean * factor
        with torch.no_grad():
            self.weight.copy_(factor.reshape(-1, 1, 1, 1))
            assert self.bias is not None
            self.bias.copy_(offset)


def explicit_network(model: nn.Module) -> fx.GraphModule:
    """A copy of the network as a graph of modules that rules are known for; its parameters need no gradient.

    Batch norms are merged into the convolutions before them or stand as a `Scale`, additions become a `Sum`, functions
    become modules, a module that runs twice becomes two, and operations in place become ordinary ones.

    Raises:
        UserError: its forward pass cannot be followed, or has a step that no rule is known for.
    """
    refuse_without_modules(model, "lrp")
    if isinstance(model, Classifier):
        model = _plain_classifier(model)
    try:
        graph = fx.symbolic_trace(_plain_modules(copy.deepcopy(model)))
    except Exception as error:  # tracing fails in many ways
        raise UserError(f"lrp cannot follow the forward pass of {type(model).__name__}: {error}") from error
    _follow_in_place(graph)
    _separate_shared_modules(graph)
    _modules_for_functions(graph)
    _merge_norms(graph)
    for node in graph.graph.nodes:
        _check(node, graph)
    graph.graph.lint()
    graph.recompile()
    return graph.requires_grad_(False)


def _plain_classifier(model: Classifier) -> nn.Module:
    """The classifier with its head written out as one linear layer."""
    _, weights, bias = class_weights(model)
    linear = nn.Linear(weights.shape[1], weights.shape[0]).to(weights)
    with torch.no_grad():
        linear.weight.copy_(weights)
        linear.bias.copy_(bias)
    return nn.Sequential(model.backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def _plain_modules(module: nn.Module) -> nn.Module:
    """The module with norms of several processes as those of one, and computed weights as plain ones."""
    if isinstance(module, nn.SyncBatchNorm):
        plain = nn.BatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        plain.load_state_dict(module.state_dict())
        return plain.eval().to(module.running_mean.device if module.running_mean is not None else None)
    if parametrize.is_parametrized(module):
        module = _without_parametrizations(module)
    for remove in (torch.nn.utils.remove_weight_norm, torch.nn.utils.remove_spectral_norm):
        if any(type(hook).__name__ in ("WeightNorm", "SpectralNorm") for hook in module._forward_pre_hooks.values()):
            try:
                remove(module)
            except ValueError:
                continue  # the hook is of the other kind
    for name, child in module.named_children():
        setattr(module, name, _plain_modules(child))
    if isinstance(module, nn.ReLU) and module.inplace:
        module.was_in_place = True  # type: ignore[assignment]
        module.inplace = False
    return module


def _without_parametrizations(module: nn.Module) -> nn.Module:
    """A module with the computed weights as its own.

    `parametrize.remove_parametrizations` changes the module's class, which a copy shares with the network.
    """
    base = type(module).__bases__[0]
    plain: nn.Module = object.__new__(base)
    plain.__dict__.update(module.__dict__)
    plain._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    plain._parameters = dict(module._parameters)
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    for name in parametrizations:
        plain._parameters[name] = nn.Parameter(getattr(module, name).detach().clone())
    return plain


def _follow_in_place(graph: fx.GraphModule) -> None:
    """Let everything after an operation in place see its result, as it does in the network."""
    order = {node: position for position, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if node.op in ("call_function", "call_method"):
            in_place = node.target in _IN_PLACE or bool(node.kwargs.get("inplace"))
        else:
            in_place = node.op == "call_module" and hasattr(graph.get_submodule(node.target), "was_in_place")
        if in_place and isinstance(node.args[0], fx.Node):
            for user in [user for user in node.args[0].users if order[user] > order[node]]:
                user.replace_input_with(node.args[0], node)


def _separate_shared_modules(graph: fx.GraphModule) -> None:
    """Give every call of a module a copy of its own."""
    seen: set[nn.Module] = set()
    for node in graph.graph.nodes:
        if node.op == "call_module":
            module = graph.get_submodule(node.target)
            if module in seen:
                _replace_target(graph, node, copy.deepcopy(module))
            seen.add(module)


def _replace_target(graph: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    name = f"own_{node.name}"
    graph.add_submodule(name, module)
    node.target = name


def _modules_for_functions(graph: fx.GraphModule) -> None:
    """Turn additions into a stack and a `Sum`, and ReLUs, pools, means and inactive dropout into modules."""
    for node in list(graph.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        if node.target in _ADDITIONS:
            tensors = [part for part in node.args if isinstance(part, fx.Node)]
            if len(tensors) == 2 and not node.kwargs:
                with graph.graph.inserting_before(node):
                    wide = graph.graph.call_function(torch.broadcast_tensors, tuple(tensors))
                    stacked = graph.graph.call_function(torch.stack, (wide,), {"dim": -1})
                _insert(graph, node, Sum(), stacked)
        elif node.target in _RELUS:
            _insert(graph, node, nn.ReLU(), node.args[0])
        elif node.target in _DROPOUTS and _argument(node, 2, "training") is False:
            _insert(graph, node, nn.Identity(), node.args[0])
        elif node.target in _POOLS:
            _insert(graph, node, _POOLS[node.target](*node.args[1:], **node.kwargs), node.args[0])
        elif node.target in _MEANS and _is_spatial(_argument(node, 1, "dim")):
            parts: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)]
            if not _argument(node, 2, "keepdim"):
                parts.append(nn.Flatten())
            with graph.graph.inserting_before(node):
                inner = node.args[0]
                for index, part in enumerate(parts):
                    graph.add_submodule(f"mean_{node.name}_{index}", part)
                    inner = graph.graph.call_module(f"mean_{node.name}_{index}", (inner,))
            node.replace_all_uses_with(inner)
            graph.graph.erase_node(node)


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _is_spatial(dims: object) -> bool:
    """Whether these are the last two of the four dimensions of feature maps."""
    return isinstance(dims, tuple | list) and sorted(dims, key=str) in ([2, 3], [-1, -2])


def _insert(graph: fx.GraphModule, node: fx.Node, module: nn.Module, argument: Any) -> None:
    """Replace the node by a module of one argument."""
    name = f"own_{node.name}"
    graph.add_submodule(name, module)
    with graph.graph.inserting_before(node):
        new = graph.graph.call_module(name, (argument,))
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def _merge_norms(graph: fx.GraphModule) -> None:
    """Merge batch norms into the convolution before them where nothing else reads it; else make them a `Scale`."""
    for node in list(graph.graph.nodes):
        norm = graph.get_submodule(node.target) if node.op == "call_module" else None
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or norm.training:
            continue
        before = node.args[0]
        convolution = graph.get_submodule(before.target) if before.op == "call_module" else None
        if type(convolution) is nn.Conv2d and len(before.users) == 1:
            _replace_target(graph, before, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
        else:
            _replace_target(graph, node, Scale(norm))


def _check(node: fx.Node, graph: fx.GraphModule) -> None:
    """Refuse what no rule is known for: a wrong map in silence is worse than none."""
    what: Callable[..., Any] | str | None = None
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if type(module) not in (*_KNOWN_MODULES, Sum, Scale):
            what = type(module).__name__
    elif node.op == "get_attr":
        what = f"the constant {node.target}"
    elif (node.op == "call_function" and node.target not in _KNOWN_FUNCTIONS) or (
        node.op == "call_method" and node.target not in _KNOWN_METHODS
    ):
        what = node.target
    if what is not None:
        name = what if isinstance(what, str) else getattr(what, "__name__", str(what))
        raise UserError(f'lrp knows no rule for "{name}" in this network: use another method')
