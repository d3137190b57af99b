"""Bottleneck heads: an upper bound on the information of a (noised) local feature about the global representation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


class BottleneckHead(nn.Module):
    """A model ``q(y | x')`` of the global representation given one local feature, and a prior ``r(y)``.

    ``KL(q(y | x') || r(y))`` is the pointwise information of the local feature; its mean bounds the mutual
    information from above once q is fitted (variational information bottleneck, Alemi et al. 2017).
    """

    def divergence(self, features: Tensor) -> Tensor:
        """``KL(q || r)`` in nats: normalised locals ``(..., C)`` -> ``(...)``, never negative."""
        raise NotImplementedError

    def misfit(self, features: Tensor, targets: Tensor) -> Tensor:
        """Negative log likelihood of targets ``(N, T)`` under q at locals ``(N, K, C)`` -> ``(N, K)``."""
        raise NotImplementedError

    def prior_misfit(self, targets: Tensor) -> Tensor:
        """Negative log likelihood of targets ``(N, T)`` under r -> ``(N,)``."""
        raise NotImplementedError

    def frozen_divergence(self, features: Tensor) -> Tensor:
        """As `divergence`, but gradients reach the features only: the head must not lower its own bound."""
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        return functional_call(self, fixed, (features,))

    def forward(self, features: Tensor) -> Tensor:
        """Same as `divergence`."""
        return self.divergence(features)


class CategoricalHead(BottleneckHead):
    """For classifiers: q and r are distributions over classes; the divergence is at most ``log C`` for a uniform r.

    Targets are class probabilities ``(N, classes)``.

    Args:
        local_features: channels of the locals.
        classes: number of classes.
        hidden: units of the hidden layer.
        learnt_prior: fit r to the mean of the targets; otherwise r is uniform.
    """

    prior: Tensor

    def __init__(self, local_features: int, classes: int, hidden: int = 128, *, learnt_prior: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(local_features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.prior = nn.Parameter(torch.zeros(classes), requires_grad=learnt_prior)

    def divergence(self, features: Tensor) -> Tensor:
        """``sum_c q_c log(q_c / r_c)``."""
        log_q = self.layers(features).float().log_softmax(-1)
        return (log_q.exp() * (log_q - self.prior.log_softmax(-1))).sum(-1)

    def misfit(self, features: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the class probabilities."""
        log_q = self.layers(features).float().log_softmax(-1)
        return -(targets[:, None] * log_q).sum(-1)

    def prior_misfit(self, targets: Tensor) -> Tensor:
        """Cross-entropy of the class probabilities under the prior."""
        return -(targets * self.prior.log_softmax(-1)).sum(-1)


class GaussianHead(BottleneckHead):
    """For embeddings: q and r are Gaussians with diagonal covariance.

    Targets are standardised vectors ``(N, D)``.

    Args:
        local_features: channels of the locals.
        features: ``D``.
        hidden: units of the hidden layer.
        learnt_prior: fit mean and variance of r to the targets; otherwise r is ``N(0, I)``.
    """

    def __init__(self, local_features: int, features: int, hidden: int = 128, *, learnt_prior: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(local_features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * features))
        self.prior_mean = nn.Parameter(torch.zeros(features), requires_grad=learnt_prior)
        self.prior_log_variance = nn.Parameter(torch.zeros(features), requires_grad=learnt_prior)

    def divergence(self, features: Tensor) -> Tensor:
        """Closed form of two Gaussians, summed over the components."""
        mean, log_variance = self._conditional(features)
        ratio = log_variance - self.prior_log_variance
        distance = (mean - self.prior_mean).square() / self.prior_log_variance.exp()
        return 0.5 * (ratio.exp() + distance - 1.0 - ratio).sum(-1)

    def misfit(self, features: Tensor, targets: Tensor) -> Tensor:
        """Up to the constant ``D/2 log 2 pi``."""
        mean, log_variance = self._conditional(features)
        return _gaussian_misfit(targets[:, None], mean, log_variance)

    def prior_misfit(self, targets: Tensor) -> Tensor:
        """Up to the constant ``D/2 log 2 pi``."""
        return _gaussian_misfit(targets, self.prior_mean, self.prior_log_variance)

    def _conditional(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(features).float().chunk(2, -1)
        return mean, log_variance.clamp(-6.0, 4.0)


def _gaussian_misfit(targets: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (log_variance + (targets - mean).square() / log_variance.exp()).sum(-1)


def class_targets(logits: Tensor) -> Tensor:
    """Targets of the categorical head: the classifier's own probabilities ``(N, C)``."""
    return functional.softmax(logits.detach().float(), -1)
