"""SLDD, Q-SENN, QPM and CHiQPM on one dense training, several seeds.

`python -m benchmarks.heads --runs FOLDER --data cub100.zip --seeds 0,1,2` on photographs, `--recipe photos_adapter` on
photographs with an adapter behind a frozen backbone, or `--recipe quickstart` on toy birds. Every head starts from the
finished dense phase of the SLDD run of its seed, FOLDER/seedN_as_configured (which `benchmarks.photographs` leaves, and
`--heads sldd` trains), by the pipeline's own `--phases_from`: a phase that is not the same by its record and digests is
refused. Q-SENN's rounds share the epochs that the others have for finetuning, in the paper's proportion 1 : 1 : 1 : 4.
Finished phases are skipped; `--only_report` writes the tables of what is finished. Rows of runs that are gone stay in
the tables where they were trained with the same options. Options of the pipeline follow behind `--`:
`-- --data.image_size 160`.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arguments import argument_parser
from benchmarks.heads_table import HEADS, NAMES, Found, Table, lines_of, table_in, table_of
from benchmarks.results import section_of, shown, write_section
from handful.errors import UserError
from pipelines.config import Pipeline
from pipelines.evaluate import evaluate
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner

CONFIGS = Path(__file__).parent.parent / "configs"
#: How many epochs of Q-SENN's 70 each of its rounds has.
ROUNDS = (10, 10, 10, 40)
MEASURES = ("sid", "class_independence", "contrastiveness", "alignment", "structural_grounding")
#: k of SID@k: the features that a class has.
K = {"photos": 5, "photos_adapter": 5, "quickstart": 3}
#: Default folder of the runs, by recipe.
RUNS = {"photos": "photographs", "photos_adapter": "heads_adapter", "quickstart": "heads_quickstart"}


def config_of(head: str, recipe: str) -> Path:
    """The config of a head."""
    own = CONFIGS if (head, recipe) == ("sldd", "quickstart") else CONFIGS / head
    return own / f"{recipe}.yaml"


def folder_of(runs: Path, seed: int, head: str) -> Path:
    """The folder of a run."""
    return runs / f"seed{seed}_{'as_configured' if head == 'sldd' else head}"


def split_epochs(total: int) -> list[int]:
    """Epochs of Q-SENN's rounds, in the paper's proportion, one at least.

    Raises:
        UserError: fewer epochs than rounds.

    Example:
        >>> split_epochs(70), split_epochs(6)
        ([10, 10, 10, 40], [1, 1, 1, 3])
    """
    if total < len(ROUNDS):
        raise UserError(f"--heads qsenn: its {len(ROUNDS)} rounds need {len(ROUNDS)} epochs of finetuning, not {total}")
    early = [max(1, round(total * share / sum(ROUNDS))) for share in ROUNDS[:-1]]
    return [*early, total - sum(early)]


def pipeline_of(
    head: str, recipe: str, runs: Path, seed: int, options: Sequence[str], data: Path | None = None
) -> Pipeline:
    """The pipeline of a head, its dense phase that of the SLDD run of its seed."""
    arguments = ["--config", str(config_of(head, recipe)), "--run_dir", str(folder_of(runs, seed, head))]
    arguments += ["--seed", str(seed), "--wandb.mode", "disabled", *options]
    if data is not None:
        arguments += ["--data.root", str(data)]
    if head != "sldd":
        arguments += ["--phases_from", str(folder_of(runs, seed, "sldd"))]
    pipeline, _ = parse_pipeline(arguments)
    if head != "qsenn":
        return pipeline
    total = parse_pipeline(_of_sldd(arguments, recipe))[0].phases["finetune"].max_epochs
    epochs = split_epochs(total)
    values: dict[str, list[Any]] = {"finetune.max_epochs": epochs}
    schedule = (pipeline.phases["finetune"].module["init_args"].get("lr_scheduler") or {}).get("init_args") or {}
    if "T_max" in schedule:
        values["finetune.module.init_args.lr_scheduler.init_args.T_max"] = list(epochs)
    rate = pipeline.phases["finetune"].module["init_args"]["optimizer"]["init_args"]["lr"]
    values["finetune.module.init_args.optimizer.init_args.lr"] = [
        round(rate * 0.9**turn, 8) for turn in range(len(ROUNDS))
    ]
    rounds = {"phases": ["sparsify", "finetune"], "times": len(ROUNDS), "values": values}
    last = f"finetune-{len(ROUNDS)}"
    stages = {"dense": "dense", "ternary": "sparsify", "finetuned": last}
    return parse_pipeline(
        [*arguments, "--rounds", json.dumps(rounds), "--phases.evaluate.module.stages", json.dumps(stages)]
    )[0]


def _of_sldd(arguments: Sequence[str], recipe: str) -> list[str]:
    """The same arguments for the SLDD run, whose finetuning the others share in length."""
    found = list(arguments)
    found[1] = str(config_of("sldd", recipe))
    return found


def measure(folder: Path, attributes: Path | None) -> None:
    """Measure a run's last stage, and the dense one of SLDD runs; once for its present weights."""
    run = Run(folder)
    stages = list(run.results["stages"])
    wanted = [stage for stage in ("dense", stages[-1]) if stage == stages[-1] or "sparse" in stages]
    path = folder / "measures" / "measures.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    made_from = {run.phase_of(stage): run.made_of(run.phase_of(stage)) for stage in wanted}
    known = set(record.get("measures", ())) | set(record.get("left_out", ()))
    if set(MEASURES) <= known and made_from.items() <= record.get("made_from", {}).items():
        return
    evaluate(
        str(folder), measures=",".join(MEASURES), stages=wanted,
        attributes=None if attributes is None else str(attributes),
    )  # fmt: skip


