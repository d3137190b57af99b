"""Synthetic features that behave like a network's: rectified mixtures of class attributes with shared nuisances."""

from __future__ import annotations

import torch
from torch import Tensor


def network_like_features(
    n_rows: int, n_features: int, num_classes: int, *, seed: int = 0, sample: int = 0, nuisances: int = 24
) -> tuple[Tensor, Tensor]:
    """Features (N, F) float32 ≥ 0 and labels (N,), all classes equally often.

    Classes come in families that share most attributes (as bird species do); a feature answers to one to three
    attributes, is disturbed by nuisances that it shares with all others and by noise of its own, and is rectified. A
    few features are constantly zero, and scales differ by an order of magnitude. `seed` makes classes and features,
    `sample` draws other rows of the same.
    """
    g = torch.Generator().manual_seed(seed)
    attributes = max(24, min(96, num_classes // 2))
    families = max(2, num_classes // 8)
    shared = (torch.rand(families, attributes, generator=g) < 0.35).float()
    family = torch.randint(0, families, (num_classes,), generator=g)
    flipped = (torch.rand(num_classes, attributes, generator=g) < 0.12).float()
    strength = 0.6 + 0.8 * torch.rand(num_classes, attributes, generator=g)
    prototypes = (shared[family] - flipped).abs() * strength
    mixing = torch.zeros(n_features, attributes)
    for row in mixing:
        count = int(torch.randint(1, 4, (1,), generator=g))
        which = torch.randperm(attributes, generator=g)[:count]
        sign = torch.where(torch.rand(count, generator=g) < 0.8, 1.0, -1.0)
        row[which] = (0.5 + torch.rand(count, generator=g)) * sign
    disturbance = 0.35 * torch.randn(n_features, nuisances, generator=g)
    scale = 0.35 * torch.exp(0.5 * torch.randn(n_features, generator=g))
    floor = 0.2 + 0.5 * torch.rand(n_features, generator=g)
    dead = torch.randperm(n_features, generator=g)[: max(1, n_features // 400)]
    if sample:
        g = torch.Generator().manual_seed(1_000_003 * seed + sample)
    labels = torch.arange(n_rows) % num_classes
    labels = labels[torch.randperm(n_rows, generator=g)]
    features = torch.empty(n_rows, n_features)
    for low in range(0, n_rows, 4096):
        part = labels[low : low + 4096]
        seen = prototypes[part] * (1 + 0.25 * torch.randn(len(part), attributes, generator=g))
        seen += 0.25 * torch.randn(len(part), attributes, generator=g)
        mixed = seen @ mixing.t() + torch.randn(len(part), nuisances, generator=g) @ disturbance.t()
        mixed += 0.5 * torch.randn(len(part), n_features, generator=g)
        features[low : low + len(part)] = torch.relu(mixed - floor) * scale
    features[:, dead] = 0.0
    return features, labels
