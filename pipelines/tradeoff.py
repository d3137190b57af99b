"""`python train.py tradeoff`: what fewer features, and fewer of them per class, cost in accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from handful.atomic import write_json
from handful.errors import UserError
from handful.explain.trade_off import accuracy, accuracy_grid, default_sizes, trade_off, trade_off_figure
from handful.report.csv_file import write_csv
from handful.report.figures import save_figure
from lightning_modules.classifier import ClassifierModule
from pipelines.build import build_phase
from pipelines.finished_run import Run
from pipelines.output_folder import output_folder
from pipelines.phases import Sparsify
from pipelines.stored_features import features_of
from pipelines.tables import format_table


def tradeoff(
    run_dir: str,
    n_features: list[int] | str | None = None,
    features_per_class: list[int] | str | None = None,
    out: str | None = None,
) -> Path:
    """Solve the sparse layer of a run for many sizes, on its own dense stage.

    Everything else is as in the run's sparse phase; its own size gives its own layer. Nothing is finetuned. Writes
    `tradeoff.csv` (a row per size), `tradeoff.json` and `tradeoff.png`.

    Args:
        run_dir: folder of the run.
        n_features: how many features may decide in all, with commas between; from a quarter of the run's own
            to four times as many if not given.
        features_per_class: features per class, on average, with commas between; 1, 2, 3, 5 and 10 if not given.
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
    available = model.num_features
    default = default_sizes(options.pop("n_features"), available)
    totals, counts = (
        _numbers(name, usual if given is None else given, available)
        for name, given, usual in zip(
            ("n_features", "features_per_class"), (n_features, features_per_class), default, strict=True
        )
    )
    if counts[0] > totals[-1]:
        raise UserError(f"--features_per_class: {counts[0]} and more per class, but only {totals[-1]} features in all")
    data = run.datamodule()
    train = features_of(dense, model, data, "train")
    val = None if data.val_dataset is None else features_of(dense, model, data, "val")
    test = features_of(dense, model, data, "test")
    with torch.no_grad():
        reached = accuracy(model.head.cpu()(test[0]), test[1])
    sizes = trade_off(train, test, dense.num_classes, totals, counts, val, options)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "run": run_dir,
        "made_from": {source: run.made_of(source)},
        "dense": {"accuracy": reached, "n_features": available},
        "options": options,
        "sizes": [size.to_dict() for size in sizes],
    }
    _write(folder, record)
    print(_table(record, totals, counts), flush=True)
    return folder / "tradeoff.png"


def _options(run: Run) -> dict[str, Any]:
    """How the run's sparse phase solves; the defaults where it has none."""
    for name, phase in run.config["phases"].items():
        if phase["module"]["class_path"].rpartition(".")[2] != Sparsify.__name__:
            continue
        found = build_phase(phase["module"], name, {})
        if isinstance(found, Sparsify):
            break
    else:
        found = Sparsify()
    options = found.options | {"source": found.source}
    del options["features_per_class"]
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


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / "tradeoff.json", record)
    columns = [name for name in record["sizes"][0] if name != "features"]
    write_csv(folder / "tradeoff.csv", columns, [[size[name] for name in columns] for size in record["sizes"]])
    dense = record["dense"]
    figure = trade_off_figure(record["sizes"], dense["accuracy"], dense["n_features"])
    save_figure(figure, folder / "tradeoff.png", dpi=150)


def _table(record: dict[str, Any], totals: Sequence[int], counts: Sequence[int]) -> str:
    grid, dense = accuracy_grid(record["sizes"]), record["dense"]
    cells = [
        [str(total), *(f"{grid[total][c]:.2f}" if c in grid.get(total, {}) else "–" for c in counts)]
        for total in totals
    ]
    columns = ["features", *(f"{count} per class" for count in counts)]
    return (
        f"\n{format_table(columns, cells)}\n\n"
        f"  test accuracy in %, before finetuning; dense, all {dense['n_features']} features: {dense['accuracy']:.2f}"
    )
