"""The sparse layer at ImageNet's size, one thread: the path at full size, the selection streamed from disk.

`python -m benchmarks.sparse_imagenet` asks for 1 GiB of memory, some GiB of disk in the temporary folder and about ten
minutes; `--rows` sets how many rows of 2,048 features the selection goes up to.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from glm_saga.elasticnet import IndexedTensorDataset, train_saga
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from benchmarks.sparse_data import network_like_features
from benchmarks.sparse_memory import peak
from handful.sparse import select_features
from handful.sparse.minimise import lambda_grid, lambda_max
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import ExactPath
from handful.sparse.rows import Rows
from handful.sparse.search import coarse_to_fine
from handful.sparse.standardise import column_statistics, design_matrix

N, S, C, F = 1_152_000, 50, 1_000, 2_048


def path(lines: list[str]) -> None:
    """The densest point with at most 10 weights per class at full size."""
    features, labels = network_like_features(N, S, C)
    rows = Rows(features)
    design = design_matrix(rows, column_statistics(rows))
    del rows, features
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    begun = time.process_time()
    oracle = MemoryOracle(design, labels, C)
    grid = lambda_grid(lambda_max(oracle(oracle.bias_only()).gradient, 0.99), 100, 1e-3)
    points = coarse_to_fine(oracle, ExactPath(oracle, grid, 0.99), 10.0)
    seconds = time.process_time() - begun
    risen = peak() - before
    point = [p for p in points if p.density <= 10][-1]
    product = products(design)
    lines += [
        f"* Path, {N:,} × {S}, {C:,} classes: densest point with ≤ 10 weights per class (λ no. {point.index}, "
        f"{point.density:.2f} per class, KKT {point.kkt:.1e}) in **{seconds:.0f} CPU s**, {oracle.passes} passes "
        f"over all rows and a coarse path; peak memory rose by {risen:.0f} MiB over the design "
        f"matrix's {design.numel() * 4 / 2**20:.0f} MiB. The products of one pass alone take {product:.2f} s.",
    ]
    print(lines[-1], flush=True)
    each = reference_step(design, labels)
    bound = each * -(-N // 256) * 6 * 100 / 3600
    lines.append(
        f"* glm-saga: {each * 1e3:.1f} ms a step of 256 rows measured; at least 6 epochs at each of 100 λ make at "
        f"least {bound:.0f} CPU hours (extrapolated): **≥ {bound * 3600 / seconds:.0f}×**."
    )
    print(lines[-1], flush=True)


def products(design: Tensor) -> float:
    """CPU seconds of the matrix products of one pass, from a tenth of the rows."""
    weight, out = torch.randn(C, S + 1), torch.empty(C, S + 1)
    begun = time.process_time()
    for low in range(0, N // 10, 200):
        block = design[low : low + 200]
        torch.mm(torch.mm(weight, block.t()), block, out=out)
    return 10 * (time.process_time() - begun)


def reference_step(design: Tensor, labels: Tensor, steps: int = 48) -> float:
    """CPU seconds of a step of the package, one epoch over a part of the rows."""
    rows = IndexedTensorDataset(design[: 256 * steps, :-1].contiguous(), labels[: 256 * steps])
    linear = nn.Linear(S, C)
    begun = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = DataLoader(rows, batch_size=256, shuffle=True)
        train_saga(linear, loader, 0.1, 1, 0.01, 0.99, group=False, n_ex=len(rows), n_classes=C, lookbehind=5)
    return (time.process_time() - begun) / steps


def selection(lines: list[str], most: int, wanted: int = 3) -> None:
    """Features of growing numbers of rows on disk in half precision; the first few selected, the rest extrapolated."""
    lines += ["", f"| rows × {F:,} on disk | GiB | {wanted} features, CPU s | a feature |", "|---|---|---|---|"]
    each = 0.0
    for n in (most // 8, most // 4, most // 2, most):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "features.npy"
            store = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(n, F))
            labels = []
            for low in range(0, n, 20_000):
                part, part_labels = network_like_features(min(20_000, n - low), F, C, sample=low)
                store[low : low + 20_000] = part.numpy()
                labels.append(part_labels)
            store.flush()
            del store
            size = file.stat().st_size / 2**30
            begun = time.process_time()
            select_features([file], torch.cat(labels), wanted)
            seconds = time.process_time() - begun
        each = seconds / wanted
        lines.append(f"| {n:,} | {size:.2f} | {seconds:.1f} | {each:.1f} |")
        print(lines[-1], flush=True)
    whole = each * 1_281_167 / most * 50 / 60
    estimate = f"50 features of 1,281,167 × {F:,} would take {whole:.0f} CPU minutes (extrapolated)."
    lines += ["", f"Linear in the rows, {estimate}"]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=160_000, help="of the largest selection")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[str] = []
    path(lines)
    selection(lines, args.rows)
    write_section("The sparse layer at ImageNet's size (`python -m benchmarks.sparse_imagenet`)", lines)


if __name__ == "__main__":
    main()
