"""Features replaced by noise, in any share from none to all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from handful.bottleneck.statistics import RunningStatistics

NoiseKind = Literal["matched", "standard"]


def inject(
    features: Tensor,
    share_logit: Tensor,
    statistics: RunningStatistics,
    noise: Tensor,
    kind: NoiseKind = "matched",
    *,
    rectify: bool = False,
) -> Tensor:
    """Replace the share ``alpha = sigmoid(share_logit)`` of the features by noise: ``(1 - alpha) x + alpha e``.

    Both ends are exact: alpha = 0 gives the features bit for bit, alpha = 1 the noise.

    Args:
        features: ``(B, C, H, W)``.
        share_logit: broadcastable to the features; minus infinity is no noise, infinity nothing but noise.
        statistics: of the features.
        noise: standard normal, of the features' shape.
        kind: ``"matched"`` gives the noise the features' mean and spread (the information bottleneck for
            attribution, Schulz et al. 2020); ``"standard"`` leaves it ``N(0, I)`` (the patent's text), which lies
            far off the distribution of features that are not normalised.
        rectify: cut negative results off; for layers that end in a ReLU.
    """
    target = statistics.restore(noise) if kind == "matched" else noise
    mixed = torch.lerp(features, target.to(features), torch.sigmoid(share_logit).to(features).expand_as(features))
    return mixed.clamp_min(0.0) if rectify else mixed


def capacity(share_logit: Tensor, normalised: Tensor) -> Tensor:
    """Information in nats that each noised element keeps of the clean one, at most.

    ``KL( N((1 - alpha) x, alpha^2) || N(0, 1) )`` per element (Schulz et al. 2020), where x is normalised and alpha
    = sigmoid(share_logit). ``-log alpha`` is a log-sigmoid: finite at any finite logit.

    Args:
        share_logit: broadcastable to `normalised`.
        normalised: normalised features.
    """
    alpha = torch.sigmoid(share_logit)
    kept = (1.0 - alpha) * normalised
    return torch.nn.functional.softplus(-share_logit) + 0.5 * (alpha.square() + kept.square() - 1.0)


def image_noise(ids: Sequence[int], seed: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal noise ``(B, *shape)`` that depends, image by image, on ``(seed, id)`` alone.

    Drawn on the CPU, so that it is the same on every device; the global random state is neither read nor moved.
    """
    rows = []
    for identity in ids:
        digest = hashlib.sha256(f"{seed}/{identity}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        rows.append(torch.randn(tuple(shape), generator=generator))
    return torch.stack(rows).to(device)


def fixed_share(share: float) -> Tensor:
    """The logit of a noise share in [0, 1]; infinite at the ends."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"a noise share lies in [0, 1], not at {share}")
    if share in (0.0, 1.0):
        return torch.tensor(math.inf if share else -math.inf)
    return torch.tensor(math.log(share) - math.log1p(-share))
