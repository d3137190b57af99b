"""Small problems with known or independently computable answers."""

import torch

from benchmarks.sparse_data import network_like_features


def small(n=600, f=24, c=6, seed=3, dtype=torch.float64):
    """Network-like features and labels, small enough for naive loops."""
    features, labels = network_like_features(n, f, c, seed=seed, nuisances=6)
    features[:, features.std(0) == 0] = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed)).expand(n, 1)
    return features.to(dtype), labels


def planted(n=1200, informative=8, noise=40, c=10, seed=0, dtype=torch.float32):
    """Class means on `informative` columns, pure noise on the others; the informative columns' places."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % c
    features = torch.randn(n, informative + noise, generator=g, dtype=dtype)
    places = torch.randperm(informative + noise, generator=g)[:informative]
    features[:, places] += 2 * torch.randn(c, informative, generator=g, dtype=dtype)[labels]
    return features, labels, places.tolist()


def naive_objective(z, labels, weight, bias, lam, alpha, group=False):
    """The objective written out: a loop over rows, float64."""
    total = 0.0
    for row, label in zip(z.double(), labels.tolist(), strict=True):
        logits = weight.double() @ row + bias.double()
        total += (torch.logsumexp(logits, 0) - logits[label]).item()
    sizes = weight.norm(dim=0).sum() if group else weight.abs().sum()
    return total / len(z) + lam * (alpha * sizes.item() + (1 - alpha) / 2 * weight.square().sum().item())


def standardised(features):
    """Textbook standardisation in float64."""
    x = features.double()
    return (x - x.mean(0)) / x.std(0, unbiased=False).clamp(min=1e-6)
