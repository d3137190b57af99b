"""`python train.py tradeoff`: what fewer features, and fewer of them a class, cost in accuracy."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from handful.errors import UserError
from handful.networks import SparseHead
from handful.report.csv_file import write_csv
from handful.report.figures import save_figure
from handful.report.tradeoff import tradeoff_figure
from handful.sparse import Selection, SparseRecord, fit_sparse_layer, select_features
from lightning_modules.base import ClassifierModule
from lightning_modules.sparsify import Sparsify
from pipelines.build import build_module
from pipelines.features import gather_features
from pipelines.files import write_atomically
from pipelines.output_folder import output_folder
from pipelines.runs import Run
from pipelines.tables import format_table

Part = tuple[Tensor, Tensor]

#: Numbers of features that are tried where none are named, as shares of the run's own.
SHARES = (0.25, 0.5, 1, 2, 4)

#: Numbers of features a class that are tried where none are named.
COUNTS = (1, 2, 3, 5, 10)


def tradeoff(
    run_dir: str,
    n_features: list[int] | str | None = None,
    features_per_class: list[int] | str | None = None,
    out: str | None = None,
) -> Path:
    """Solve the sparse layer of a run for many sizes, on its own dense stage.

    Everything else is as in the run's sparse phase; its own size gives its own layer. Nothing is finetuned. Writes
    `tradeoff.csv` (a row a size), `tradeoff.json` and `tradeoff.png`.

    Args:
        run_dir: folder of the run.
        n_features: how many features may decide in all, with commas between; from a quarter of the run's own
            to four times as many if not given.
        features_per_class: features a class, on average, with commas between; 1, 2, 3, 5 and 10 if not given.
        out: folder to write to; RUN_DIR/tradeoff if not given.

    Returns:
        The figure.

    Raises:
        UserError: no such run, no dense stage, or a size that the backbone has not.
    """
    run = Run(run_dir)
    folder = output_folder(out, run.folder / "tradeoff")
    options = _options(run)
    source = run.phase_of(options.pop("source"))
    dense = run.load(source)
    if not isinstance(dense, ClassifierModule):
        raise UserError(f"{run_dir}: the phase that was made sparse holds no classifier")
    model = dense.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    own = options.pop("n_features")
    there = model.num_features
    totals = _numbers("n_features", n_features or sorted({max(1, min(there, round(s * own))) for s in SHARES}), there)
    if features_per_class is None:
        features_per_class = [count for count in COUNTS if count <= there]
    counts = _numbers("features_per_class", features_per_class, there)
    sizes = [(total, count) for total in totals for count in counts if count <= total]
    if not sizes:
        raise UserError(f"--features_per_class: {counts[0]} and more a class, but only {totals[-1]} features in all")
    data = run.datamodule()
    train = gather_features(model, data.plain_train_dataloader(), "training")
    val = None if data.val_dataset is None else gather_features(model, data.val_dataloader(), "validation")
    test = gather_features(model, data.test_dataloader(), "test")
    with torch.no_grad():
        reached = _accuracy(model.head.cpu()(test[0]), test[1])
    selection = _selection(train, totals[-1], dense.num_classes, options)
    rows = []
    for total, count in tqdm(sizes, "solving sparse layers", unit="layer", delay=1, leave=False):
        head, fitted = fit_sparse_layer(
            *train,
            num_classes=dense.num_classes,
            n_features=total,
            features_per_class=count,
            val=val,
            **(options | {"selection": selection}),
        )
        rows.append(_row(head, fitted, total, count, test))
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "run": run_dir,
        "made_from": {source: run.made_of(source)},
        "dense": {"accuracy": reached, "n_features": there},
        "options": options,
        "sizes": rows,
    }
    _write(folder, record)
    print(_table(rows, totals, counts, reached, there), flush=True)
    return folder / "tradeoff.png"


def _options(run: Run) -> dict[str, Any]:
    """How the run's sparse phase solves; the defaults where it has none."""
    for name, phase in run.config["phases"].items():
        if phase["module"]["class_path"].split(".")[-1] == Sparsify.__name__:
            options = dict(build_module(phase["module"], name, {}).hparams)
            break
    else:
        options = dict(Sparsify().hparams)
    del options["features_per_class"], options["keep_features"]
    return options


def _numbers(name: str, given: Sequence[int] | str, largest: int) -> list[int]:
    parts = given.split(",") if isinstance(given, str) else given
    try:
        numbers = sorted({int(part) for part in parts})
    except ValueError:
        raise UserError(f"--{name}: whole numbers with commas between, not {given!r}") from None
    if not numbers or numbers[0] < 1 or numbers[-1] > largest:
        raise UserError(f"--{name}: numbers from 1 to {largest}, which the backbone has, not {given}")
    return numbers


def _selection(train: Part, largest: int, num_classes: int, options: dict[str, Any]) -> Selection | str:
    """The largest selection: features join one by one, so it holds all others. Stochastic ones are drawn anew."""
    method: str = options["selection"]
    return select_features(*train, largest, num_classes=num_classes, progress=True) if method == "greedy" else method


def _row(head: SparseHead, record: SparseRecord, total: int, count: int, test: Part) -> dict[str, Any]:
    details = record.layer
    with torch.no_grad():
        logits = head(test[0])
    return {
        "n_features": total,
        "features_per_class": count,
        "test_accuracy": _accuracy(logits, test[1]),
        "val_accuracy": None if details.get("val_accuracy") is None else 100 * details["val_accuracy"],
        "features_used": head.n_features,
        "weights_per_class": head.features_per_class,
        "features": head.selection.tolist(),
    }


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return round(100 * logits.argmax(dim=1).eq(labels).double().mean().item(), 4)


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_atomically(folder / "tradeoff.json", json.dumps(record, indent=2))
    columns = [name for name in record["sizes"][0] if name != "features"]
    write_csv(folder / "tradeoff.csv", columns, [[row[name] for name in columns] for row in record["sizes"]])
    save_figure(figure_of(record), folder / "tradeoff.png", dpi=150)


def figure_of(record: dict[str, Any]) -> Figure:
    """The figure of a `tradeoff.json`."""
    dense = record["dense"]
    return tradeoff_figure(_grid(record["sizes"]), dense["accuracy"], dense["n_features"])


def _grid(rows: Sequence[dict[str, Any]]) -> dict[int, dict[int, float]]:
    grid: dict[int, dict[int, float]] = {}
    for row in rows:
        grid.setdefault(row["n_features"], {})[row["features_per_class"]] = row["test_accuracy"]
    return grid


def _table(
    rows: Sequence[dict[str, Any]], totals: Sequence[int], counts: Sequence[int], dense: float, there: int
) -> str:
    grid = _grid(rows)
    cells = [
        [str(total), *(f"{grid[total][c]:.2f}" if c in grid.get(total, {}) else "–" for c in counts)]
        for total in totals
    ]
    columns = ["features", *(f"{count} a class" for count in counts)]
    return (
        f"\n{format_table(columns, cells)}\n\n"
        f"  test accuracy in %, before finetuning; dense, all {there} features: {dense:.2f}"
    )
