"""The numbers of "Decomposing the Deep" before retraining, on CIFAR-10 with the public ResNet-20.

    HANDFUL_DATA=folder python -m benchmarks.filters_cifar10

The folder holds `cifar10.zip` and `resnet20_cifar10.pth`. One pass over the un-augmented training images and one over
the test images for each of two normalisations; everything else is worked out from the pooled features.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from datamodules.image_folder import ImageFolder
from handful.filters import (
    RULES,
    AccuracyGrid,
    EssentialityTest,
    FeatureStatistics,
    StatisticsCollector,
    concentration,
    pairwise_information,
    select_filters,
    union_size,
)
from handful.networks import Classifier, build_classifier, load_weights
from handful.networks.decomposed import DecomposedHead

NORMALISATIONS: dict[str, Any] = {
    "ImageNet's": "imagenet",
    "CIFAR-10's": {"mean": [0.491, 0.482, 0.447], "std": [0.247, 0.243, 0.261]},
}
K1S = (1, 3, 5, 10, 20, 30, 64)
K2S = (1, 2, 3, 5, 8, 10, 15, 20, 30, 64)
SHARES = (0.25, 0.5)
RULE_KS = (1, 3, 5, 10, 20)
RANDOM_SETS = 20


@torch.inference_mode()
def features(model: Classifier, loader: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    parts = [(model.features(images), labels) for images, labels in tqdm(loader, "Features", leave=False)]
    return torch.cat([f for f, _ in parts]).clone(), torch.cat([y for _, y in parts])


def accuracy(head: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return 100 * float((head(x).argmax(dim=1) == y).double().mean())


def grid_lines(weight: Tensor, bias: Tensor, statistics: FeatureStatistics, x: Tensor, y: Tensor) -> list[str]:
    grid = AccuracyGrid(weight, bias, statistics, K2S)
    grid.update(x, y)
    rows = zip(grid.k1s, grid.compute().tolist(), strict=True)
    return [
        f"| k1 \\ k2 | {' | '.join(map(str, K2S))} |",
        "|---" * (len(K2S) + 1) + "|",
        *(f"| {k1:g} | {' | '.join(f'{value:.2f}' for value in row)} |" for k1, row in rows),
    ]


def rule_lines(weight: Tensor, bias: Tensor, statistics: FeatureStatistics, x: Tensor, y: Tensor) -> list[str]:
    lines = [f"| rule (k1 = k2) | {' | '.join(map(str, RULE_KS))} |", "|---" * (len(RULE_KS) + 1) + "|"]
    for rule in RULES:
        heads = (
            DecomposedHead.from_dense(weight, bias, select_filters(rule, k, statistics, weight, k)) for k in RULE_KS
        )
        lines.append(f"| {rule} | {' | '.join(f'{accuracy(head, x, y):.2f}' for head in heads)} |")
    generator = torch.Generator().manual_seed(0)
    cells = []
    for k in RULE_KS:
        drawn = [torch.rand(weight.shape, generator=generator).argsort(dim=1)[:, :k] for _ in range(RANDOM_SETS)]
        values = torch.tensor([accuracy(DecomposedHead.from_dense(weight, bias, f), x, y) for f in drawn])
        cells.append(f"{float(values.mean()):.1f} ± {float(values.std()):.1f}")
    return [*lines, f"| {RANDOM_SETS} random sets (± standard deviation) | {' | '.join(cells)} |"]


def about(model: Classifier, statistics: FeatureStatistics, train: Tensor, x: Tensor, y: Tensor) -> list[str]:
    weight = model.head.class_weights()[0].detach()
    filters = select_filters("frequency", 5, statistics, k1=5)
    test = EssentialityTest(model.head, filters, 64)
    test.update(x, y, torch.arange(len(y)))
    noise = test.compute()
    top = {n: 100 * concentration(statistics.counts_of(5), n) for n in (5, 10)}
    norms = weight.abs().sum(dim=1)
    return [
        f"- features that are not negative: {100 * float((train >= 0).double().mean()):.1f} %; weights above zero: "
        f"{100 * float((weight > 0).double().mean()):.1f} %; L1 norm of a class's weights: "
        f"{float(norms.min()):.1f} to {float(norms.max()):.1f}",
        f"- the 5 highest bins of a class's histogram (k1 = 5) hold {float(top[5].min()):.0f} to "
        f"{float(top[5].max()):.0f} % of its counts, the 10 highest {float(top[10].min()):.0f} to "
        f"{float(top[10].max()):.0f} %",
        f"- filters of any class (k1 = k2 = 5): {union_size(filters)} of 64 features; mutual information between "
        f"the sets of two classes, mean: {pairwise_information(filters, 64):.4f} bits",
        f"- accuracy with noise from N(0, 1) in the place of the class's 5 filters: {noise['filters']:.2f} %; of 5 "
        f"other features: {noise['as_many_others']:.2f} %; of all 59 others: {noise['rest']:.2f} %",
    ]


def main() -> None:
    argument_parser(__doc__).parse_args()
    if not os.environ.get("HANDFUL_DATA"):
        sys.exit("HANDFUL_DATA must name the folder with cifar10.zip and resnet20_cifar10.pth")
    folder = Path(os.environ["HANDFUL_DATA"])
    model = build_classifier({"backbone": "cifar_resnet20", "dropout": 0.0}, 10)
    load_weights(model, folder / "resnet20_cifar10.pth", head=True)
    model.eval()
    weight, bias = (value.detach() for value in model.head.class_weights())
    lines = ["Test accuracy in per cent; filters from the un-augmented training images; nothing is retrained.", ""]
    for name, normalisation in NORMALISATIONS.items():
        data = ImageFolder(
            str(folder / "cifar10.zip"), 0.0, image_size=32, eval_batch_size=500, normalisation=normalisation
        )
        data.setup()
        train, labels = features(model, data.plain_train_dataloader())
        x, y = features(model, data.test_dataloader())
        collector = StatisticsCollector(10, 64, (*K1S, *SHARES))
        collector.update(train, labels)
        statistics = collector.compute()
        lines += [f"### {name} normalisation: dense {accuracy(model.head, x, y):.2f}", ""]
        lines += ["k1 below 1 is a share of the L1 mass.", "", *grid_lines(weight, bias, statistics, x, y), ""]
        lines += [*rule_lines(weight, bias, statistics, x, y), "", *about(model, statistics, train, x, y), ""]
    write_section("Class filters: CIFAR-10, public ResNet-20 (`python -m benchmarks.filters_cifar10`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
