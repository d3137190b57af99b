"""Layer-wise relevance propagation through zennit, an optional extra."""

import torch
from torch import Tensor, nn

from handful.attribution.context import AttributionContext
from handful.attribution.methods.lrp_graph import Scale, Sum, explicit_network
from handful.attribution.outputs import readable_errors
from handful.attribution.registry import register
from handful.errors import UserError

RULES = ("epsilon", "gamma", "zplus")

#: Largest difference between the logits of the network and of its rewritten copy, as a share of the largest logit.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_HALF_TOLERANCE = 5e-2


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
        UserError: zennit is not installed, or the network does something that no rule is known for, or the
            rewritten copy does not give the network's logits.

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
        (Sum, Norm()), (Activation, Pass()), (AvgPool, Norm()), (Scale, Epsilon(epsilon)),
        (Convolution, of_convolutions), (Linear, Epsilon(epsilon)),
    ])  # fmt: skip
    clean = context.clean_logits()
    network = explicit_network(context.model)
    tolerance = _TOLERANCE.get(context.images.dtype, _HALF_TOLERANCE) * float(clean.abs().max())
    raw = context.empty(*context.images.shape[1:])

    def work(start: int, stop: int) -> None:
        rows = torch.arange(start, stop)
        for column in range(context.targets.count):
            images = context.images[start:stop].detach().requires_grad_()
            with composite.context(network) as ruled:
                logits = context.read(_run(ruled, images), len(images))
                _compare(logits, clean[start:stop], tolerance)
                scores = context.targets.score(logits, rows)[:, column]
                (found,) = torch.autograd.grad(scores, images, grad_outputs=scores.detach())
            if context.targets.single_logit and context.targets.index is not None:
                against = context.targets.of(rows, images.device)[:, column] == 0  # relevance −z starts at the logit z
                found = torch.where(against.reshape(-1, 1, 1, 1), -found, found)
            raw[start:stop, column] = found

    context.over_images(work)
    context.completeness = raw.flatten(2).sum(dim=2) - context.clean_scores()
    return raw


def _run(network: nn.Module, images: Tensor) -> object:
    try:
        with readable_errors(network, images):
            return nn.Module.__call__(network, images)  # its own call prints the graph's code where this fails
    except (RuntimeError, TypeError) as error:
        if isinstance(error, UserError | torch.OutOfMemoryError):
            raise
        raise UserError(f"lrp cannot run its rewritten copy of the network: {error}") from error


def _compare(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Refuse a copy whose logits are not the network's.

    Raises:
        UserError: they differ by more than the tolerance.
    """
    if found.shape != expected.shape:
        raise UserError(f"lrp: the rewritten copy gives {tuple(found.shape)} for {tuple(expected.shape)}")
    difference = (found.detach() - expected).abs()
    if not float(difference.max()) <= tolerance:  # nor if it is NaN
        place = int(difference.flatten().argmax())
        wrong, right = float(found.flatten()[place]), float(expected.flatten()[place])
        raise UserError(
            f"lrp explains a copy of the network rewritten step by step, and this copy gives a logit of {wrong:.4g} "
            f"where the network gives {right:.4g}: something in its forward pass is lost; use another method"
        )
