"""The feature-diversity loss L_div of the SLDD-Model."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float, check_weighted

# Elements of the maps worked on at a time: a temporary of 16 MiB, whatever the batch.
_CHUNK = 1 << 22


def feature_diversity_loss(maps: Tensor, logits: Tensor, weight: Tensor) -> Tensor:
    """Return L_div without its factor β: the features that decide should look at different positions.

    For every image, with ĉ the *predicted* class: the maps become distributions over spatial positions by a
    softmax; each is scaled by its mean activation relative to the strongest feature and by |w_ĉ| / (‖w_ĉ‖ + 1e-5);
    at each position the largest counts, and the positions add up. Add `beta * feature_diversity_loss(...)` to the
    cross-entropy. The gradient reaches the maps, their averages and `weight` where it asks for one; it does not
    reach the choice of ĉ. Memory beside the maps: their gradient and a chunk of 16 MiB.

    Args:
        maps: feature maps `(B, S, h, w)` before pooling; for a sparse head those of the selected features.
        logits: `(B, C)`, from which the predicted class is taken.
        weight: `(C, S)`, the last layer's weights for these maps.

    Returns:
        A scalar in [−√S, 0] for non-negative maps, averaged over the batch, in float32.

    Raises:
        UserError: shapes that do not fit one another.

    Source: Norrenbrock et al., "Take 5" (arXiv 2303.13166), L_div; scaling by the predicted class and the
    constants 1e-5 and 1e-6 as in the authors' later code.

    Example:
        >>> maps = 50 * torch.eye(4).reshape(1, 4, 2, 2)  # four features that peak at four positions
        >>> loss = feature_diversity_loss(maps, torch.tensor([[1.0, 0.0]]), torch.ones(2, 4))
        >>> round(loss.item(), 3)
        -2.0
    """
    as_float(maps, (None, None, None, None), "maps")
    check_weighted(maps, logits, weight, "maps")
    importance = weight[logits.argmax(dim=1)].abs()
    importance = importance / (importance.norm(dim=1, keepdim=True) + 1e-5)
    average = maps.mean(dim=(2, 3), dtype=_precision(maps))
    strength = average / average.amax(dim=1, keepdim=True).clamp(min=1e-6)
    return -_SumOfMaxima.apply(maps, strength * importance).mean()


class _SumOfMaxima(torch.autograd.Function):
    """`Σ_positions max_k scale_k · softmax(map_k)` per image; keeps which map won each position instead of a copy."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, scale: Tensor) -> Tensor:
        winners, sums = [], []
        for chunk, factors in _chunks(maps, scale):
            shares = _shares(chunk)
            highest, winner = shares.mul_(factors.unsqueeze(2)).max(dim=1)
            winners.append(winner)
            sums.append(highest.sum(dim=1))
        ctx.save_for_backward(maps, scale, torch.cat(winners))
        return torch.cat(sums)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        maps, scale, winners = ctx.saved_tensors
        (grad,) = grads
        grad_maps = torch.empty_like(maps, memory_format=torch.contiguous_format)
        grad_scale = torch.empty_like(scale)
        start = 0
        for chunk, factors in _chunks(maps, scale):
            stop = start + chunk.shape[0]
            shares = _shares(chunk)
            winner = winners[start:stop].unsqueeze(1)
            # the share each map holds at the positions it won; its sum over positions is the scale's gradient
            won = torch.zeros_like(shares).scatter_(1, winner, shares.gather(1, winner))
            held = won.sum(dim=2)
            outer = grad[start:stop, None]
            grad_scale[start:stop] = held * outer
            part = won.sub_(shares.mul_(held.unsqueeze(2))).mul_((factors * outer).unsqueeze(2))
            grad_maps[start:stop] = part.view(chunk.shape)
            start = stop
        return grad_maps, grad_scale


def _chunks(maps: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
    size = max(1, _CHUNK // max(1, maps[0].numel()))
    return list(zip(maps.split(size), scale.split(size), strict=True))


def _precision(maps: Tensor) -> torch.dtype:
    """At least float32, also under mixed precision."""
    return torch.promote_types(maps.dtype, torch.float32)


def _shares(maps: Tensor) -> Tensor:
    """Maps `(b, S, h, w)` as distributions over positions `(b, S, h·w)`."""
    return torch.softmax(maps.flatten(2), dim=2, dtype=_precision(maps))
