"""Mutual information of local and global features, from below (InfoMax)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Estimator = Literal["infonce", "jsd"]


class LocalGlobalCritic(nn.Module):
    """Scores how well a local feature and a global representation belong together.

    ``f(x, y) = <phi(x), psi(y)> / sqrt(E) + b(x)``: encode and dot, as in Deep InfoMax (Hjelm et al. 2019), plus an
    offset of the local feature alone, which the optimal critic needs.

    Args:
        local_features: channels of the local features.
        global_features: length of the global representation.
        units: ``E``, length of the encodings.
    """

    def __init__(self, local_features: int, global_features: int, units: int = 256) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(units)
        self.local_mlp = _mlp(local_features, units, units)
        self.local_shortcut = nn.Linear(local_features, units)
        self.global_mlp = _mlp(global_features, units, units)
        self.global_shortcut = nn.Linear(global_features, units)
        self.offset = _mlp(local_features, min(units, 128), 1)

    def encode_locals(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised locals ``(..., C)`` -> encodings ``(..., E)`` and offsets ``(...)``."""
        return self.local_mlp(features) + self.local_shortcut(features), self.offset(features)[..., 0]

    def encode_globals(self, representations: Tensor) -> Tensor:
        """Normalised representations ``(..., D)`` -> encodings ``(..., E)``, scaled for the dot product."""
        return (self.global_mlp(representations) + self.global_shortcut(representations)) * self.scale

    def forward(self, features: Tensor, representations: Tensor) -> Tensor:
        """All pairs: locals ``(M, K, C)``, representations ``(N, D)`` -> scores ``(N, M, K)`` in float32.

        ``scores[i, m, k]`` pairs representation i with local k of image m.
        """
        encodings, offsets = self.encode_locals(features)
        globals_ = self.encode_globals(representations)
        return torch.einsum("ie,mke->imk", globals_.float(), encodings.float()) + offsets.float()

    def own(self, features: Tensor, representations: Tensor) -> Tensor:
        """True pairs only: locals ``(N, K, C)``, representations ``(N, D)`` -> scores ``(N, K)``."""
        encodings, offsets = self.encode_locals(features)
        globals_ = self.encode_globals(representations)
        return torch.einsum("ie,ike->ik", globals_.float(), encodings.float()) + offsets.float()


def infonce(scores: Tensor) -> Tensor:
    """InfoNCE per true pair, in nats; its mean bounds the mutual information from below.

    Each true pair stands against the locals of all *other* images under the same representation (Deep InfoMax).
    The other locals of its own image are not negatives, and the log of the number of candidates is added, so the
    mean is at most ``log(1 + (N - 1) K)``.

    Args:
        scores: ``(N, N, K)``, of `LocalGlobalCritic`.

    Returns:
        ``(N, K)``.

    Raises:
        ValueError: fewer than two images: no negatives.
    """
    images, _, places = scores.shape
    if images < 2:
        raise ValueError("InfoNCE needs the locals of other images: give it at least two images")
    own = torch.eye(images, dtype=torch.bool, device=scores.device)
    positive = scores[own]
    others = torch.logsumexp(scores.masked_fill(own[:, :, None], -math.inf).flatten(1), 1)
    return positive - torch.logaddexp(positive, others[:, None]) + math.log(1 + (images - 1) * places)


def jensen_shannon(scores: Tensor) -> Tensor:
    """The Jensen-Shannon objective of Deep InfoMax per true pair ``(N, K)``: trains a critic, is not information.

    Args:
        scores: ``(N, N, K)``, of `LocalGlobalCritic`.
    """
    images = scores.shape[0]
    own = torch.eye(images, dtype=torch.bool, device=scores.device)
    negatives = functional.softplus(scores[~own]).mean()
    return -functional.softplus(-scores[own]) - negatives


class ReferenceBank(nn.Module):
    """Locals of training images that stand for "any position of any image" when a map is made.

    With a fixed bank the map of an image does not depend on the other images of its batch, and one image alone
    has a map.

    Args:
        size: number of locals.
        local_features: their channels.
    """

    features: Tensor

    def __init__(self, size: int, local_features: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(size, local_features))

    def pointwise(self, critic: LocalGlobalCritic, features: Tensor, representations: Tensor) -> Tensor:
        """Pointwise mutual information in nats: ``f(x, y) - log mean_ref exp f(x_ref, y)``.

        Args:
            critic: a trained critic.
            features: normalised locals ``(N, K, C)``.
            representations: normalised representations ``(N, D)``.

        Returns:
            ``(N, K)``.
        """
        reference = critic(self.features[None], representations)[:, 0]
        typical = torch.logsumexp(reference, 1) - math.log(len(self.features))
        return critic.own(features, representations) - typical[:, None]


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
