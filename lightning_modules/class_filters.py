"""The phases of "Decomposing the Deep": find every class's filters, cut the last layer down to them, retrain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from handful.atomic import write_json
from handful.errors import UserError
from handful.filters import (
    AccuracyGrid,
    EssentialityTest,
    FeatureStatistics,
    Rule,
    StatisticsCollector,
    StrongestImages,
    select_filters,
    union_size,
)
from handful.filters.ranking import check_k1
from handful.losses.class_weights import ClassWeights
from handful.networks import Classifier, NetworkConfig
from handful.networks.build import build_backbone
from handful.networks.decomposed import DecomposedHead
from handful.report.attempts import attempt
from handful.report.class_filters import accuracy_grid_figure, draw_class_filters
from handful.report.csv_file import write_csv
from handful.report.figures import save_figure
from lightning_modules.base import ClassifierModule, PhaseModule
from lightning_modules.checkpoints import load_module, write_tensors
from lightning_modules.schedules import Interval

#: The stages of these pipelines and the phases that hold them, for `Evaluate`.
FILTER_STAGES = {"dense": "dense", "decomposed": "decompose", "retrained": "retrain"}


def adam(params: Any) -> torch.optim.Optimizer:
    """The authors' optimizer: Adam, learning rate 1e-4."""
    return torch.optim.Adam(params, lr=1e-4)


