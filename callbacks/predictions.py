"""The predictions of `predict` as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from callbacks.ranks import gather_objects
from handful.ranks import interleave
from handful.report.csv_file import write_csv
from handful.report.prediction_table import prediction_columns, prediction_rows
from lightning_modules.trainer_data import LabelledImages, files_of, labels_of, loaded_images, names_of_classes


class WritePredictions(pl.Callback):
    """Write `predictions.csv` into the Trainer's folder: a row per image, in the data set's order.

    Columns: `image` (its file, or its dataset index), `predicted`, `probability`, where the data set has labels `true`
    and `correct` (yes or no), and the probability of every class by name. Each process predicts its share of the
    images; the first writes the file and logs the accuracy.
    """

    def __init__(self) -> None:
        self._found: list[Tensor] = []

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discard earlier predictions."""
        self._found = []

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the probabilities."""
        self._found.append(outputs.float().cpu())

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather and write."""
        shares = gather_objects(trainer, torch.cat(self._found) if self._found else None)
        shares = [share for share in shares if share is not None]
        if not trainer.is_global_zero or not shares:
            return
        probabilities = interleave(shares, sum(map(len, shares)))
        path = Path(trainer.default_root_dir) / "predictions.csv"
        names = names_of_classes(trainer, probabilities.shape[1])
        dataset = loaded_images(trainer.predict_dataloaders)
        labels = _labels(dataset, len(probabilities), len(names))
        _write(path, _files(dataset, len(probabilities)), names, probabilities, labels)
        if labels is not None:
            right = int((probabilities.argmax(dim=1) == torch.tensor(labels)).sum())
            rank_zero_info(f"accuracy {100 * right / len(labels):.2f} % on {len(labels)} images")
        rank_zero_info(f"written to {path}")


def _files(dataset: LabelledImages | None, count: int) -> Sequence[str]:
    """Return the names of the images."""
    names = files_of(dataset)
    return names[:count] if names and len(names) >= count else [str(index) for index in range(count)]


def _labels(dataset: LabelledImages | None, count: int, num_classes: int) -> list[int] | None:
    """The images' true classes, where the data set knows them."""
    labels = labels_of(dataset)
    if labels is None or len(labels) < count:
        return None
    found = [int(label) for label in labels[:count]]
    return found if found and all(0 <= label < num_classes for label in found) else None


def _write(
    path: Path, images: Sequence[str], names: Sequence[str], probabilities: Tensor, labels: Sequence[int] | None
) -> None:
    rows = prediction_rows(images, names, probabilities, labels)
    write_csv(path, prediction_columns(names, labels is not None), rows)
