"""The choice of features and of exactly k per class: value, bound and seconds.

`python -m benchmarks.assignment` solves synthetic instances of the size of CUB-200-2011 and of ImageNet, and small ones
to the optimum; `--features FILE` adds a real one: a file of torch with `{"train": (features, labels), "bias": …}`.
`--bound_seconds 300 --enough 3` looks for a bound until it is within 3 per cent. CPU seconds of this process on one
core. Values compare only at the same threshold: a lower one penalises more pairs of features.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.assignment import (
    Assignment,
    AssignmentProblem,
    Search,
    class_correlation,
    qpm_problem,
    similarity_threshold,
    solve,
    solve_exactly,
    upper_bound,
)
from handful.assignment.solve import by_search

T = TypeVar("T")

#: What is solved of an instance: without penalty, with it, with pairs of classes that share all features but one.
KINDS = ("no penalty", "penalty", "ρ 0.5")

#: Of further searches of the kind "penalty".
SEEDS = (1, 2)

#: Small instances that are solved to the optimum.
SMALL = 200


def synthetic(features: int, classes: int, seed: int = 0) -> Tensor:
    """Correlations of features with classes, from forty factors and noise."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(classes, 40, generator=generator) @ torch.randn(40, features, generator=generator)
    found = 0.15 * factors + 0.3 * torch.randn(classes, features, generator=generator)
    return (found / found.abs().max()).double()


def small(seed: int) -> AssignmentProblem:
    """Up to 40 features and 8 classes, penalties on two fifths of the pairs."""
    generator = torch.Generator().manual_seed(seed)
    features = int(torch.randint(12, 41, (), generator=generator))
    classes = int(torch.randint(4, 9, (), generator=generator))
    gain = 100 * torch.randn(classes, features, generator=generator, dtype=torch.float64)
    pairs = torch.rand(features, features, generator=generator, dtype=torch.float64)
    pairs = (30 * pairs * (pairs > 0.6)).triu(1)
    bias = 0.3 * torch.randn(features, generator=generator, dtype=torch.float64)
    return AssignmentProblem(gain, pairs + pairs.T, bias, 6, 2)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work returns, and its CPU seconds."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def instance(
    name: str,
    correlation: Tensor,
    bias: Tensor | None,
    bound_seconds: float,
    kinds: Sequence[str] = KINDS,
    enough: float = 0.0,
) -> list[str]:
    """Rows of one instance: with the penalty of similar features and without, and with pairs of classes."""
    threshold, searched = timed(lambda: similarity_threshold(correlation, 50))
    rows = []
    for what in kinds:
        limit, rho = float("inf") if what == "no penalty" else threshold, 0.5 if what == "ρ 0.5" else 0.0
        problem = qpm_problem(correlation, bias if what != "no penalty" else None, threshold=limit, rho=rho)
        solution, seconds = timed(lambda problem=problem: solve(problem))  # type: ignore[misc]
        assert not problem.violations(solution.selection, solution.assignment)
        relaxed = "–" if rho else f"{problem.set_value(solution.selection):.3f}"
        values = [f"{solution.value:.3f}"]
        if what == "penalty":
            values += [f"{solve(problem, Search(seed=seed)).value:.3f}" for seed in SEEDS]
        gap = "–" if rho or not bound_seconds else bound_cell(problem, solution, bound_seconds, enough)
        search = 0.0 if what == "no penalty" else searched
        kind = what if what == "no penalty" else f"{what}, R ≥ {threshold:.4f}"
        rows.append(
            f"| {name} | {kind} | {', '.join(values)} | {relaxed} | {gap} | {search:.1f} + {seconds:.1f} | "
            f"{solution.pairs} |"
        )
        print(rows[-1], flush=True)
    return rows


def bound_cell(problem: AssignmentProblem, solution: Assignment, seconds: float, enough: float) -> str:
    """A bound, the gap to it, and what it took; it ends where the gap is `enough` per cent."""
    near = solution.value + abs(solution.value) * enough / (100 - enough)
    bound, cpu = timed(lambda: upper_bound(problem, seconds=seconds, enough=near))
    took = f"{bound.seconds:.0f} s, {cpu:.0f} CPU s, {bound.steps} steps"
    return f"{bound.value:.2f}: {100 * bound.gap(solution):.2f} % ({took})"


def exact(count: int) -> str:
    """How often the search alone reaches the optimum of small instances."""
    searched = sum(
        by_search(problem).value >= solve_exactly(problem).value - 1e-6 for problem in map(small, range(count))
    )
    return (
        "Small instances (12 to 40 features, 4 to 8 classes; 6 features, 2 per class): the search alone reaches the "
        f"optimum of branch and bound (HiGHS) in {searched} of {count}. `solve` takes branch and bound there."
    )


def write(rows: Sequence[str], further: str = "") -> None:
    """Write what has been measured so far: a run that is cut short leaves its rows."""
    head = [
        "50 features, 5 per class.",
        "",
        "| instance | kind | value (seeds 0, 1, 2) | with equal classes allowed | bound: gap | threshold + choice, "
        "CPU s | pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    write_section("The choice of features and exactly k per class", [*head, *rows, "", further])


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--features", type=Path, default=None)
    parser.add_argument("--bound_seconds", type=float, default=0.0)
    parser.add_argument("--enough", type=float, default=0.0, help="per cent: a gap that ends the search for a bound")
    parser.add_argument("--small", type=int, default=SMALL)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[str] = []
    if given.features is not None:
        held = torch.load(given.features, weights_only=True)
        features, labels = held["train"]
        correlation = class_correlation(features.double(), labels)
        name = f"{given.features.stem}, {features.shape[1]:,} × {len(correlation)}"
        rows += instance(name, correlation, held.get("bias"), given.bound_seconds, enough=given.enough)
        write(rows)
    for count, classes, kinds in ((2048, 200, KINDS), (2048, 1000, KINDS[1:2])):
        seconds = given.bound_seconds if classes == 200 else 0.0
        name = f"synthetic, {count:,} × {classes:,}"
        rows += instance(name, synthetic(count, classes), None, seconds, kinds, given.enough)
        write(rows)
    write(rows, exact(given.small))


if __name__ == "__main__":
    main()