class FindFilters(PhaseModule):
    """Find the filters of every class of a trained classifier, from one pass over the training images.

    The images are un-augmented, the network is in evaluation mode and float32. A second pass, over the test
    images, fills the grid of accuracies over k1 × k2 and puts noise on the filters. Writes into the phase's
    folder: `filters.pt` (filters and statistics), `filters.json` (the filters of every class, readable),
    `grid.csv` (`k1,k2,accuracy`: test accuracy in per cent before retraining), `grid.png`, `essentiality.json`
    and `pictures/NNN.png`, one a class.

    Args:
        k1: strongest features counted an image; or, in (0, 1), the share of the L1 mass they carry.
        k2: filters a class keeps.
        rule: how a class chooses: `frequency` (the paper's), `contribution`, `activation`, `weight` or
            `absolute_weight`.
        source: name of the phase whose classifier is looked at.
        grid_k1: rows of the grid; values above the number of features are left out. Empty: no grid.
        grid_k2: columns of the grid, likewise.
        images_per_filter: images drawn a filter; 0 draws none.
        drawn_classes: how many classes are drawn, from the first.
        seed: of the noise.

    Source: arXiv 2112.07719.
    """

    leaves = frozenset({"filters"})

    def __init__(
        self,
        k1: int | float = 5,
        k2: int = 5,
        rule: Rule = "frequency",
        source: str = "dense",
        grid_k1: Sequence[int | float] = (1, 3, 5, 10, 20, 30),
        grid_k2: Sequence[int] = (1, 2, 3, 5, 8, 10, 15, 20, 30),
        images_per_filter: int = 5,
        drawn_classes: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.k1, self.k2, self.rule = k1, k2, rule
        self.source = source
        self.grid_k1, self.grid_k2 = list(grid_k1), list(grid_k2)
        self.images_per_filter, self.drawn_classes = images_per_filter, drawn_classes
        self.seed = seed
        self.save_hyperparameters({"k1": k1, "k2": k2, "rule": rule}, logger=False)
        self.classifier: ClassifierModule | None = None
        self._collector: StatisticsCollector | None = None
        self._strongest: StrongestImages | None = None
        self._grid: AccuracyGrid | None = None
        self._essentiality: EssentialityTest | None = None
        self._seen = 0

    def check(self, classifier: Classifier) -> None:
        """k1 and k2 must be in range."""
        check_k1(self.k1, classifier.num_features)
        if not 1 <= self.k2 <= classifier.num_features:
            raise UserError(f"k2 must lie in 1…{classifier.num_features}, the backbone's features; got {self.k2}")

    def needs(self) -> list[tuple[str, str]]:
        """The phase whose classifier is looked at."""
        return [(self.source, "a classifier")]

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Take the classifier of the `source` phase."""
        self.classifier = load_classifier(self.folder(earlier, self.source))
        self.check(self.classifier.model)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the features of this rank's training images."""
        features, labels, places = self._features(batch)
        assert self._collector is not None
        self._collector.update(features, labels)
        if self._strongest is not None:
            self._strongest.update(features, places)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Fill the grid and the noise test with this rank's test images."""
        features, labels, places = self._features(batch)
        assert self._essentiality is not None
        self._essentiality.update(features, labels, places)
        if self._grid is not None:
            self._grid.update(features, labels)

    def execute(self, trainer: pl.Trainer, datamodule: Any, resume_from: Path | None) -> None:
        """Two passes, then files. A search cut short starts over: it has no state worth keeping."""
        assert self.classifier is not None
        model = self.classifier.model
        classes, num_features = self.classifier.num_classes, model.num_features
        datamodule.trainer = trainer
        k1s = sorted({check_k1(k1, num_features) for k1 in (self.k1, *self.grid_k1) if k1 <= num_features})
        self._collector = StatisticsCollector(classes, num_features, k1s)
        if self.images_per_filter:
            self._strongest = StrongestImages(num_features, self.images_per_filter)
        self._seen = 0
        trainer.validate(self, dataloaders=datamodule.plain_train_dataloader(), verbose=False)
        statistics: FeatureStatistics = self._collector.compute()
        strongest = None if self._strongest is None else self._strongest.compute()[1].cpu()

        weight, bias = (value.detach().cpu() for value in model.head.class_weights())
        filters = select_filters(self.rule, self.k2, statistics, weight, self.k1)
        self._essentiality = EssentialityTest(model.head, filters, num_features, self.seed)
        rows, columns = ([k for k in ks if k <= num_features] for ks in (self.grid_k1, self.grid_k2))
        if rows and columns:
            self._grid = AccuracyGrid(weight, bias, statistics.only(rows), [int(k2) for k2 in columns])
        self._seen = 0
        trainer.test(self, dataloaders=datamodule.test_dataloader(), verbose=False)
        essentiality = self._essentiality.compute()
        grid = None if self._grid is None else self._grid.compute().cpu()

        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            names = list(datamodule.class_names)
            write_tensors({"filters": filters, "statistics": statistics.state()}, folder / "filters.pt")
            self._write_json(folder, filters, statistics, weight, names)
            write_json(folder / "essentiality.json", essentiality)
            if grid is not None and self._grid is not None:
                write_grid(folder, self._grid.k1s, self._grid.k2s, grid, essentiality["clean"])
            if strongest is not None:
                self._draw(folder, datamodule, filters, strongest, statistics, names)
            rank_zero_info(
                f"filters: {self.k2} a class, {union_size(filters)} of {num_features} features in all; test accuracy "
                f"{essentiality['clean']:.2f} %, with noise in their place {essentiality['filters']:.2f} %, in the "
                f"place of as many others {essentiality['as_many_others']:.2f} %"
            )
        trainer.strategy.barrier("filters written")

    def _features(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled features, labels and places in the data set: rank r holds every world-th place from r on."""
        assert self.classifier is not None
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            features = self.classifier.model.features(images.float())
        places = torch.arange(self._seen, self._seen + len(labels), device=labels.device)
        self._seen += len(labels)
        return features, labels, places * self.trainer.world_size + self.trainer.global_rank

    def _write_json(
        self, folder: Path, filters: Tensor, statistics: FeatureStatistics, weight: Tensor, names: list[str]
    ) -> None:
        frequencies, means = statistics.frequencies(self.k1), statistics.means()
        classes = {
            name: [
                {
                    "filter": f,
                    "frequency": float(frequencies[c, f]),
                    "mean": float(means[c, f]),
                    "weight": float(weight[c, f]),
                }
                for f in filters[c].tolist()
            ]
            for c, name in enumerate(names)
        }
        head = {"k1": self.k1, "k2": self.k2, "rule": self.rule, "union": union_size(filters)}
        write_json(folder / "filters.json", {**head, "classes": classes})

    def _draw(
        self,
        folder: Path,
        datamodule: Any,
        filters: Tensor,
        strongest: Tensor,
        statistics: FeatureStatistics,
        names: list[str],
    ) -> None:
        assert self.classifier is not None
        (folder / "pictures").mkdir(exist_ok=True)
        figures = draw_class_filters(
            self.classifier.model.eval(),
            datamodule.plain_train_dataset,
            filters,
            strongest,
            names,
            statistics.frequencies(self.k1),
            datamodule.mean,
            datamodule.std,
            range(min(self.drawn_classes, len(names))),
        )

        def draw() -> None:
            for c, figure in figures:
                save_figure(figure, folder / "pictures" / f"{c:03d}.png", dpi=110)

        attempt(self, "the pictures of the class filters", draw)


class Decompose(ClassifierModule):
    """Cut the last layer of a classifier down to its filters; also the form in which it is stored.

    As a phase of no epochs nothing is trained.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        filters_per_class: k2; taken from the filters found where None.
        source: name of the phase whose classifier is cut.
        filters: name of the phase that found the filters.
        beta: weight of the feature-diversity loss; the authors have none.
        label_smoothing: of the cross-entropy, in [0, 1).
        head_lr: a learning rate of its own for the last layer.
        compile_backbone: `torch.compile` the backbone in place.
        optimizer: factory of the optimizer; the default is the authors' Adam, 1e-4.
        lr_scheduler: factory of the schedule.
        lr_scheduler_interval: `epoch` or `step`; None follows the schedule.
        class_weights: of the training loss: "balanced", one number per class, or none.

    Source: arXiv 2112.07719, the decomposed final layer.
    """

    leaves = frozenset({"a network", "a classifier", "a decomposed classifier"})

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        filters_per_class: int | None = None,
        source: str = "dense",
        filters: str = "filters",
        beta: float = 0.0,
        label_smoothing: float = 0.0,
        head_lr: float | None = None,
        compile_backbone: bool = False,
        optimizer: OptimizerCallable = adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        class_weights: ClassWeights = None,
        lr_scheduler_interval: Interval | None = None,
    ) -> None:
        super().__init__(
            network, num_classes, beta, label_smoothing, head_lr, compile_backbone, optimizer, lr_scheduler,
            class_weights, lr_scheduler_interval,
        )  # fmt: skip
        self.source, self.filters = source, filters
        if filters_per_class is not None:
            self.build(filters_per_class)

    def build(self, filters_per_class: int) -> None:
        """Make the classifier for k2 filters a class; its values come later."""
        backbone: Any = build_backbone(self.network)
        self.model = Classifier(backbone, DecomposedHead(backbone.num_features, self.num_classes, filters_per_class))
        self.save_hyperparameters({"filters_per_class": filters_per_class}, logger=False)

    def needs(self) -> list[tuple[str, str]]:
        """The phases of the classifier and of its filters."""
        return [(self.source, "a classifier"), (self.filters, "filters")]

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Take the classifier and the filters."""
        source = load_classifier(self.folder(earlier, self.source))
        path = self.folder(earlier, self.filters) / "filters.pt"
        if not path.is_file():
            raise UserError(f"{path}: the phase {self.filters!r} left no filters")
        filters: Tensor = torch.load(path, weights_only=True)["filters"]
        self.build(filters.shape[1])
        self.model.backbone.load_state_dict(source.model.backbone.state_dict())
        head: Any = self.model.head
        head.fill(filters, *(value.detach() for value in source.model.head.class_weights()))


class Retrain(Decompose):
    """Retrain a decomposed classifier.

    Args:
        network: the network in plain values.
        num_classes: C; the data's.
        filters_per_class: k2; taken from the decomposed stage where None.
        source: name of the phase whose decomposed classifier is retrained.
        trained: `network`: all of it, as the authors do; `last_layer`: only the k2 weights and the bias of every
            class, with the backbone and its running statistics as they are.
        beta: weight of the feature-diversity loss; the authors have none.
        label_smoothing: of the cross-entropy, in [0, 1).
        head_lr: a learning rate of its own for the last layer.
        compile_backbone: `torch.compile` the backbone in place.
        optimizer: factory of the optimizer; the default is the authors' Adam, 1e-4.
        lr_scheduler: factory of the schedule.
        lr_scheduler_interval: `epoch` or `step`; None follows the schedule.
        class_weights: of the training loss: "balanced", one number per class, or none.

    Source: arXiv 2112.07719 and its code: one epoch, batches of 64, crop and flip.
    """

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        num_classes: int,
        filters_per_class: int | None = None,
        source: str = "decompose",
        trained: Literal["network", "last_layer"] = "network",
        beta: float = 0.0,
        label_smoothing: float = 0.0,
        head_lr: float | None = None,
        compile_backbone: bool = False,
        optimizer: OptimizerCallable = adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        class_weights: ClassWeights = None,
        lr_scheduler_interval: Interval | None = None,
    ) -> None:
        self.trained = trained
        super().__init__(
            network,
            num_classes,
            filters_per_class,
            source,
            beta=beta,
            label_smoothing=label_smoothing,
            head_lr=head_lr,
            compile_backbone=compile_backbone,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            class_weights=class_weights,
            lr_scheduler_interval=lr_scheduler_interval,
        )
        self.save_hyperparameters({"trained": trained}, logger=False)

    def build(self, filters_per_class: int) -> None:
        """Make the classifier for k2 filters a class, frozen but for its last layer where that is asked for."""
        super().build(filters_per_class)
        self.model.backbone.requires_grad_(self.trained == "network")

    def needs(self) -> list[tuple[str, str]]:
        """The phase of the decomposed classifier."""
        return [(self.source, "a decomposed classifier")]

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Take the decomposed classifier of the `source` phase."""
        path = self.folder(earlier, self.source) / "best.ckpt"
        decomposed = load_module(path)
        if not isinstance(decomposed, Decompose):
            raise UserError(f"{path}: holds no decomposed classifier, but {type(decomposed).__name__}")
        self.build(decomposed.hparams["filters_per_class"])
        self.model.load_state_dict(decomposed.model.state_dict())

    def on_train_epoch_start(self) -> None:
        """Keep the running statistics of a backbone that is not trained."""
        super().on_train_epoch_start()
        if self.trained == "last_layer":
            self.model.backbone.eval()


def load_classifier(folder: Path) -> ClassifierModule:
    """The classifier that a phase wrote as `best.ckpt`.

    Raises:
        UserError: the file is missing or holds none.
    """
    module = load_module(folder / "best.ckpt")
    if not isinstance(module, ClassifierModule):
        raise UserError(f"{folder / 'best.ckpt'}: holds no classifier, but {type(module).__name__}")
    return module


def write_grid(folder: Path, k1s: Sequence[float], k2s: Sequence[int], accuracy: Tensor, dense: float) -> None:
    """`grid.csv` with the columns `k1,k2,accuracy`, and `grid.png`."""
    rows = [
        (k1, k2, round(value, 4))
        for k1, row in zip(k1s, accuracy.tolist(), strict=True)
        for k2, value in zip(k2s, row, strict=True)
    ]
    write_csv(folder / "grid.csv", ("k1", "k2", "accuracy"), rows)
    figure = accuracy_grid_figure(k1s, k2s, accuracy, dense)
    attempt(figure, "grid.png", lambda: save_figure(figure, folder / "grid.png", dpi=120))
