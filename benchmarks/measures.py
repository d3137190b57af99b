"""What `evaluate` and `probe` say of runs on toy birds and on photographs, and what the measures cost.

`python -m benchmarks.measures birds|photographs|filter_loss|cost [--runs FOLDER]`; runs that FOLDER holds are not
repeated. `photographs` needs HANDFUL_DATA with `cub100.zip` and `cub100_class_attributes.csv`.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.results import write_section
from handful.annotations import Concept
from handful.metrics import ActivationThresholds, NetworkDissection
from pipelines.evaluate import evaluate
from pipelines.finished_run import Run
from pipelines.measures import Options, Subject, chosen_measures
from pipelines.measures.run import measured
from pipelines.measures.subject import Images
from pipelines.parse import parse_pipeline
from pipelines.probe import probe, probe_rows
from pipelines.runner import Runner
from pipelines.stored_features import features_of

ROOT = Path(__file__).parents[1]
#: Where the tables of runs are written to.
PAGE = ROOT / "docs" / "measures.md"
COMMANDS = ("birds", "photographs", "filter_loss", "cost")

#: Weights of the interpretable-filter loss that are compared.
WEIGHTS = (0.0, 1.0, 10.0)


def trained(config: str, folder: Path, *options: str) -> Path:
    """A run of a config, unless it is there already."""
    if (folder / "results.json").is_file():
        return folder
    arguments = ["--config", str(ROOT / config), "--run_dir", str(folder), "--wandb.mode", "disabled", *options]
    pipeline, _ = parse_pipeline(arguments)
    Runner(pipeline).run()
    return folder


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def of_stages(record: dict[str, Any]) -> list[str]:
    """A row per value, a column per stage."""
    arrows = {"higher": " ↑", "lower": " ↓"}
    rows = [
        [f"{name}{arrows.get(about['better'], '')}", *(stage.get(name) for stage in record["stages"].values())]
        for about in record["measures"].values()
        for name in about["values"]
    ]
    return table(["measure", *record["stages"]], rows)


def followed(run: Path, record: dict[str, Any], stage: str, count: int) -> list[str]:
    """The features that follow an attribute most closely, and the classes of the images where they are largest."""
    finished = Run(run)
    module, data = finished.load(stage), finished.datamodule()
    features, labels = features_of(module, module.model, data, "test")  # type: ignore[arg-type]
    rows = []
    for row in record["details"][stage]["alignment"]["features"][:count]:
        largest = labels[features[:, row["feature"]].argsort(descending=True, stable=True)[:10]].tolist()
        classes = [f"{data.class_names[label]} ({number})" for label, number in Counter(largest).most_common(3)]
        rows.append([row["feature"], row["attribute"], row["alignment"],
                     "yes" if row.get("in_all_its_classes") else "no", ", ".join(classes)])  # fmt: skip
    columns = ["feature", "attribute", "alignment", "weight in all classes where over 30 % have it",
               "classes of the 10 test images where it is largest"]  # fmt: skip
    return table(columns, rows)


def birds(runs: Path) -> None:
    """All measures of features and filters for the stages of the quickstart, and its bias probe."""
    run = trained("configs/quickstart.yaml", runs / "quickstart")
    record = json.loads(evaluate(str(run), "features,filters,tree").read_text())
    lines = [
        "`python -m benchmarks.measures birds`: `configs/quickstart.yaml`, then "
        f"`evaluate --measures features,filters,tree` and `probe`; {record['images']} test images.", "",
        *of_stages(record), "",
        "What each feature of the finetuned stage follows:", "", *followed(run, record, "finetuned", 10), "",
    ]  # fmt: skip
    for fill in ("mean", "other"):
        covered = json.loads(probe(str(run), fill=fill).read_text())
        columns, rows = probe_rows(covered)
        lines += [f"Parts filled with {fill} (finetuned):", "", *table(columns, rows), ""]
    write_section("Measured: toy birds", lines, PAGE)


def photographs(runs: Path) -> None:
    """Alignment and structural grounding on photographs with class attributes, sparse against dense."""
    data = Path(os.environ["HANDFUL_DATA"])
    options = ["--data.root", str(data / "cub100.zip"), "--network.backbone", "tf_efficientnet_lite0"]
    options += ["--data.image_size", "160", "--phases.sparsify.module.n_features", "50"]
    run = trained("configs/sldd/photos_frozen.yaml", runs / "cub_frozen", *options)
    path = evaluate(str(run), "features", attributes=str(data / "cub100_class_attributes.csv"))
    record = json.loads(path.read_text())
    results = json.loads((run / "results.json").read_text())["stages"]
    accuracy = ", ".join(f"{stage} {row['accuracy']:.2f} %" for stage, row in results.items())
    lines = [
        "`python -m benchmarks.measures photographs`: `cub100.zip`, `configs/sldd/photos_frozen.yaml` "
        "(EfficientNet-Lite0, not trained, 160 px), 50 features; attributes are the shares of each class's images, so "
        f"presence is soft. Test accuracy: {accuracy}. `evaluate --measures features` on {record['images']:,} test "
        "images and both stages.", "", *of_stages(record), "",
        "Features of the sparse stage and the attribute that each follows most closely:", "",
        *followed(run, record, "sparse", 10), "",
    ]  # fmt: skip
    write_section("Measured: photographs with class attributes", lines, PAGE)


def filter_loss(runs: Path) -> None:
    """Location instability of dense training with the interpretable-filter loss and without."""
    rows = []
    for weight in WEIGHTS:
        config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
        config["phases"] = {name: config["phases"][name] for name in ("dense", "evaluate")}
        config["phases"]["dense"]["module"]["init_args"]["filter_loss"] = weight
        config["phases"]["dense"]["max_epochs"] = 6
        config["phases"]["dense"]["callbacks"] = []
        config["network"]["options"] = {"width": 8}
        config["data"]["init_args"] |= {"image_size": 32, "images_per_class": 40, "val_images_per_class": 0,
                                        "test_images_per_class": 20, "batch_size": 40}  # fmt: skip
        runs.mkdir(parents=True, exist_ok=True)
        file = runs / f"filter_loss_{weight:g}.yaml"
        file.write_text(yaml.safe_dump(config))
        run = trained(str(file.absolute()), runs / f"filter_loss_{weight:g}")
        record = json.loads(evaluate(str(run), "location_instability,dissection,diversity").read_text())
        found = record["stages"]["dense"]
        accuracy = json.loads((run / "results.json").read_text())["stages"]["dense"]["accuracy"]
        names = ("location_instability", "detector_share", "unique_detectors", "diversity@5")
        rows.append([f"{weight:g}", accuracy, *(found[name] for name in names)])
    columns = ["filter_loss", "accuracy, %", "location instability ↓", "share of detectors ↑", "unique detectors ↑",
               "diversity@5 ↑"]  # fmt: skip
    lines = ["`python -m benchmarks.measures filter_loss`: dense stage of `configs/quickstart.yaml` "
             "at 32 px, width 8, 40 images per class, 6 epochs.", ""]
    write_section("The interpretable-filter loss", [*lines, *table(columns, rows)])


def cost(runs: Path) -> None:
    """Time of the measures of features on top of the passes, and of dissecting 512 filters."""
    run = Run(trained("configs/quickstart.yaml", runs / "quickstart"))
    images = Images(run.datamodule(), Options())
    rows = []
    for stage in ("dense", "finetuned"):
        module = run.load(stage)
        subject = Subject(stage, module.model, images)  # type: ignore[arg-type]
        features = [cls for cls in chosen_measures("features") if not cls.needs]
        seconds = {}
        for name, chosen in (("passes", chosen_measures("dependence")), ("with all", features)):
            times = []
            for _ in range(3):
                clock = time.process_time()
                measured(module, subject, chosen)
                times.append(time.process_time() - clock)
            seconds[name] = min(times)
        more = 100 * (seconds["with all"] / seconds["passes"] - 1)
        rows.append([stage, len(images.indices), seconds["passes"], seconds["with all"], f"{more:.1f} %"])
    lines = [
        "`python -m benchmarks.measures cost`: processor seconds, the least of three.", "",
        *table(["stage", "test images", "passes and one measure", "all that need no annotations", "more"], rows), "",
    ]  # fmt: skip
    maps, masks = torch.rand(100, 512, 7, 7), torch.rand(100, 12, 112, 112) > 0.9
    thresholds = ActivationThresholds(512)
    clock = time.process_time()
    thresholds.update(maps)
    first = time.process_time() - clock
    metric = NetworkDissection(thresholds.compute(), [Concept(str(number), "part") for number in range(12)])
    clock = time.process_time()
    metric.update(maps, masks)
    second = time.process_time() - clock
    states = sum(getattr(one, name).nbytes for one in (thresholds, metric) for name in one._defaults)
    lines += [
        "Network Dissection of 512 filters (7×7 maps) against 12 concepts (112×112 masks), beside the network's own "
        f"passes: {100 * first:.0f} s for the thresholds and {100 * second:.0f} s for the comparison of 10,000 images "
        f"(measured on 100), {states / 2**20:.0f} MiB of states whatever the number of images.",
    ]
    write_section("Cost of the measures", lines)


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--runs", type=Path, default=Path("runs/measures"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    {"birds": birds, "photographs": photographs, "filter_loss": filter_loss, "cost": cost}[given.command](given.runs)


if __name__ == "__main__":
    main()
