"""What keeping freed memory and channels-last convolutions bring on a CPU, beside the same code without them.

`python -m benchmarks.cpu_speed` times training steps and evaluation of four networks, each in a process of its own,
before and after in turns; the machine must be idle. Ratios are of medians over the rounds, with the smallest and the
largest ratio of one round.
"""

import json
import os
import statistics
import subprocess
import sys
import time
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


def measure(backbone: str, batch: int, side: int, after: bool) -> dict[str, float]:
    """Seconds of a training step and of an evaluated batch in this process, and its peak memory in MiB."""
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
    for name, step in (("training", train), ("evaluation", evaluate)):
        model.train(name == "training")
        step()
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        row[name] = (time.perf_counter() - started) / STEPS
    return row | {"peak": peak_memory_mib(torch.device("cpu"))}


def in_process(backbone: str, batch: int, side: int, after: bool) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cpu_speed", "--one", backbone, str(batch), str(side), str(int(after))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def ratio(rounds: list[tuple[dict[str, float], dict[str, float]]], name: str) -> str:
    """Before over after: of the medians, and its spread."""
    single = [before[name] / after[name] for before, after in rounds]
    before, after = (statistics.median(pair[i][name] for pair in rounds) for i in (0, 1))
    return f"{before:.2f} → {after:.2f} | **{before / after:.2f}×** ({min(single):.2f}–{max(single):.2f})"


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--one", nargs=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.one:
        backbone, batch, side, after = options.one
        print(json.dumps(measure(backbone, int(batch), int(side), after == "1")))
        return
    lines = [
        f"{options.rounds} rounds, {STEPS} steps each; seconds; load before: {os.getloadavg()[0]:.2f}.",
        "",
        "| network | training step | ratio | evaluated batch | ratio | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for backbone, batch, side in NETWORKS:
        rounds: list[tuple[Any, Any]] = []
        for number in range(options.rounds):
            first = bool(number % 2)  # neither is always first
            pair = {after: in_process(backbone, batch, side, after) for after in (first, not first)}
            rounds.append((pair[False], pair[True]))
        before, after = (statistics.median(pair[i]["peak"] for pair in rounds) for i in (0, 1))
        lines.append(
            f"| {backbone}, {batch} × {side} px | {ratio(rounds, 'training')} | {ratio(rounds, 'evaluation')} | "
            f"{before:.0f} → {after:.0f} MiB ({100 * (after / before - 1):+.0f} %) |"
        )
        print(lines[-1], flush=True)
    write_section("CPU steps, before and after (`python -m benchmarks.cpu_speed`)", lines)


if __name__ == "__main__":
    main()
