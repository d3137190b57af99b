"""Find the filters of every class of a trained classifier ("Decomposing the Deep")."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

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
from handful.filters.statistics import with_weights_of_absent
from handful.networks import Classifier
from handful.progress import amount
from handful.report.class_filters import accuracy_grid_figure, draw_class_filters
from handful.report.csv_file import write_csv
from handful.report.figures import save_figure
from handful.report.log_and_skip import attempt
from handful.text import safe_text
from lightning_modules import ClassifierModule, Input, load_classifier
from lightning_modules.checkpoints import write_tensors
from lightning_modules.trained_module import folder_of
from pipelines.phases.base import Phase, Produced
from pipelines.phases.context import Context
from pipelines.phases.dashboards import log_picture, log_points, log_table


class FindFilters(Phase):
    """Find the filters of every class of a trained classifier, from one pass over the training images.

    The images are un-augmented, the network is in evaluation mode and float32. A second pass, over the test
    images, fills the grid of accuracies over k1 × k2 and puts noise on the filters. Writes into the phase's
    folder: `filters.pt` (filters and statistics), `filters.json` (the filters of every class, readable),
    `grid.csv` (`k1,k2,accuracy`: test accuracy in per cent before retraining), `grid.png`, `essentiality.json`
    and `pictures/NNN.png`, one per class.

    Args:
        k1: strongest features counted per image; or, in (0, 1), the share of the L1 mass they carry.
        k2: filters that a class keeps.
        rule: how a class chooses: `frequency` (the paper's), `contribution`, `activation`, `weight` or
            `absolute_weight`.
        source: name of the phase whose classifier is looked at.
        labels: `true` classes of the images, or those that the classifier `predicted`, for images of which no class is
            known; every accuracy is then the share of images whose prediction stays.
        absent: what happens to a class without training images: `refuse`, or `weight`, which gives it the filters of
            its largest weights.
        grid_k1: rows of the grid; values above the number of features are left out. Empty: no grid.
        grid_k2: columns of the grid, likewise.
        images_per_filter: images drawn per filter; 0 draws none.
        drawn_classes: how many classes are drawn, from the first that has images.
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
        labels: Literal["true", "predicted"] = "true",
        absent: Literal["refuse", "weight"] = "refuse",
    ) -> None:
        self.k1, self.k2, self.rule = k1, k2, rule
        self.source = source
        self.grid_k1, self.grid_k2 = list(grid_k1), list(grid_k2)
        self.images_per_filter, self.drawn_classes = images_per_filter, drawn_classes
        self.seed = seed
        self.labels, self.absent = labels, absent
        self._classifier: ClassifierModule | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phase whose classifier is looked at."""
        return (Input(self.source, "a classifier"),)

    def check(self, classifier: Classifier) -> None:
        """Refuse k1 and k2 out of range."""
        check_k1(self.k1, classifier.num_features)
        if not 1 <= self.k2 <= classifier.num_features:
            raise UserError(f"k2 must lie in 1…{classifier.num_features}, the backbone's features; got {self.k2}")

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the classifier of the `source` phase."""
        self._classifier = load_classifier(folder_of(earlier, self.source) / "best.ckpt")
        self.check(self._classifier.model)

    def run(self, context: Context) -> Produced:
        """Two passes, then files. A search cut short starts over: it has no state worth keeping."""
        classifier = self._classifier or load_classifier(folder_of(context.earlier, self.source) / "best.ckpt")
        model = classifier.model
        statistics, strongest = self._statistics(context, classifier)
        weight, bias = (value.detach().cpu() for value in model.head.class_weights())
        seen = statistics.images > 0
        deciding = with_weights_of_absent(statistics, weight) if self.absent == "weight" else statistics
        filters = select_filters(self.rule, self.k2, deciding, weight, self.k1)
        grid = self._empty_grid(deciding, weight, bias, model.num_features)
        essentiality = self._test(context, model, EssentialityTest(model.head, filters, model.num_features, self.seed),
                                  grid)
        accuracy = None if grid is None else grid.compute().cpu()
        if context.is_rank_zero:
            folder = context.folder.path
            names = list(context.datamodule.class_names)
            write_tensors({"filters": filters, "statistics": statistics.state()}, folder / "filters.pt")
            self._write_json(folder, filters, statistics, weight, names)
            write_json(folder / "essentiality.json", essentiality)
            if grid is not None and accuracy is not None:
                cells = _write_grid(folder, grid.k1s, grid.k2s, accuracy, essentiality["clean"])
                log_table(context, "grid", ["k1", "k2", "accuracy"], cells)
                log_picture(context, "accuracy_grid", folder / "grid.png")
            noise = {name if name == "clean" else f"noise_on_{name}": value for name, value in essentiality.items()}
            log_points(context, "filters", [noise | {"union": union_size(filters[seen])}])
            frequencies = statistics.frequencies(self.k1)
            log_table(context, "class_filters", ["class", "filters"], [
                [safe_text(name), ", ".join(f"{f} ({frequencies[c, f]:.0%})" for f in filters[c].tolist())]
                for c, name in enumerate(names) if seen[c]
            ])  # fmt: skip
            if strongest is not None:
                drawn = seen.nonzero()[:, 0].tolist()[: self.drawn_classes]
                self._draw(context, model, filters, strongest, statistics.frequencies(self.k1), names, drawn)
            what = "test accuracy" if self.labels == "true" else "test images whose prediction stays"
            without = amount(int((~seen).sum()), "classes")
            absent = "" if bool(seen.all()) else f" (by their weights for {without} without images)"
            rank_zero_info(
                f"filters: {self.k2} per class{absent}, {union_size(filters[seen])} of {model.num_features} features "
                f"in all; {what} {essentiality['clean']:.2f} %, with noise instead of these filters "
                f"{essentiality['filters']:.2f} %, instead of as many others "
                f"{essentiality['as_many_others']:.2f} %"
            )
        return Produced()

    def _statistics(
        self, context: Context, classifier: ClassifierModule
    ) -> tuple[FeatureStatistics, Tensor | None]:
        """Statistics of the training images' features, and the indices of the strongest images per feature."""
        model, device = classifier.model, context.trainer.strategy.root_device
        k1s = sorted({check_k1(k1, model.num_features) for k1 in (self.k1, *self.grid_k1) if k1 <= model.num_features})
        collector = StatisticsCollector(classifier.num_classes, model.num_features, k1s).to(device)
        images = StrongestImages(model.num_features, self.images_per_filter) if self.images_per_filter else None
        if images is not None:
            images.to(device)

        def count(features: Tensor, labels: Tensor, indices: Tensor) -> None:
            collector.update(features, self._classes(model, features, labels))
            if images is not None:
                images.update(features, indices)

        context.each_batch(model, context.datamodule.plain_train_dataloader(), count)
        statistics: FeatureStatistics = collector.compute()
        return statistics, None if images is None else images.compute()[1].cpu()

    def _empty_grid(
        self, statistics: FeatureStatistics, weight: Tensor, bias: Tensor, num_features: int
    ) -> AccuracyGrid | None:
        rows, columns = ([k for k in ks if k <= num_features] for ks in (self.grid_k1, self.grid_k2))
        if not rows or not columns:
            return None
        return AccuracyGrid(weight, bias, statistics.only(rows), [int(k2) for k2 in columns])

    def _classes(self, model: Classifier, features: Tensor, labels: Tensor) -> Tensor:
        """The classes that count as the images' own."""
        return labels if self.labels == "true" else model.head(features).argmax(dim=1)

    def _test(
        self, context: Context, model: Classifier, essentiality: EssentialityTest, grid: AccuracyGrid | None
    ) -> dict[str, float]:
        """Fill the grid and the noise test with the test images; the accuracies of the noise test."""
        device = context.trainer.strategy.root_device
        essentiality.to(device)
        if grid is not None:
            grid.to(device)

        def test(features: Tensor, labels: Tensor, indices: Tensor) -> None:
            labels = self._classes(model, features, labels)
            essentiality.update(features, labels, indices)
            if grid is not None:
                grid.update(features, labels)

        context.each_batch(model, context.datamodule.test_dataloader(), test)
        return essentiality.compute()

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
            if statistics.images[c]
        }
        head = {"k1": self.k1, "k2": self.k2, "rule": self.rule, "union": union_size(filters)}
        write_json(folder / "filters.json", {**head, "classes": classes})

    def _draw(
        self,
        context: Context,
        model: Classifier,
        filters: Tensor,
        strongest: Tensor,
        frequencies: Tensor,
        names: list[str],
        drawn: Sequence[int],
    ) -> None:
        pictures, data = context.folder.path / "pictures", context.datamodule
        pictures.mkdir(exist_ok=True)
        figures = draw_class_filters(
            model.eval(), data.plain_train_dataset, filters, strongest, names, frequencies, data.mean, data.std, drawn
        )

        def draw() -> None:
            for c, figure in figures:
                save_figure(figure, pictures / f"{c:03d}.png", dpi=110)

        attempt(self, "the pictures of the class filters", draw)


def _write_grid(
    folder: Path, k1s: Sequence[float], k2s: Sequence[int], accuracy: Tensor, dense: float
) -> list[tuple[float, int, float]]:
    """Write `grid.csv` with the columns `k1,k2,accuracy`, and `grid.png`; the rows."""
    rows = [
        (k1, k2, round(value, 4))
        for k1, row in zip(k1s, accuracy.tolist(), strict=True)
        for k2, value in zip(k2s, row, strict=True)
    ]
    write_csv(folder / "grid.csv", ("k1", "k2", "accuracy"), rows)
    figure = accuracy_grid_figure(k1s, k2s, accuracy, dense)
    attempt(figure, "grid.png", lambda: save_figure(figure, folder / "grid.png", dpi=120))
    return rows
