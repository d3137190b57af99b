"""The few filters that decide each class, after every epoch, from the validation loop's own forward pass."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from callbacks.epoch_measure import EpochMeasure
from callbacks.records import log_table
from handful.filters import (
    EssentialityTest,
    FeatureStatistics,
    Rule,
    StatisticsCollector,
    overlap,
    select_filters,
    union_size,
)
from handful.ranks import dataset_indices
from lightning_modules import ClassifierModule
from lightning_modules.trainer_data import names_of_classes


class ClassFilters(EpochMeasure):
    """Log the filters of every class and how much they change from epoch to epoch.

    After every validation epoch: the k2 filters of every class with their frequencies, as a table
    `class_filters/epoch_NNN.csv` and to every logger that takes tables; the share of a class's filters that it
    had the epoch before (`overlap`, in the table and as the mean `filters/overlap`); the number of features that
    are a filter of any class (`filters/union`); and the accuracy with noise instead of the filters, against noise
    instead of other features (`filters/noise_on_…`, in per cent).

    Features come from the validation step, so there is no second forward pass; for the noise test only the head
    is evaluated again. Where there are no validation images, the filters are those of the training steps' features,
    hence of augmented images and of a model that changes from step to step, and there is no noise test. Counts are
    summed over the ranks, so any number of processes gives the same numbers. The model is only read. Modules that
    are not classifiers are skipped.

    Args:
        k1: number of strongest features counted per image, or the share of the L1 mass they carry.
        k2: filters per class.
        rule: how filters are chosen; see `handful.filters.score_features`.
        noise_test: whether noise is put on the features at the end of the epoch. It keeps the pooled features of
            this rank's images until then, `N·F` numbers.
        seed: of the noise; every epoch and every image meets its own, the same again.

    Source: arXiv 2112.07719.
    """

    def __init__(
        self, k1: int | float = 5, k2: int = 5, rule: Rule = "frequency", noise_test: bool = True, seed: int = 0
    ) -> None:
        self.k1, self.k2, self.rule = k1, k2, rule
        self.noise_test = noise_test
        self.seed = seed
        self.before: Tensor | None = None
        self._collector: StatisticsCollector | None = None
        self._kept: list[tuple[Tensor, Tensor]] = []

    @property
    def measures(self) -> list[str]:
        """What is logged, for a phase's `monitor`."""
        noise = ("filters", "as_many_others", "the_rest") if self.noise_test else ()
        return ["filters/union", "filters/overlap", *(f"filters/noise_on_{name}" for name in noise)]

    def state_dict(self) -> dict[str, Any]:
        """Return the filters of the last epoch, so that a resumed run compares with them."""
        return {} if self.before is None else {"filters": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the filters of the last epoch."""
        self.before = state_dict.get("filters")

    def start(self, pl_module: pl.LightningModule) -> None:
        """Reset the counts, on the model's device."""
        self._collector, self._kept = None, []
        if isinstance(pl_module, ClassifierModule):
            collector = StatisticsCollector(pl_module.num_classes, pl_module.model.num_features, (self.k1,))
            self._collector = collector.to(pl_module.device)

    def add(self, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, training: bool) -> None:
        """Count the features of a batch, and keep them for the noise test."""
        if self._collector is None or not isinstance(outputs, Mapping):
            return
        features, labels = outputs["features"].detach().float(), outputs["labels"]
        self._collector.update(features, labels)
        if self.noise_test and not training:
            self._kept.append((features, labels))

    def finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule, training: bool) -> None:
        """Sum over the ranks, compare and log."""
        if self._collector is None or not isinstance(pl_module, ClassifierModule):
            return
        statistics: FeatureStatistics = self._collector.compute()
        self._collector = None
        if (statistics.images == 0).any():
            images = "training" if training else "validation"
            rank_zero_warn(f"ClassFilters: some classes have no {images} image; no filters for this epoch")
            return
        weight = pl_module.model.head.class_weights()[0].detach()
        filters = select_filters(self.rule, self.k2, statistics, weight, self.k1)
        same = None if self.before is None or self.before.shape != filters.shape else overlap(filters, self.before)
        self.before = filters
        pl_module.log("filters/union", float(union_size(filters)), sync_dist=False)
        if same is not None:
            pl_module.log("filters/overlap", float(same.mean()), sync_dist=False)
        if self.noise_test and not training:
            for name, value in self._noise(trainer, pl_module, filters).items():
                pl_module.log(f"filters/{name}", value, sync_dist=False)
        log_table(
            trainer,
            "class_filters",
            ("class", "place", "filter", "frequency", "overlap"),
            _rows(filters, statistics.frequencies(self.k1), same, names_of_classes(trainer, len(filters))),
        )

    def _noise(self, trainer: pl.Trainer, module: ClassifierModule, filters: Tensor) -> dict[str, float]:
        test = EssentialityTest(module.model.head, filters, module.model.num_features, self.seed).to(module.device)
        seen = 0
        for features, labels in self._kept:
            indices = dataset_indices(seen, len(labels), trainer.global_rank, trainer.world_size)
            test.update(features, labels, torch.tensor(indices, device=labels.device))
            seen += len(labels)
        self._kept = []
        accuracy = test.compute()
        return {
            "noise_on_filters": accuracy["filters"],
            "noise_on_as_many_others": accuracy["as_many_others"],
            "noise_on_the_rest": accuracy["rest"],
        }


def _rows(filters: Tensor, frequencies: Tensor, same: Tensor | None, names: list[str]) -> list[list[Any]]:
    return [
        [name, place, f, round(float(frequencies[c, f]), 6), "" if same is None else round(float(same[c]), 6)]
        for c, name in enumerate(names)
        for place, f in enumerate(filters[c].tolist())
    ]