def found_run(folder: Path) -> Found | None:
    """What a finished run has left; None where it is not finished."""
    if not (folder / "results.json").is_file():
        return None
    results = Run(folder).results
    measured = folder / "measures" / "measures.json"
    record = json.loads(measured.read_text()) if measured.is_file() else {}
    return Found(results.get("stages", {}), record.get("stages", {}), results.get("seconds", {}))


def _kept(before: Table, now: Table) -> str:
    """Which rows are of an earlier run of the command."""
    heads = {
        head: [seed for seed, name in before.rows if name == head and (seed, name) not in now.rows] for head in NAMES
    }
    kept = ", ".join(
        f"{head} of seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" for head, seeds in heads.items() if seeds
    )
    return f" Of an earlier run with these options, of another day or machine: {kept}." if kept else ""


def main() -> None:
    """Run and write."""
    parser = argument_parser(__doc__)
    data = Path(os.environ.get("HANDFUL_DATA", "."))
    parser.add_argument("--runs", type=Path, default=None, help="folder of the runs")
    parser.add_argument("--recipe", choices=tuple(RUNS), default="photos")
    parser.add_argument("--data", type=Path, default=data / "cub100.zip", help="photographs")
    parser.add_argument(
        "--attributes", type=Path, default=data / "cub100_class_attributes.csv", help="of the photographs' classes"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--heads", default="qsenn,qpm,chiqpm", help=f"of {', '.join(HEADS)}")
    parser.add_argument("--only_report", action="store_true")
    parser.add_argument("options", nargs="*", help="of the pipeline, behind --")
    given = parser.parse_args()
    runs = given.runs or Path("runs") / RUNS[given.recipe]
    seeds, heads = [int(seed) for seed in given.seeds.split(",")], given.heads.split(",")
    if unknown := set(heads) - set(HEADS):
        parser.error(f"--heads: {', '.join(sorted(unknown))}; there are {', '.join(HEADS)}")
    of_photos = given.recipe != "quickstart"
    attributes = given.attributes if of_photos and given.attributes.is_file() else None
    for seed in () if given.only_report else seeds:
        for head in heads:
            pipeline = pipeline_of(head, given.recipe, runs, seed, given.options, given.data if of_photos else None)
            Runner(pipeline).run()
            measure(folder_of(runs, seed, head), attributes)
        if (folder_of(runs, seed, "sldd") / "results.json").is_file():
            measure(folder_of(runs, seed, "sldd"), attributes)
    found = {
        (seed, head): run
        for seed in seeds
        for head in HEADS
        if (run := found_run(folder_of(runs, seed, head))) is not None
    }
    if not found:
        parser.error(f"--runs: no finished run of seeds {given.seeds} in {runs}")
    options = f" with `{' '.join(shown(given.options))}`" if given.options else ""
    images = given.data.name if of_photos else "toy birds"
    what = f"{images}, an adapter on a frozen backbone" if given.recipe == "photos_adapter" else images
    if "--data.image_size" in given.options[:-1]:  # another table than that of the recipe's own size
        what += f", {given.options[given.options.index('--data.image_size') + 1]} px"
    title = f"Heads on one dense training, {what} (`python -m benchmarks.heads`)"
    trained = f"{images}, `configs/HEAD/{given.recipe}.yaml`{options}; test images."
    earlier = section_of(title)  # rows stay where they were trained with the same options
    before, now = table_in(earlier if trained in earlier else "", K[given.recipe]), table_of(found, K[given.recipe])
    lines = [
        f"{trained} The heads of a seed share its "
        f"dense phase, and finetune for as many epochs: Q-SENN's four rounds together.{_kept(before, now)}",
        "",
        *lines_of(now.over(before), K[given.recipe]),
    ]
    write_section(title, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
