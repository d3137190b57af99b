"""Seconds and peak memory by phase, and what the runner costs beside a plain PyTorch loop.

`python -m benchmarks.pipeline` measures the quickstart and the runner's overhead; `--cifar10 FOLDER` (or HANDFUL_DATA),
a folder with `cifar10.zip` and `resnet20_cifar10.pth`, adds CIFAR-10 with ResNet-20.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.nn import functional

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.losses import feature_diversity_loss
from handful.networks import build_classifier
from pipelines.build import build_datamodule
from pipelines.config import Pipeline
from pipelines.parse import parse_pipeline
from pipelines.plain_options import QUICKSTART
from pipelines.runner import Runner

ROUNDS = 7
EPOCHS = 3


def by_phase(arguments: list[str]) -> list[str]:
    """Run a pipeline and tell seconds and peak memory of each phase."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline, _ = parse_pipeline([*arguments, "--run_dir", f"{folder}/run", "--wandb.mode", "disabled"])
        results = Runner(pipeline).run()
    lines = ["| phase | seconds | peak memory, MiB |", "|---|---|---|"]
    lines += [f"| {n} | {s:.1f} | {results['peak_memory_mib'][n]:.0f} |" for n, s in results["seconds"].items()]
    lines += ["", "| stage | accuracy | features | a class |", "|---|---|---|---|"]
    lines += [
        f"| {stage} | {row['accuracy']:.2f} | {row['n_features']} | {row['features_per_class']:.2f} |"
        for stage, row in results["stages"].items()
    ]
    return lines


def plain_loop(pipeline: Pipeline) -> float:
    """Seconds that the same training takes as a loop anybody would write: no checkpoint, no log."""
    pl.seed_everything(0, verbose=False)
    data = build_datamodule(pipeline.data)
    phase = pipeline.phases["dense"]
    arguments: dict[str, Any] = phase.module["init_args"]["optimizer"]["init_args"]
    model = build_classifier(pipeline.network, data.num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments["lr"], weight_decay=arguments["weight_decay"])
    train, val = data.train_dataloader(), data.val_dataloader()
    started = time.perf_counter()
    for _ in range(phase.max_epochs):
        model.train()
        for images, labels in train:
            maps = model.feature_maps(images)
            logits = model.head(model.pool(maps))
            diversity = feature_diversity_loss(maps, logits, model.head.linear.weight)  # type: ignore[union-attr, arg-type]
            loss = functional.cross_entropy(logits, labels) + 0.196 * diversity
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for images, labels in val:
                functional.cross_entropy(model(images), labels)
    return time.perf_counter() - started


def runner(pipeline: Pipeline) -> float:
    """Seconds that the phase takes in the runner: all checks, Trainer, checkpoints, metrics and CSV included."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline.run_dir = f"{folder}/run"
        pipeline.wandb.mode = "disabled"
        started = time.perf_counter()
        Runner(pipeline).run()
        return time.perf_counter() - started


def overhead() -> list[str]:
    """The runner against the plain loop, alternating in one process."""
    arguments = ["--config", str(QUICKSTART), "--phases.dense.max_epochs", str(EPOCHS)]
    pipeline, _ = parse_pipeline([*arguments, "--trainer.enable_progress_bar", "false"])
    pipeline.phases = {"dense": pipeline.phases["dense"]}
    pipeline.phases["dense"].callbacks = []
    plain_loop(pipeline)  # draws the pictures and warms the caches
    ratios = []
    for round_ in range(ROUNDS):
        pair = [("plain", plain_loop), ("runner", runner)][:: 1 if round_ % 2 == 0 else -1]
        seconds = {name: measure(pipeline) for name, measure in pair}
        ratios.append(seconds["runner"] / seconds["plain"])
        print(json.dumps(seconds), flush=True)
    return [
        f"Dense phase of the quickstart, {EPOCHS} epochs with validation, {ROUNDS} alternating rounds on an "
        "otherwise idle machine, wall seconds, building and checking the whole pipeline included in the runner's:",
        "",
        f"runner / plain loop = **{statistics.median(ratios):.3f}** (from {min(ratios):.3f} to {max(ratios):.3f})",
    ]


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--cifar10",
        type=Path,
        default=os.environ.get("HANDFUL_DATA"),
        help="folder with cifar10.zip and resnet20_cifar10.pth",
    )
    options = parser.parse_args()
    lines = ["### The runner's overhead", "", *overhead(), "", "### Quickstart", "", *by_phase([])]
    if options.cifar10:
        config = QUICKSTART.parent / "sldd" / "cifar10_resnet20.yaml"
        arguments = ["--config", str(config), "--data.root", f"{options.cifar10}/cifar10.zip"]
        arguments += ["--init_from", f"{options.cifar10}/resnet20_cifar10.pth"]
        lines += ["", "### CIFAR-10, public ResNet-20", "", *by_phase(arguments)]
    write_section("Pipeline: time, memory, overhead", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
