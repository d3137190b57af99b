"""The interpretable-filter loss: every filter stands for one part, at one place at a time."""

from functools import cache

import torch
from torch import Tensor

from handful.conversions import as_float, check_real

#: How steeply a template falls with the distance from its middle.
_FALL = 4.0

#: Strength of the published templates, times the number of positions.
_STRENGTH = 0.5


def interpretable_filter_loss(maps: Tensor, scale: float | None = None) -> Tensor:
    """Return the mean over filters of the negative mutual information of maps and templates, a scalar in nats.

    A filter has a template per position, positive around it and negative elsewhere, and one that is negative
    everywhere, for images that do not show its part. The information is that of the batch,
    `Σ_T p(T) Σ_x p(x|T) log(p(x|T) / p(x))`, with `p(x|T)` the softmax over the batch's images of the product of map
    and template. Low where each map has a single peak, at different positions in different images, or none. Memory is
    `B · F · (h·w + 1)`.

    The published templates are of strength 0.5 / (h·w), made for large activations: where all scores are nearly 0,
    `p(x|T)` is nearly the same for every image, and the gradient is small (on the toy birds' ResNet-20, whose maps
    peak at 13, a hundredth of the cross-entropy's; on maps that peak at 1 a hundred times less). `scale` removes this.

    Args:
        maps: `(B, F, h, w)`.
        scale: None for the published templates on the maps as they are. A number above 0: each filter's maps are
            divided by the mean over the batch of their largest magnitude (not differentiated, so that larger
            activations alone gain nothing), and templates have this strength.

    Raises:
        UserError: another shape, or a scale that is not above 0.

    Source: Zhang, Wu and Zhu, "Interpretable convolutional neural networks" (CVPR 2018, arXiv 1710.00935), equations 1
    to 4, computed exactly and differentiated as it stands; there a filter's gradient is approximated.

    Example:
        >>> single = torch.eye(4).reshape(4, 1, 2, 2)
        >>> bool(interpretable_filter_loss(20 * single) < interpretable_filter_loss(torch.ones(4, 1, 2, 2)))
        True
    """
    maps = as_float(maps, (None, None, None, None), "maps")
    if scale is not None:
        check_real("scale", scale, 0, open_below=True)
    if not maps.numel():
        return maps.sum()
    templates, prior = _templates(maps.shape[2], maps.shape[3])
    templates, log_prior = templates.to(maps), prior.to(maps).log()
    if scale is not None:
        usual = maps.detach().abs().amax(dim=(2, 3)).mean(dim=0)
        maps = maps / usual.clamp(min=torch.finfo(maps.dtype).tiny)[:, None, None]
        templates = templates * (scale / _STRENGTH * templates.shape[1])
    score = maps.flatten(2) @ templates.T  # (B, F, T)
    given = score.log_softmax(dim=0)  # log p(x|T)
    alone = torch.logsumexp(given + log_prior, dim=2, keepdim=True)  # log p(x)
    information = (log_prior.exp() * given.exp() * (given - alone)).sum(dim=(0, 2))
    return -information.mean()


@cache
def _templates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Templates `(T, h·w)`, the last for images without the part, and their probabilities `(T,)`."""
    places = height * width
    y, x = torch.arange(places) // width, torch.arange(places) % width
    distance = ((y[:, None] - y).abs() + (x[:, None] - x).abs()).double()
    strength = _STRENGTH / places
    positive = strength * (1 - _FALL * distance / max(height, width)).clamp(min=-1)
    share = places / (1 + places)
    prior = torch.full((places + 1,), share / places, dtype=torch.float64)
    prior[-1] = 1 - share
    return torch.cat([positive, torch.full((1, places), -strength, dtype=torch.float64)]), prior
