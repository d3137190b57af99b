"""Peak memory of one solver over what it found when it started; run by `sparse_solver` in a process of its own.

`python -m benchmarks.sparse_memory SOLVER FILE` prints MiB. FILE holds features, labels and a selection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.sparse_data import network_like_features
from benchmarks.sparse_reference import reference_path, reference_selection
from handful.sparse import column_statistics, select_features
from handful.sparse.minimise import lambda_grid, lambda_max
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import ExactPath
from handful.sparse.rows import Rows
from handful.sparse.standardise import design_matrix


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("solver")
    parser.add_argument("file")
    given = parser.parse_args()
    solver, file = given.solver, given.file
    torch.set_num_threads(1)
    held = torch.load(file, weights_only=True)
    features, labels, columns = held["features"], held["labels"], held["columns"]
    # what a first product, softmax or loader brings along is the libraries', not the solver's
    tiny, classes = network_like_features(300, 40, 10)
    runs(tiny, classes, torch.arange(20))[solver]()
    run = runs(features, labels, columns)[solver]
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    run()
    print(peak() - before)


def runs(features: Tensor, labels: Tensor, columns: Tensor) -> dict[str, Callable[[], object]]:
    num_classes = int(labels.max()) + 1
    rows = Rows(features)
    design = design_matrix(rows, column_statistics(rows), columns)

    def exact() -> None:
        oracle = MemoryOracle(design, labels, num_classes)
        grid = lambda_grid(lambda_max(oracle(oracle.bias_only()).gradient, 0.99), 100, 1e-3)
        ExactPath(oracle, grid, 0.99).run(10.0)

    return {
        "path: glm-saga": lambda: reference_path(design, labels, num_classes, first=2),
        "path: exact": exact,
        "selection: reference": lambda: reference_selection(features, labels, num_classes, 1, max_epochs=1),
        "selection: saga": lambda: select_features(features, labels, 3, method="saga"),
        "selection: greedy": lambda: select_features(features, labels, 12),
    }


def peak() -> float:
    """Largest resident size so far, MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


if __name__ == "__main__":
    main()
