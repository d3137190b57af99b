"""Class filters of an ImageNet network on photographs: of the classes it was trained for, and of its own thousand.

`python -m benchmarks.filters_photographs --run_dir RUN` takes the dense phase of a run on photographs with published
weights, such as one of `configs/sldd/photos_frozen.yaml`. Filters come from the training images, accuracies from the
test images. For the thousand classes of the published last layer nothing is known of the images: the classes are those
that the network predicts, and what is measured is the share of images whose prediction stays.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from datamodules.base import HandfulDataModule
from datamodules.imagenet_folder import imagenet_names
from handful.filters import (
    RULES,
    AccuracyGrid,
    EssentialityTest,
    FeatureStatistics,
    StatisticsCollector,
    select_filters,
)
from handful.filters.statistics import with_weights_of_absent
from handful.networks import DecomposedHead, Head
from lightning_modules import ClassifierModule, Dense
from pipelines.finished_run import Run
from pipelines.stored_features import features_of

KS = (5, 10, 20, 50, 100)
#: The filters of so many features are put to the noise test, and named.
K = 20

Pair = tuple[Tensor, Tensor]


def statistics_of(train: Pair, classes: int) -> FeatureStatistics:
    """Of the training images."""
    collector = StatisticsCollector(classes, train[0].shape[1], KS)
    for start in range(0, len(train[0]), 512):
        collector.update(train[0][start : start + 512], train[1][start : start + 512])
    return collector.compute()


@torch.no_grad()
def lines_of(head: Head, train: Pair, test: Pair) -> list[str]:
    """Accuracy over k1 and k2, by rule, and the noise test."""
    weight, bias = (value.detach() for value in head.class_weights())
    statistics = with_weights_of_absent(statistics_of(train, head.num_classes), weight)
    whole = 100 * float((head(test[0]).argmax(dim=1) == test[1]).double().mean())
    grid = AccuracyGrid(weight, bias, statistics, KS)
    grid.update(*test)
    lines = [f"All {weight.shape[1]:,} features: {whole:.2f} %.", "", "| k1 \\ k2 | " + " | ".join(map(str, KS)) + " |"]
    lines.append("|" + "---|" * (1 + len(KS)))
    lines += [f"| {k1} | " + _cells(row) + " |" for k1, row in zip(KS, grid.compute().tolist(), strict=True)]
    lines += ["", "| rule, k1 = k2 | " + " | ".join(map(str, KS)) + " |", "|" + "---|" * (1 + len(KS))]
    for rule in RULES:
        row = []
        for k in KS:
            small = DecomposedHead.from_dense(weight, bias, select_filters(rule, k, statistics, weight, k))
            row.append(100 * float((small(test[0]).argmax(dim=1) == test[1]).double().mean()))
        lines.append(f"| `{rule}` | {_cells(row)} |")
    essential = EssentialityTest(head, select_filters("frequency", K, statistics, weight, K), weight.shape[1])
    essential.update(*test, torch.arange(len(test[1])))
    found = essential.compute()
    lines += [
        "",
        f"With noise in the place of a class's {K} filters {found['filters']:.2f} %, in the place of as many others "
        f"{found['as_many_others']:.2f} %, of all others {found['rest']:.2f} %.",
    ]
    return lines


def _cells(values: Sequence[float]) -> str:
    return " | ".join(f"{value:.2f}" for value in values)


def features(module: ClassifierModule, data: HandfulDataModule) -> tuple[Pair, Pair]:
    """Of the training and the test images."""
    train, test = (features_of(module, module.model, data, split) for split in ("train", "test"))
    return (train[0].float(), train[1]), (test[0].float(), test[1])


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run_dir", required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(given.run_dir)
    data, module = run.datamodule(), run.load("dense")
    assert isinstance(module, ClassifierModule)
    train, test = features(module, data)
    trained = "trained" if module.train_backbone else "the backbone as published"
    lines = [
        f"{module.network.backbone} at {data.image_size} px, {trained}; {len(train[1]):,} training and "
        f"{len(test[1]):,} test images; per cent of the test images. "
        "`python -m benchmarks.filters_photographs --run_dir RUN`",
        "", f"### {data.num_classes} classes of the data", "", *lines_of(module.model.head.eval(), train, test),
    ]  # fmt: skip
    published = Dense(module.network, len(imagenet_names()), train_backbone=False, published_head=True)
    published.take({})
    head = published.model.head.eval()
    (train_features, _), (test_features, _) = features(published, data)
    with torch.no_grad():
        train, test = ((part, head(part).argmax(dim=1)) for part in (train_features, test_features))
    counts = torch.bincount(train[1], minlength=len(imagenet_names()))
    common = ", ".join(f"{imagenet_names()[c]} {int(counts[c])}" for c in counts.argsort(descending=True)[:8])
    lines += [
        "", "### The thousand classes that it was published with", "",
        f"The network takes the training images for {int((counts > 0).sum())} of ImageNet's classes (most often "
        f"{common}); per cent of test images whose predicted class stays.",
        "", *lines_of(head, train, test),
    ]  # fmt: skip
    write_section("Class filters on photographs", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
