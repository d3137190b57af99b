"""The sparse layer against glm-saga and the published feature selection, at CUB's size, one thread, one run.

`python -m benchmarks.sparse_solver` takes some minutes. `--full` adds what takes the reference a quarter of an hour,
its whole path; `--keep FILE` saves that path, or reads it where the file is there. Times are CPU seconds of this
process; what is compared alternates. Features are synthetic (`sparse_data`): 5,994 × 2,048, 200 classes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from benchmarks.sparse_data import network_like_features
from benchmarks.sparse_reference import ReferencePath, reference_path, reference_selection
from handful.sparse import column_statistics, select_features
from handful.sparse.minimise import lambda_grid, lambda_max
from handful.sparse.oracle import MemoryOracle
from handful.sparse.path import ExactPath, PathPoint
from handful.sparse.penalty import ElasticNet
from handful.sparse.rows import Rows
from handful.sparse.saga import saga_path
from handful.sparse.saga_selection import select_saga
from handful.sparse.search import bisect
from handful.sparse.split import hold_out
from handful.sparse.standardise import design_matrix

N, F, C, S = 5_994, 2_048, 200, 50
ALPHA = 0.99


@dataclass
class Timed:
    """CPU seconds of repeated runs, and what the last one returned."""

    seconds: list[float] = field(default_factory=list)
    result: object = None

    def run(self, work: Callable[[], object]) -> None:
        """Does the work once."""
        begun = time.process_time()
        self.result = work()
        self.seconds.append(time.process_time() - begun)

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.seconds)

    def text(self) -> str:
        """Median and range."""
        low, high = min(self.seconds), max(self.seconds)
        return f"{self.middle:.3g} s" + (f" ({low:.3g}–{high:.3g})" if len(self.seconds) > 1 else "")

    def ratio(self, reference: Timed) -> str:
        """How many times less than the reference: round by round where both ran the same rounds."""
        if len(self.seconds) != len(reference.seconds):
            return f"{reference.middle / self.middle:.0f}×"
        each = [theirs / ours for theirs, ours in zip(reference.seconds, self.seconds, strict=True)]
        return f"{median(each):.0f}× ({min(each):.0f}–{max(each):.0f})"


class Bench:
    """The data, and one method a row of the table."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.features, self.labels = network_like_features(N, F, C)
        self.rows = Rows(self.features)
        self.statistics = column_statistics(self.rows)
        self.selection = select_features(self.features, self.labels, S)
        self.design = design_matrix(self.rows, self.statistics, self.selection.index())
        self.oracle = MemoryOracle(self.design, self.labels, C)
        largest = lambda_max(self.oracle(self.oracle.bias_only()).gradient, ALPHA)
        self.grid = lambda_grid(largest, 100, 1e-3)
        self.lines = ["| | reference | ours | ratio |", "|---|---|---|---|"]

    def add(self, what: str, reference: str, ours: str, ratio: str) -> None:
        """A row."""
        self.lines.append(f"| {what} | {reference} | {ours} | {ratio} |")
        print(self.lines[-1], flush=True)

    def exact(self, first: int = 100, tolerance: float = 1e-2, floor: float = 0.0) -> list[PathPoint]:
        """Our solver on the first λ of the grid."""
        oracle = MemoryOracle(self.design, self.labels, C)
        return ExactPath(oracle, self.grid[:first], ALPHA, tolerance=tolerance, floor=floor).run()

    def worst_margin(self, found: list[PathPoint], reference: ReferencePath) -> str:
        """Largest (ours − theirs) / theirs over the λ, both objectives in float64 by the same oracle."""
        margins = []
        for point, lam, weight, bias in zip(
            found, reference.lams, reference.weights, reference.biases, strict=True
        ):
            penalty = ElasticNet(lam, ALPHA)
            theirs = torch.cat([weight, bias[:, None]], 1).double()
            ours = torch.cat([point.weight, point.bias[:, None]], 1)
            value = self.oracle(theirs).loss + penalty.value(theirs)
            margins.append((self.oracle(ours).loss + penalty.value(ours) - value) / value)
        # the first λ leaves nothing: both are the same model there, to rounding
        lower = sum(margin < 0 for margin in margins[1:])
        return f"objective lower at {lower} of {len(margins) - 1} λ, worst margin {max(margins[1:]):+.1e}"

    def first_lambdas(self) -> None:
        """The same twelve λ."""
        theirs, saga, rough, fine = Timed(), Timed(), Timed(), Timed()
        for _ in range(self.rounds):
            theirs.run(lambda: reference_path(self.design, self.labels, C, first=12))
            saga.run(
                lambda: saga_path(
                    self.design, self.labels, C, n_lambdas=12, epsilon=1e-3 ** (11 / 99), alpha=ALPHA
                )
            )
            rough.run(lambda: self.exact(12))
            fine.run(lambda: self.exact(12, tolerance=1e-3))
        reference = theirs.result
        assert isinstance(reference, ReferencePath)
        for name, timed in (("KKT 1e-2", rough), ("KKT 1e-3", fine)):
            assert isinstance(timed.result, list)
            margin = self.worst_margin(timed.result, reference)
            self.add(f"first 12 λ, exact, {name}; {margin}", theirs.text(), timed.text(), timed.ratio(theirs))
        self.add("first 12 λ, `saga` (same iterates)", theirs.text(), saga.text(), saga.ratio(theirs))
        self.reference_12 = theirs

    def wanted_point(self, whole: Timed) -> None:
        """The densest point with at most 10 weights per class; the reference always goes the whole path."""
        along, halved = Timed(), Timed()

        def solver() -> ExactPath:
            return ExactPath(MemoryOracle(self.design, self.labels, C), self.grid, ALPHA)

        for _ in range(max(3, self.rounds)):
            along.run(lambda: solver().run(10.0))
            halved.run(lambda: bisect(solver(), 10.0))
        for name, timed in (("path", along), ("bisect", halved)):
            assert isinstance(timed.result, list)
            point = [p for p in timed.result if p.density <= 10][-1]
            passes = sum(p.passes for p in timed.result)
            text = f"densest point with ≤ 10 per class, {name}: λ no. {point.index}, {point.density:.2f} per class"
            self.add(f"{text}, {passes} passes", self.whole_text, timed.text(), timed.ratio(whole))

    def measured_path(self, keep: Path | None) -> ReferencePath:
        """The reference's whole path, run or read from the file of an earlier run."""
        if keep is not None and keep.is_file():
            held = torch.load(keep, weights_only=True)
            if held["features"] != self.selection.features:
                raise SystemExit(f"{keep}: of another selection of features")
            reference = ReferencePath(held["lams"], held["weights"], held["biases"], held["seconds"])
        else:
            reference = reference_path(self.design, self.labels, C)
            if keep is not None:
                torch.save({"features": self.selection.features, **vars(reference)}, keep)
        self.whole_text = f"{reference.seconds:.0f} s"
        return reference

    def counted_path(self) -> ReferencePath:
        """The reference's whole path by its iterates, its time by its epochs and what one took in the first λ."""
        same = saga_path(self.design, self.labels, C, alpha=ALPHA)
        epochs = sum(point.passes for point in same)
        per_epoch = self.reference_12.middle / sum(point.passes for point in same[:12])
        self.whole_text = f"{epochs * per_epoch:.0f} s, extrapolated: {epochs} epochs × {per_epoch:.3g} s"
        return ReferencePath(
            [point.lam for point in same],
            torch.stack([point.weight for point in same]),
            torch.stack([point.bias for point in same]),
            epochs * per_epoch,
        )

    def whole_path(self, reference: ReferencePath) -> Timed:
        """All hundred λ."""
        whole = Timed([reference.seconds])
        kinds = {
            "residual against max(λ, 0.1 λ_max), 1e-2": {"tolerance": 1e-2, "floor": 0.1},
            "residual against max(λ, 0.1 λ_max), 1e-3": {"tolerance": 1e-3, "floor": 0.1},
            "plain 1e-2": {"tolerance": 1e-2},
            "plain 1e-3": {"tolerance": 1e-3},
        }
        timed = {name: Timed() for name in kinds}
        for _ in range(self.rounds):
            for name, options in kinds.items():
                timed[name].run(lambda options=options: self.exact(**options))  # type: ignore[misc]
        for name, ours in timed.items():
            assert isinstance(ours.result, list)
            margin = self.worst_margin(ours.result, reference)
            self.add(f"all 100 λ, {name}; {margin}", self.whole_text, ours.text(), ours.ratio(whole))
        return whole

    def selecting(self) -> None:
        """Fifty of 2,048; the reference is measured on one phase and counted by the epochs of all."""
        index = hold_out(self.labels, 0.1, 0)[0]
        phase, saga_phase, saga_all, greedy = Timed(), Timed(), Timed(), Timed()

        def saga(count: int) -> object:
            return select_saga(self.rows, self.labels, C, count, self.statistics, index=index)

        for _ in range(max(1, self.rounds // 3)):
            phase.run(lambda: reference_selection(self.features, self.labels, C, 1, index=index))
            saga_phase.run(lambda: saga(1))
        theirs = phase.result
        for _ in range(self.rounds):
            greedy.run(lambda: select_features(self.features, self.labels, S))
        saga_all.run(lambda: saga(S))
        log = saga_all.result.log  # type: ignore[attr-defined]
        epochs = sum(row["passes"] for row in log)
        same = theirs.features == saga_phase.result.features  # type: ignore[attr-defined]
        per_epoch = phase.middle / sum(theirs.epochs)  # type: ignore[attr-defined]
        self.add(
            f"selection, one phase, `saga`; same feature: {'yes' if same else 'no'}",
            phase.text(),
            saga_phase.text(),
            saga_phase.ratio(phase),
        )
        total = Timed([per_epoch * epochs])
        for name, ours in (("`saga`", saga_all), ("`greedy`", greedy)):
            text = f"{total.middle:.0f} s, extrapolated: {epochs} epochs × {per_epoch:.3g} s"
            self.add(f"selection of {S} of {F}, {name}", text, ours.text(), ours.ratio(total))

    def memory(self) -> None:
        """Peaks in processes of their own."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "features.pt"
            held = {"features": self.features, "labels": self.labels, "columns": self.selection.index()}
            torch.save(held, file)

            def peak(solver: str) -> float:
                command = [sys.executable, "-m", "benchmarks.sparse_memory", solver, str(file)]
                return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

            selecting, path = peak("selection: reference"), peak("path: glm-saga")
            for solver, reference in (
                ("selection: greedy", selecting), ("selection: saga", selecting), ("path: exact", path)
            ):  # fmt: skip
                ours = peak(solver)
                self.add(
                    f"peak memory over the features' own, {solver}",
                    f"{reference:.0f} MiB",
                    f"{ours:.1f} MiB",
                    f"{100 * ours / reference:.1f} %",
                )

    def limit(self) -> None:
        """How far from the matrix products that the passes need, at the rate measured for them here."""
        oracle = MemoryOracle(self.design, self.labels, C)
        path = ExactPath(oracle, self.grid, ALPHA)
        solved, products = Timed(), Timed()
        solved.run(lambda: path.run(10.0))
        products.run(lambda: self._products(oracle.passes))
        self.add(
            f"path to 10 per class against its own {oracle.passes} passes' products",
            products.text(),
            solved.text(),
            f"{solved.middle / products.middle:.2f}× the limit",
        )
        greedy, products = Timed(), Timed()
        greedy.run(lambda: select_features(self.features, self.labels, S))
        passes = [int(row["passes"] or 0) for row in self.selection.log]
        products.run(lambda: self._selection_products(passes))
        self.add(
            "`greedy` against its gradients' and refits' products",
            products.text(),
            greedy.text(),
            f"{greedy.middle / products.middle:.2f}× the limit",
        )

    def _products(self, passes: int) -> None:
        weight, out = torch.randn(C, S + 1), torch.empty(C, S + 1)
        for _ in range(passes):
            for low in range(0, N, 1000):
                block = self.design[low : low + 1000]
                torch.mm(torch.mm(weight, block.t()), block, out=out)

    def _selection_products(self, passes: list[int]) -> None:
        for chosen, count in enumerate(passes):
            residuals, weight = torch.randn(C, N), torch.randn(C, chosen + 1)
            residuals @ self.features
            design: Tensor = self.design[:, : chosen + 1].contiguous()
            for _ in range(count):
                (weight @ design.t()) @ design


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="with the reference's whole path")
    parser.add_argument("--rounds", type=int, default=3, help="of what alternates")
    parser.add_argument("--keep", type=Path, help="file of the reference's whole path")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args.rounds)
    bench.first_lambdas()
    whole = bench.whole_path(bench.measured_path(args.keep) if args.full else bench.counted_path())
    bench.wanted_point(whole)
    bench.selecting()
    bench.memory()
    bench.limit()
    about = (
        f"{N:,} × {F:,} synthetic features, {C} classes, {S} selected; CPU seconds on one thread, medians of "
        f"{args.rounds} alternating rounds (range). Reference: glm-saga as installed; the published selection written "
        "out (`sparse_reference`). Objectives are compared in float64 from the second λ on: at the first both are "
        "without weights."
    )
    if args.full:
        about += " The reference's whole path was measured once."
    command = "python -m benchmarks.sparse_solver" + (" --full" if args.full else "")
    write_section(f"The sparse layer against glm-saga (`{command}`)", [about, "", *bench.lines])


if __name__ == "__main__":
    main()
