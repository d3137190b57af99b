"""Which bias a ternary layer (Q-SENN) starts with: chosen by images that are held out of the training images.

`python -m benchmarks.ternary_bias --run_dirs RUN RUN`: for the dense phase of every run, features of the training and
validation images are split five times, class by class, into nine tenths to fit and one tenth to look at. Every fit
selects features and solves the layer again. The test images are looked at for the rule that was chosen, and no other.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.networks.heads import SparseHead
from handful.sparse import fit_sparse_layer
from handful.sparse.split import hold_out
from lightning_modules import ClassifierModule
from pipelines.finished_run import Run
from pipelines.stored_features import features_of

FOLDS = 5
#: Of the sizes of the run's own Q-SENN layer: those of `configs/qsenn/`.
SIZES = {True: (10, 3), False: (50, 5)}

Pair = tuple[Tensor, Tensor]


@torch.no_grad()
def biases(head: SparseHead, train: Pair) -> dict[str, Tensor]:
    """Rule → bias `(C,)`: none, the paper's count of signs taken off or added, that fitted to the training images."""
    size = head.weight.abs().max()
    more_positive = (head.weight > 0).sum(dim=1) - (head.weight < 0).sum(dim=1)
    return {
        "0": torch.zeros_like(head.bias),
        "−w · (positive − negative)": -size * more_positive,
        "+w · (positive − negative)": size * more_positive,
        "fitted": fitted_bias(head.standardise(train[0]) @ head.weight.T, train[1]),
    }


def fitted_bias(logits: Tensor, labels: Tensor) -> Tensor:
    """The bias `(C,)` of least cross-entropy for logits `(N, C)` of fixed weights."""
    with torch.enable_grad():
        bias = torch.zeros(logits.shape[1], requires_grad=True)
        solver = torch.optim.LBFGS([bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            value = functional.cross_entropy(logits + bias, labels)
            value.backward()
            return value

        solver.step(loss)
    return bias.detach()


@torch.no_grad()
def accuracy(head: SparseHead, bias: Tensor, data: Pair) -> float:
    """In per cent."""
    logits = head.standardise(data[0]) @ head.weight.T + bias
    return 100 * float((logits.argmax(dim=1) == data[1]).double().mean())


def fitted(train: Pair, n_features: int, k: int, classes: int) -> SparseHead:
    """A ternary layer of all rows."""
    return fit_sparse_layer(
        *train, n_features=n_features, features_per_class=k, cut="ternary", num_classes=classes, val_fraction=0
    )[0]


def held_out_accuracies(rows: Pair, n_features: int, k: int, classes: int) -> dict[str, list[float]]:
    """Rule → accuracies on what is held out, one per split."""
    found: dict[str, list[float]] = {}
    for seed in range(FOLDS):
        index, held = hold_out(rows[1], 0.1, seed)
        train, looked_at = (rows[0][index], rows[1][index]), (rows[0][held], rows[1][held])
        head = fitted(train, n_features, k, classes)
        for rule, bias in biases(head, train).items():
            found.setdefault(rule, []).append(accuracy(head, bias, looked_at))
    return found


def chosen(found: Mapping[str, list[float]]) -> str:
    """The rule that is best on the mean."""
    return max(found, key=lambda rule: statistics.fmean(found[rule]))


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run_dirs", type=Path, nargs="+", required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"Before any finetuning; {FOLDS} splits of the training and validation images, a tenth held out; per cent, "
        "mean ± standard deviation. `python -m benchmarks.ternary_bias --run_dirs RUN RUN`",
        "", "| features of | features, per class | bias | held out | test, of the chosen |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for folder in given.run_dirs:
        run = Run(folder)
        module = run.load("dense")
        assert isinstance(module, ClassifierModule)
        data = run.datamodule()
        parts = [features_of(module, module.model, data, split) for split in ("train", "val") if split in data.splits]
        rows = torch.cat([part[0] for part in parts]).float(), torch.cat([part[1] for part in parts])
        n_features, k = SIZES[module.num_classes <= 10]
        found = held_out_accuracies(rows, n_features, k, module.num_classes)
        best = chosen(found)
        test = features_of(module, module.model, data, "test")
        head = fitted(rows, n_features, k, module.num_classes)
        reached = accuracy(head, biases(head, rows)[best], test)
        for rule, values in found.items():
            mean = f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
            last = f"{reached:.2f}" if rule == best else ""
            lines.append(f"| {run.config['name']}, dense | {n_features}, {k} | {rule} | {mean} | {last} |")
            print(lines[-1], flush=True)
    write_section("The bias of a ternary layer", lines)


if __name__ == "__main__":
    main()
