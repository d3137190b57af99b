"""What `predict` found, as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from callbacks.ranks import gather_objects


class WritePredictions(pl.Callback):
    """Write `predictions.csv` into the Trainer's folder: a row an image, in the data set's order.

    Columns: `image` (its file, or its place in the data set), `predicted`, `probability`, and the probability of every
    class by name. Each process predicts its share of the images; the first writes.
    """

    def __init__(self) -> None:
        self._found: list[Tensor] = []

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from nothing."""
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
        probabilities = torch.empty(sum(map(len, shares)), shares[0].shape[1])
        for rank, share in enumerate(shares):  # loaders of evaluation give rank r the images r, r + world, …
            probabilities[rank :: len(shares)] = share
        path = Path(trainer.default_root_dir) / "predictions.csv"
        data: Any = getattr(trainer, "datamodule", None)
        names = list(getattr(data, "class_names", None) or map(str, range(probabilities.shape[1])))
        _write(path, _files(trainer, len(probabilities)), names, probabilities)
        rank_zero_info(f"written to {path}")


def _files(trainer: pl.Trainer, count: int) -> Sequence[str]:
    """What the images are called."""
    loaders: Any = trainer.predict_dataloaders
    loader = loaders[0] if isinstance(loaders, list | tuple) else loaders
    names = getattr(getattr(loader, "dataset", None), "names", None)
    return names[:count] if names and len(names) >= count else [str(place) for place in range(count)]


def _write(path: Path, images: Sequence[str], names: Sequence[str], probabilities: Tensor) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "predicted", "probability", *names])
        for image, row in zip(images, probabilities, strict=True):
            best = int(row.argmax())
            shares = [f"{value:.6f}" for value in row.tolist()]
            writer.writerow([image, names[best], shares[best], *shares])
