"""The `glm-saga` package as installed, behind the same records, so that anybody can check the other solvers by it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from handful.errors import UserError
from handful.sparse.minimise import lambda_max
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import PathPoint
from handful.sparse.saga import ShuffledRows, measured


def glm_saga_path(
    design: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    alpha: float = 0.99,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    seed: int = 0,
    step: float = 0.1,
    batch: int = 256,
    max_epochs: int = 2000,
    patience: int = 5,
    tol: float = 1e-4,
    include_zero: bool = False,
    stop_density: float | None = None,
    tick: Callable[[PathPoint], None] | None = None,
) -> list[PathPoint]:
    """The path by the package; arguments as of `saga_path`.

    The package always goes the whole grid, so `stop_density` only leaves out points that come after it.

    Raises:
        UserError: where the package is not installed.
    """
    try:
        from glm_saga.elasticnet import IndexedTensorDataset, glm_saga
    except ImportError as error:
        raise UserError("solver: glm_saga asks for the package glm-saga (pip install glm-saga)") from error
    labels = labels.to(design.device)
    oracle = MemoryOracle(design, labels, num_classes)
    linear = nn.Linear(design.shape[1] - 1, num_classes).to(design.device)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    loader = DataLoader(
        # the package keeps its tables in float32, and looks labels up in one on the CPU
        IndexedTensorDataset(design[:, :-1].float(), labels.cpu()),
        batch_size=batch,
        sampler=ShuffledRows(len(design), torch.Generator().manual_seed(seed)),
    )
    largest = lambda_max(oracle(oracle.bias_only()).gradient, alpha)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = glm_saga(
            linear,
            loader,
            step,
            max_epochs,
            alpha,
            tol=tol,
            epsilon=epsilon,
            k=n_lambdas,
            do_zero=include_zero,
            lookbehind=patience,
            # the largest λ in float64, the same number as in the other solvers
            metadata={
                "X": {"num_examples": len(design)},
                "y": {"num_classes": num_classes},
                "max_reg": {"nongrouped": largest * max(1e-3, alpha)},
            },
        )
    points: list[PathPoint] = []
    for index, entry in enumerate(found["path"]):
        weight = torch.cat([entry["weight"], entry["bias"][:, None]], 1).to(design.device).double()
        # the package does not report how many epochs a λ took
        points.append(measured(oracle, weight, index, float(entry["lam"]), alpha, largest, epochs=0))
        if tick is not None:
            tick(points[-1])
        if stop_density is not None and [p.density > stop_density for p in points[-2:]] == [True, True]:
            break
    return points
