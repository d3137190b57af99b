"""What the callbacks that are on by default cost: epochs of the quickstart with all of them against none.

`python -m benchmarks.dashboards` trains the quickstart's dense phase in processes of their own, in turns: without
callbacks, with them, and with them and an offline W&B run. The machine must be idle. A ratio is of a round's two
processes; given are the median over the rounds, the smallest and the largest.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import lightning.pytorch as pl

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section

#: Kinds of a round, and whether each has callbacks and W&B.
KINDS = {"none": (False, False), "callbacks": (True, False), "callbacks and W&B": (True, True)}


class EpochSeconds(pl.Callback):
    """Keeps wall and CPU seconds from the first epoch's start to the last one's end, validation included."""

    measures = ()
    found: tuple[float, float] = (0.0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._started = time.perf_counter(), time.process_time()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop them."""
        wall, cpu = self._started
        EpochSeconds.found = time.perf_counter() - wall, time.process_time() - cpu


def measure(kind: str, epochs: int) -> dict[str, float]:
    """Wall and CPU seconds of all epochs, in this process."""
    from pipelines.parse import parse_pipeline
    from pipelines.permitted_classes import trusting
    from pipelines.plain_options import QUICKSTART
    from pipelines.runner import Runner

    watched, dashboard = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder, trusting(["benchmarks"]):
        given = ["--config", str(QUICKSTART), "--run_dir", f"{folder}/run", "--trainer.enable_progress_bar", "false"]
        pipeline, _ = parse_pipeline([*given, "--phases.dense.max_epochs", str(epochs), "--wandb.mode", "offline"])
        pipeline.loggers = "wandb" if dashboard else "csv"
        phase = pipeline.phases["dense"]
        phase.callbacks = [
            {"class_path": "benchmarks.dashboards.EpochSeconds"}, *(phase.callbacks if watched else [])
        ]  # fmt: skip
        pipeline.phases = {"dense": phase}
        Runner(pipeline).run()
    # this module is __main__ here, and the callback's is imported by its name
    wall, cpu = sys.modules["benchmarks.dashboards"].EpochSeconds.found
    return {"wall": wall, "cpu": cpu}


def in_process(kind: str, epochs: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.dashboards", "--one", kind, "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(kind, row, flush=True)
    return row


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--one", choices=KINDS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10, help="of the quickstart's dense phase, which has 10")
    parser.add_argument("--dry_run", action="store_true", help="print only, for a machine that is not idle")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.epochs)))
        return
    load = os.getloadavg()[0]
    in_process("none", 1)  # draws the birds
    rounds = []
    for number in range(options.rounds):
        order = list(KINDS)[number % 3 :] + list(KINDS)[: number % 3]  # none is always first
        rounds.append({kind: in_process(kind, options.epochs) for kind in order})
    lines = [
        f"Dense phase of the quickstart, {options.epochs} epochs with validation, {options.rounds} rounds; "
        f"load before: {load:.2f}.",
        "",
        "| | seconds an epoch | wall, against none | CPU seconds, against none |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        seconds = statistics.median(one[kind]["wall"] for one in rounds) / options.epochs
        cells = []
        for clock in ("wall", "cpu"):
            ratios = [one[kind][clock] / one["none"][clock] for one in rounds]
            cells.append(f"**{statistics.median(ratios):.3f}** ({min(ratios):.3f}–{max(ratios):.3f})")
        lines.append(f"| {kind} | {seconds:.2f} | {' | '.join(cells)} |")
    print("\n".join(lines))
    if not options.dry_run:
        write_section("Callbacks and dashboards (`python -m benchmarks.dashboards`)", lines)


if __name__ == "__main__":
    main()
