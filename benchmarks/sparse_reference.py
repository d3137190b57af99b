"""The two reference procedures that `sparse_solver` is measured against.

`reference_path` calls the package glm-saga as installed. `reference_selection` writes the published feature selection
out literally from its maths: it forms what the published implementation forms, a tensor of batch × C × F products
twice a step, steps every column, and reads single rows through a `DataLoader`. Nothing here is meant to be fast.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from dataclasses import dataclass, field

import torch
from glm_saga.elasticnet import IndexedTensorDataset, glm_saga
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from handful.sparse.saga import ShuffledRows


@dataclass
class ReferenceSelection:
    """What the baseline found, with CPU seconds and epochs of every phase."""

    features: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    weight: Tensor = field(default_factory=lambda: torch.empty(0))


def reference_selection(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    n_features: int,
    *,
    index: Tensor | None = None,
    seed: int = 0,
    alpha: float = 0.8,
    fraction: float = 0.1,
    step: float = 0.1,
    batch: int = 256,
    max_epochs: int = 2000,
    patience: int = 3,
    tol: float = 1e-4,
) -> ReferenceSelection:
    """Selects `n_features` columns of the raw features (N, F); `index` are the rows it visits."""
    index = torch.arange(len(features)) if index is None else index
    n_all = len(features)
    one_hot = torch.eye(num_classes)[labels]
    largest = ((one_hot - one_hot.mean(0)).t() @ features).norm(dim=0).max().item() / n_all / max(1e-3, alpha)
    lams = torch.logspace(
        torch.tensor(largest).log10().item(), torch.tensor(1e-3 * largest).log10().item(), 100
    )
    lams = fraction * torch.cat([lams, torch.zeros(1)])
    mean = features.double().mean(0).float()
    std = features.double().std(0, unbiased=False).float().clamp(min=1e-5)
    rows = TensorDataset(features[index], labels[index], torch.arange(len(index)))
    sampler = ShuffledRows(len(index), torch.Generator().manual_seed(seed))
    loader = DataLoader(rows, batch_size=batch, sampler=sampler)
    weight, bias = torch.zeros(num_classes, features.shape[1]), torch.zeros(num_classes)
    table = torch.zeros(len(index), num_classes)
    average, bias_average = torch.zeros_like(weight), torch.zeros_like(bias)
    chosen = torch.zeros(features.shape[1], dtype=torch.bool)
    found = ReferenceSelection()
    while len(found.features) < n_features:
        for lam in lams.tolist():
            begun = time.process_time()
            best, idle, epochs = float("inf"), 0, 0
            while epochs < max_epochs and idle < patience:
                epochs += 1
                total = 0.0
                for x, y, i in loader:
                    z = (x - mean) / std
                    logits = z @ weight.t() + bias
                    total += nn.functional.cross_entropy(logits, y).item() * len(y)
                    a = torch.softmax(z @ weight.t() + bias, 1) - torch.eye(num_classes)[y]
                    before = table[i]
                    gradient = (a.unsqueeze(2) * z.unsqueeze(1)).mean(0)
                    old = (before.unsqueeze(2) * z.unsqueeze(1)).mean(0)
                    moved = weight - step * (gradient - old + average)
                    norms = moved.norm(dim=0) + 1e-6
                    open_norms = torch.where(chosen, norms.min(), norms)
                    winner = int(open_norms.argmax())
                    keep = chosen.clone()
                    keep[winner] = keep[winner] | (norms[winner] > step * lam * alpha)
                    moved = (moved - step * lam * alpha * moved / norms) * keep / (1 + step * lam * (1 - alpha))
                    bias_gradient, bias_old = a.mean(0), before.mean(0)
                    moved_bias = bias - step * (bias_gradient - bias_old + bias_average)
                    table[i] = a
                    average += (gradient - old) * len(y) / n_all
                    bias_average += (bias_gradient - bias_old) * len(y) / n_all
                    weight, bias = moved, moved_bias
                size = lam * alpha * weight.norm(p=1) + 0.5 * lam * (1 - alpha) * weight.square().sum()
                objective = total / n_all + size.item()
                if objective + tol < best:
                    best, idle = objective, 0
                else:
                    idle += 1
            used = (weight != 0).any(0)
            fresh = (used & ~chosen).nonzero()[:, 0].tolist()
            found.epochs.append(epochs)
            found.seconds.append(time.process_time() - begun)
            if fresh:
                chosen |= used
                found.features += fresh
                break
    found.weight = weight
    return found


@dataclass
class ReferencePath:
    """What glm-saga found: λ (K,), weights (K, C, S), biases (K, C), CPU seconds of the whole."""

    lams: list[float]
    weights: Tensor
    biases: Tensor
    seconds: float


def reference_path(
    design: Tensor, labels: Tensor, num_classes: int, *, first: int = 100, seed: int = 0
) -> ReferencePath:
    """The first λ of the published path of 100 by the package as installed, called as its users call it.

    Args:
        design: standardised features with a last column of ones (N, S+1).
        labels: (N,).
        num_classes: C.
        first: how many of the 100 λ.
        seed: of the order of rows.
    """
    torch.manual_seed(seed)
    linear = nn.Linear(design.shape[1] - 1, num_classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    rows = IndexedTensorDataset(design[:, :-1].contiguous(), labels)
    loader = DataLoader(rows, batch_size=256, shuffle=True)
    begun = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = glm_saga(
            linear, loader, 0.1, 2000, 0.99, k=first, epsilon=1e-3 ** ((first - 1) / 99), do_zero=False, lookbehind=5,
            tol=1e-4,
        )["path"]  # fmt: skip
    seconds = time.process_time() - begun
    return ReferencePath(
        [float(point["lam"]) for point in found],
        torch.stack([point["weight"] for point in found]),
        torch.stack([point["bias"] for point in found]),
        seconds,
    )
