"""What the class filters cost: the pass over the features, and the decomposed head beside the dense one.

    python -m benchmarks.filters

The things compared take turns in one run; ratios are medians over the turns, with their quartiles.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.filters import StatisticsCollector
from handful.networks import build_classifier
from handful.networks.decomposed import DecomposedHead
from handful.networks.heads import DenseHead


def seconds(work: Callable[[], object], repeat: int = 1) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - started) / repeat


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = torch.tensor(values, dtype=torch.float64).quantile(
        torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    )
    return float(low), float(middle), float(high)


def histogram_pass(backbone: str, classes: int, size: int, batch: int, turns: int) -> str:
    """The collector's time as a share of the forward pass that feeds it."""
    model = build_classifier({"backbone": backbone}, classes).eval()
    collector = StatisticsCollector(classes, model.num_features, (5,))
    images, labels = torch.randn(batch, 3, size, size), torch.arange(batch) % classes
    shares, forwards = [], []
    with torch.inference_mode():
        for turn in range(turns + 1):
            forward = seconds(lambda: model.features(images))
            features = model.features(images)
            collect = seconds(lambda features=features: collector.update(features, labels), 5)  # type: ignore[misc]
            if turn:  # the first turn warms up
                shares.append(100 * collect / forward)
                forwards.append(1000 * forward / batch)
    low, middle, high = quartiles(shares)
    return (
        f"| {backbone}, {size}×{size}, batch {batch} | {model.num_features} | {classes} | "
        f"{quartiles(forwards)[1]:.2f} | {middle:.2f} ({low:.2f} to {high:.2f}) |"
    )


def heads(classes: int, width: int, k2: int, batch: int, turns: int) -> str:
    """Dense and decomposed head in turns: forward, and forward with backward."""
    generator = torch.Generator().manual_seed(0)
    dense = DenseHead(width, classes)
    filters = torch.rand(classes, width, generator=generator).argsort(dim=1)[:, :k2]
    decomposed = DecomposedHead.from_dense(*dense.class_weights(), filters)
    features = torch.rand(batch, width, generator=generator)

    def forward(head: nn.Module) -> Tensor:
        with torch.no_grad():
            return head(features)

    def both_ways(head: nn.Module) -> None:
        head(features.requires_grad_()).sum().backward()

    cells = []
    for work in (forward, both_ways):
        times: dict[nn.Module, list[float]] = {dense: [], decomposed: []}
        repeat = max(1, int(0.02 / seconds(lambda work=work: work(dense), 3)))  # type: ignore[misc]
        for turn in range(turns + 1):
            for head, taken in times.items():
                value = seconds(lambda work=work, head=head: work(head), repeat)  # type: ignore[misc]
                if turn:
                    taken.append(value)
        ratios = [d / s for d, s in zip(times[dense], times[decomposed], strict=True)]
        low, middle, high = quartiles(ratios)
        micro = [1e6 * quartiles(times[head])[1] for head in (dense, decomposed)]
        cells.append(f"{micro[0]:.0f} | {micro[1]:.0f} | {middle:.2f} ({low:.2f} to {high:.2f})")
    saved = classes * width / decomposed.multiplications
    return (
        f"| {classes} | {width} | {k2} | {batch} | {classes * width} | {decomposed.multiplications} | {saved:.1f} | "
        f"{' | '.join(cells)} |"
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    lines = [
        "The pass that collects the statistics, beside the forward pass that feeds it:",
        "",
        "| network | F | C | forward, ms an image | collecting, % of the forward pass |",
        "|---|---|---|---|---|",
        histogram_pass("cifar_resnet20", 10, 32, 64, turns),
        histogram_pass("cifar_resnet20", 10, 32, 250, turns),
        histogram_pass("resnet50", 1000, 224, 16, max(3, turns // 3)),
    ]
    write_section("Class filters: the pass over the features (`python -m benchmarks.filters`)", lines)
    print("\n".join(lines))
    lines = [
        "Multiplications are those of one image; times are microseconds a batch; a ratio above 1 says that the "
        "decomposed head is the faster one.",
        "",
        "| C | F | k2 | batch | dense, mult. | decomposed, mult. | fewer by | forward: dense | decomposed | ratio | "
        "forward and backward: dense | decomposed | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(heads(1000, 2048, 10, batch, turns) for batch in (1, 64, 256)),
        *(heads(1000, 2048, k2, 64, turns) for k2 in (50, 200, 1000)),
        *(heads(10, 64, 5, batch, turns) for batch in (1, 64)),
    ]
    write_section("Class filters: decomposed and dense head (`python -m benchmarks.filters`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
