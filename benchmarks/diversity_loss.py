"""What L_div does: the same pipeline with and without it, same seeds, on a folder of real images.

`python -m benchmarks.diversity_loss --data cub100.zip --runs FOLDER` trains two pipelines a seed (a run that FOLDER
holds already is read, not repeated) and writes diversity@5 and accuracy of every stage.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.results import write_section
from pipelines.parse import QUICKSTART, parse_pipeline
from pipelines.runner import Runner

CONFIG = QUICKSTART.parent / "sldd" / "photos.yaml"
SEEDS = (0, 1, 2)
BETAS = (0.196, 0.0)
STAGES = ("dense", "sparse", "finetuned")


def stages(data: Path, runs: Path, seed: int, beta: float) -> dict[str, Any]:
    """The rows of one run."""
    folder = runs / f"seed{seed}_beta{beta:g}"
    results = folder / "results.json"
    if not results.is_file():
        arguments = ["--config", str(CONFIG), "--data.root", str(data), "--run_dir", str(folder), "--seed", str(seed)]
        for phase in ("dense", "finetune"):
            arguments += [f"--phases.{phase}.module.beta", str(beta)]
        pipeline, _ = parse_pipeline([*arguments, "--wandb.mode", "disabled", "--trainer.enable_progress_bar", "false"])
        Runner(pipeline).run()
    rows: dict[str, Any] = json.loads(results.read_text())["stages"]
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    default = Path(os.environ.get("HANDFUL_DATA", ".")) / "cub100.zip"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--runs", type=Path, default=Path("runs/diversity_loss"))
    options = parser.parse_args()
    lines = [
        f"`{CONFIG.relative_to(QUICKSTART.parent.parent)}` on {options.data.name}; test images.",
        "",
        "| seed | L_div | " + " | ".join(f"{stage}: accuracy | diversity@5" for stage in STAGES) + " |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed in SEEDS:
        for beta in BETAS:
            rows = stages(options.data, options.runs, seed, beta)
            cells = [f"{rows[stage]['accuracy']:.2f} | {rows[stage]['diversity@5']:.3f}" for stage in STAGES]
            lines.append(f"| {seed} | {'β = 0.196' if beta else 'without'} | {' | '.join(cells)} |")
    write_section("L_div on real images (`python -m benchmarks.diversity_loss`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
