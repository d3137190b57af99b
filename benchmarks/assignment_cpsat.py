"""The choice of features beside CP-SAT, an independent solver (`pip install ortools`).

`small`: instances of up to 40 features and 8 classes, which CP-SAT solves to the optimum. `large`: an instance of the
size of CUB-200-2011 or a real one (`--features FILE`, as in `benchmarks.assignment`), where CP-SAT stops after
`--minutes` with what it has found and proven. CP-SAT runs on one thread, as ours does; of the large instance it gets
the relaxed problem, in which classes may be equal and features unused.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.assignment import small, synthetic
from benchmarks.results import write_section
from handful.assignment import AssignmentProblem, class_correlation, qpm_problem, solve
from handful.assignment.solve import by_search

#: CP-SAT works in whole numbers: gains and penalties are multiples of this.
UNIT = 1e-6


def cp_sat() -> Any:
    """The module, which is no requirement of the others."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        sys.exit("benchmarks.assignment_cpsat needs OR-Tools: pip install 'ortools>=9.10,<10'")
    return cp_model


class Model:
    """An `AssignmentProblem` for CP-SAT."""

    def __init__(self, problem: AssignmentProblem, relaxed: bool) -> None:
        self.tools = cp_sat()
        self.problem, self.model = problem, self.tools.CpModel()
        model, gain = self.model, problem.gain.tolist()
        n_classes, count = problem.gain.shape
        self.chosen = [model.new_bool_var("") for _ in range(count)]
        self.uses = [[model.new_bool_var("") for _ in range(count)] for _ in range(n_classes)]
        model.add(self.tools.LinearExpr.sum(self.chosen) == problem.n_features)
        variables, weights = list(self.chosen), problem.bias.tolist()
        for row, values in zip(self.uses, gain, strict=True):
            model.add(self.tools.LinearExpr.sum(row) == problem.features_per_class)
            for used, chosen in zip(row, self.chosen, strict=True):
                model.add_implication(used, chosen)
            variables += row
            weights += values
        for i, j in problem.penalty.triu().nonzero().tolist():
            both = model.new_bool_var("")
            model.add_bool_or(self.chosen[i].negated(), self.chosen[j].negated(), both)
            variables.append(both)
            weights.append(-float(problem.penalty[i, j]))
        if not relaxed:
            self._whole()
        model.maximize(self.tools.LinearExpr.weighted_sum(variables, [round(weight / UNIT) for weight in weights]))

    def _whole(self) -> None:
        """Every feature used, no two classes alike."""
        model = self.model
        for i, chosen in enumerate(self.chosen):
            model.add_bool_or(chosen.negated(), *(row[i] for row in self.uses))
        for c, one in enumerate(self.uses):
            for other in self.uses[:c]:
                shared = []
                for a, b in zip(one, other, strict=True):
                    both = model.new_bool_var("")
                    model.add_bool_or(a.negated(), b.negated(), both)
                    shared.append(both)
                model.add(self.tools.LinearExpr.sum(shared) <= self.problem.features_per_class - 1)

    def solve(self, seconds: float) -> tuple[float | None, float, bool]:
        """Value of the best solution, bound, and whether they are the same."""
        solver = self.tools.CpSolver()
        solver.parameters.max_time_in_seconds, solver.parameters.num_workers = seconds, 1
        solver.parameters.random_seed = 0
        status = solver.solve(self.model)
        if status not in (self.tools.OPTIMAL, self.tools.FEASIBLE):
            return None, solver.best_objective_bound * UNIT, False
        selection = torch.tensor([i for i, chosen in enumerate(self.chosen) if solver.value(chosen)])
        assignment = torch.tensor([[bool(solver.value(row[i])) for i in selection.tolist()] for row in self.uses])
        return (
            self.problem.value(selection, assignment),
            solver.best_objective_bound * UNIT,
            status == self.tools.OPTIMAL,
        )


def check_small(count: int) -> list[str]:
    """How often ours is the optimum."""
    equal = searched = 0
    theirs = ours = 0.0
    for seed in range(count):
        problem = small(seed)
        began = time.process_time()
        optimum, _, proven = Model(problem, relaxed=False).solve(600.0)
        theirs += time.process_time() - began
        assert proven
        assert optimum is not None
        began = time.process_time()
        found = solve(problem)
        ours += time.process_time() - began
        assert not problem.violations(found.selection, found.assignment)
        assert found.value <= optimum + 1e-3
        equal += found.value >= optimum - 1e-3
        searched += by_search(problem).value >= optimum - 1e-3
        print(seed, f"{optimum:.3f} {found.value:.3f}", equal, searched, f"{theirs:.0f} {ours:.0f} s", flush=True)
    return [
        f"{count} small instances (12 to 40 features, 4 to 8 classes; 6 features, 2 per class): `solve` finds CP-SAT's "
        f"optimum in {equal} of {count}, in {ours / count:.2f} CPU s on the mean (CP-SAT: {theirs / count:.2f}); the "
        f"local search alone in {searched}."
    ]


def check_large(name: str, problem: AssignmentProblem, minutes: float) -> list[str]:
    """Ours and CP-SAT's after so many minutes."""
    began = time.process_time()
    found = solve(problem)
    ours = time.process_time() - began
    began, wall = time.process_time(), time.perf_counter()
    model = Model(problem, relaxed=True)
    built = time.process_time() - began
    print(f"{name}: ours {found.value:.3f} in {ours:.1f} s; model built in {built:.0f} s", flush=True)
    value, bound, _ = model.solve(60 * minutes)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    theirs = "none" if value is None else f"{value:.3f}"
    seconds = f"{built:.0f} + {time.process_time() - began - built:.0f}"
    return [
        f"{name}, 50 features, 5 per class:",
        "",
        "| solver | value | with equal classes allowed | bound | CPU s |",
        "|---|---|---|---|---|",
        f"| ours | {found.value:.3f} | {problem.set_value(found.selection):.3f} | – | {ours:.1f} |",
        f"| CP-SAT, {minutes:g} minutes, one thread | – | {theirs} | {bound:.3f} | {seconds} |",
        "",
        f"CP-SAT: {time.perf_counter() - wall:.0f} s of wall time, {memory:.1f} GiB at most.",
    ]


def large(features: Path | None, candidates: int, classes: int) -> tuple[str, AssignmentProblem]:
    """An instance, real or synthetic, of its first candidates and classes."""
    bias: Tensor | None = None
    if features is None:
        name, correlation = "synthetic", synthetic(2048, 200)
    else:
        held = torch.load(features, weights_only=True)
        name, correlation, bias = features.stem, class_correlation(held["train"][0], held["train"][1]), held.get("bias")
    correlation = correlation[:classes, :candidates]
    problem = qpm_problem(correlation, None if bias is None else bias[:candidates])
    return f"{name}, {problem.n_candidates:,} × {problem.n_classes}", problem


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("what", choices=["small", "large"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--features", type=Path, default=None)
    parser.add_argument("--candidates", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "small":
        lines = check_small(given.count)
    else:
        lines = check_large(*large(given.features, given.candidates, given.classes), given.minutes)
    write_section(f"The choice of features beside CP-SAT: {given.what} instances", lines)


if __name__ == "__main__":
    main()
