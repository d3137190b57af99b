"""What keeping freed memory and channels-last convolutions bring on a CPU, beside the same code without them.

`python -m benchmarks.cpu_speed` times training steps and evaluation of four networks, each in a process of its own, as
`test`, `predict` and `explain` evaluate, and evaluation after training in the process that trained, as a phase's
validation does; before and after in turns. The machine must be idle. Ratios are of medians over the rounds, with the
smallest and the largest ratio of one round.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section

#: Backbone, batch size and side in pixels.
NETWORKS = [
    ("tf_efficientnet_lite0", 32, 224),
    ("resnet18", 32, 224),
    ("resnet50", 16, 224),
    ("cifar_resnet20", 128, 32),
]
STEPS = 4
#: What the processes do, one after the other.
PROCESSES = (("training", "validation"), ("evaluation",))


def measure(backbone: str, batch: int, side: int, after: bool, work: Sequence[str]) -> dict[str, float]:
    """Seconds of a training step or an evaluated batch in this process, and its peak memory in MiB."""
    if after:
        from handful.freed_memory import keep_freed_memory

        keep_freed_memory()
    import torch
    from torch.nn import functional

    from handful.losses import feature_diversity_loss
    from handful.networks import backbone as backbones
    from handful.networks import build_classifier
    from pipelines.peak_memory import peak_memory_mib

    if not after:
        vars(backbones)["for_convolutions"] = lambda images: images
    torch.manual_seed(0)
    model = build_classifier({"backbone": backbone, "image_size": side}, 100)
    optimizer = torch.optim.AdamW(model.parameters())
    images, labels = torch.randn(batch, 3, side, side), torch.arange(batch) % 100

    def train() -> None:
        maps = model.feature_maps(images)
        logits = model.head(model.pool(maps))
        maps, weight = model.head.deciding_maps(maps)
        loss = functional.cross_entropy(logits, labels) + 0.196 * feature_diversity_loss(maps, logits, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def evaluate() -> None:
        with torch.no_grad():
            model(images)

    row = {}
    for name in work:
        step = train if name == "training" else evaluate
        model.train(name == "training")
        step()
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        row[name] = (time.perf_counter() - started) / STEPS
    return row | {f"peak of {work[0]}": peak_memory_mib(torch.device("cpu"))}


def in_processes(backbone: str, batch: int, side: int, after: bool) -> dict[str, float]:
    """The same in processes of their own."""
    row: dict[str, float] = {}
    for work in PROCESSES:
        one = [backbone, str(batch), str(side), str(int(after)), ",".join(work)]
        command = [sys.executable, "-m", "benchmarks.cpu_speed", "--one", *one]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row |= json.loads(done.stdout.splitlines()[-1])
    return row


def ratio(rounds: list[tuple[dict[str, float], dict[str, float]]], name: str) -> str:
    """Before over after: of the medians, and its spread."""
    single = [before[name] / after[name] for before, after in rounds]
    before, after = (statistics.median(pair[i][name] for pair in rounds) for i in (0, 1))
    return f"{before:.2f} → {after:.2f} | **{before / after:.2f}×** ({min(single):.2f}–{max(single):.2f})"


def memory(rounds: list[tuple[dict[str, float], dict[str, float]]], name: str) -> str:
    """Peak memory before and after, medians."""
    before, after = (statistics.median(pair[i][name] for pair in rounds) for i in (0, 1))
    return f"{before:.0f} → {after:.0f} MiB ({100 * (after / before - 1):+.0f} %)"


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--one", nargs=5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.one:
        backbone, batch, side, after, work = options.one
        print(json.dumps(measure(backbone, int(batch), int(side), after == "1", work.split(","))))
        return
    lines = [
        f"{options.rounds} rounds, {STEPS} steps each; seconds; load before: {os.getloadavg()[0]:.2f}.",
        "",
        "| network | training step | ratio | evaluated batch | ratio | the same after training | ratio "
        "| peak memory, training | evaluation |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for backbone, batch, side in NETWORKS:
        rounds: list[tuple[Any, Any]] = []
        for number in range(options.rounds):
            first = bool(number % 2)  # neither is always first
            pair = {after: in_processes(backbone, batch, side, after) for after in (first, not first)}
            rounds.append((pair[False], pair[True]))
        cells = [*(ratio(rounds, name) for name in ("training", "evaluation", "validation")),
                 *(memory(rounds, f"peak of {work[0]}") for work in PROCESSES)]  # fmt: skip
        lines.append(f"| {backbone}, {batch} × {side} px | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    write_section("CPU steps, before and after (`python -m benchmarks.cpu_speed`)", lines)


if __name__ == "__main__":
    main()
