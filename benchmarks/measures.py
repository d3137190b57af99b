"""What `evaluate` and `probe` say of runs on toy birds and on photographs, and what the measures cost.

`python -m benchmarks.measures birds|photographs|filter_loss|cost [--runs FOLDER]`; runs that FOLDER holds are not
repeated. `photographs` needs HANDFUL_DATA with `cub100.zip` and `cub100_class_attributes.csv`.
"""

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.annotations import Concept
from handful.images import Inputs
from handful.metrics import ActivationThresholds, NetworkDissection, grounding_correlation, structural_grounding
from handful.metrics.structural_grounding import PAIRS
from handful.report.overlays import captioned, overlay, sheet
from pipelines.evaluate import evaluate
from pipelines.finished_run import Run
from pipelines.measures import Measure, Options, Subject, chosen_measures
from pipelines.measures.run import measured
from pipelines.measures.subject import AnnotatedImages
from pipelines.parse import parse_pipeline
from pipelines.probe import probe, probe_rows
from pipelines.runner import Runner
from pipelines.stored_features import features_of

ROOT = Path(__file__).parents[1]
#: Where the tables of runs are written to.
PAGE = ROOT / "docs" / "measures.md"
COMMANDS = ("birds", "photographs", "filter_loss", "cost")

#: Turns of what is timed.
TURNS = 5

#: Photographs of so many features, and how many of each.
FIVE, COLUMNS = 5, 6
PICTURE = ROOT / "docs" / "images" / "features_of_birds.jpg"

#: Weight and scale of the interpretable-filter loss that are compared, on these seeds, and how long each trains.
VARIANTS: tuple[tuple[float, float | None], ...] = (
    (0.0, None), (10.0, None), (100.0, None), (0.3, 0.5), (1.0, 0.5), (1.0, 4.0),
)  # fmt: skip
SEEDS, EPOCHS, IMAGES_PER_CLASS = (0, 1), 12, 60


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
    record = json.loads(evaluate(str(run), "features,filters,tree,graph").read_text())
    lines = [
        "`python -m benchmarks.measures birds`: `configs/quickstart.yaml`, then "
        f"`evaluate --measures features,filters,tree,graph` and `probe`; {record['images']} test images.", "",
        *of_stages(record), "",
        *_planted_grounding(run), "",
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
    options += ["--data.image_size", "224", "--phases.sparsify.module.n_features", "50"]
    run = trained("configs/sldd/photos_frozen.yaml", runs / "cub_frozen", *options)
    path = evaluate(str(run), "features", attributes=str(data / "cub100_class_attributes.csv"))
    record = json.loads(path.read_text())
    results = json.loads((run / "results.json").read_text())["stages"]
    accuracy = ", ".join(f"{stage} {row['accuracy']:.2f} %" for stage, row in results.items())
    size = Run(run).config["data"]["init_args"]["image_size"]
    chosen = _of_different_attributes(record["details"]["sparse"]["alignment"]["features"], FIVE)
    _picture_of_features(run, "sparse", chosen, PICTURE)
    lines = [
        "`python -m benchmarks.measures photographs`: `cub100.zip`, `configs/sldd/photos_frozen.yaml` "
        f"(EfficientNet-Lite0, not trained, {size} px), 50 features; attributes are the shares of each class's images, "
        f"so presence is soft. Test accuracy: {accuracy}. `evaluate --measures features` on {record['images']:,} test "
        "images and both stages.", "", *of_stages(record), "",
        "Features of the sparse stage and the attribute that each follows most closely, of those that over 30 % of the "
        "images of some class have:", "", *followed(run, record, "sparse", 10), "",
        f"Five features that follow different attributes, each on the {COLUMNS} test images where it is largest; warm "
        "where its map is high, beneath each the true class:", "",
        f"![Five features on photographs]({PICTURE.relative_to(PAGE.parent)})", "",
    ]  # fmt: skip
    write_section("Measured: photographs with class attributes", lines, PAGE)


def _planted_grounding(run: Path) -> list[str]:
    """Structural grounding of the stages, and of weights that are the attributes, by the number of pairs."""
    finished = Run(run)
    images = AnnotatedImages(finished.datamodule(), Options())
    known = images.class_attributes
    assert known is not None
    attributes = known.present
    weights = {"attributes": attributes, "attributes, centred": attributes - attributes.mean(dim=0)}
    for stage in finished.stages:
        weights[stage] = Subject(stage, finished.load(stage).model, images).weight.double()  # type: ignore[arg-type]
    pairs = (3, 10, PAIRS)
    rows = [
        [name, *(float(structural_grounding(weight, attributes, count)) for count in pairs),
         float(grounding_correlation(weight, attributes))]
        for name, weight in weights.items()
    ]  # fmt: skip
    every = len(attributes) * (len(attributes) - 1) // 2
    columns = ["weights", *(f"{count} of {every} pairs" for count in pairs), "grounding correlation"]
    return ["Structural grounding by the number of pairs of classes, of the stages and of planted weights:", "",
            *table(columns, rows)]  # fmt: skip


def _of_different_attributes(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first rows, of each attribute one."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["attribute"], row)
    return list(first.values())[:count]


def _picture_of_features(run: Path, stage: str, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A row of pictures per feature: its map over the test images where it is largest."""
    finished = Run(run)
    module, data = finished.load(stage), finished.datamodule()
    model, inputs = module.model.eval(), Inputs.of(data)  # type: ignore[union-attr]
    features, labels = features_of(module, model, data, "test")  # type: ignore[arg-type]
    tiles = []
    for row in rows:
        largest = features[:, row["feature"]].argsort(descending=True, stable=True)[:COLUMNS].tolist()
        images = torch.stack([data.test_dataset[place][0] for place in largest])
        with torch.no_grad():
            maps = model.feature_maps(images)[:, row["feature"]]  # type: ignore[operator]
        name = row["attribute"].removeprefix("has_").replace("::", ": ").replace("_", " ")
        for number, (place, image, values) in enumerate(zip(largest, inputs.denormalise(images), maps, strict=True)):
            label = data.class_names[int(labels[place])].replace("_", " ")
            head = [f"{row['feature']}: {name}"] if not number else []
            tiles.append(captioned(overlay(image, values, side=110), [*head, label], size=10))
    sheet(tiles, COLUMNS, gap=4).save(path, "JPEG", quality=80, optimize=True)


def filter_loss(runs: Path, seeds: Sequence[int] = SEEDS) -> None:
    """Location instability of dense training with the interpretable-filter loss and without."""
    rows = []
    names = ("location_instability", "detector_share", "unique_detectors", "diversity@5")
    for weight, scale in VARIANTS:
        found = []
        for seed in seeds:
            run = _with_filter_loss(runs, weight, scale, seed)
            record = run / "measures" / "measures.json"
            if not record.is_file():
                evaluate(str(run), "location_instability,dissection,diversity", "dense")
            values = json.loads(record.read_text())["stages"]["dense"]
            accuracy = json.loads((run / "results.json").read_text())["stages"]["dense"]["accuracy"]
            found.append([accuracy, *(values[name] for name in names)])
        means = torch.tensor(found, dtype=torch.float64)
        spread = zip(means.mean(0).tolist(), means.amin(0).tolist(), means.amax(0).tolist(), strict=True)
        cells = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in spread]
        title = "–" if not weight else "published" if scale is None else f"{scale:g}"
        rows.append([f"{weight:g}", title, *cells])
    columns = ["filter_loss", "filter_scale", "accuracy, %", "location instability ↓", "share of detectors ↑",
               "unique detectors ↑", "diversity@5 ↑"]  # fmt: skip
    lines = [f"Dense stage of `configs/quickstart.yaml` at 32 px, width 8, {IMAGES_PER_CLASS} images per class, "
             f"{EPOCHS} epochs; means over the seeds, with the least and the largest.", "",
             *table(columns, rows)]  # fmt: skip
    write_section("The interpretable-filter loss", lines)
    write_section("Measured: the interpretable-filter loss", lines, PAGE)


def _with_filter_loss(runs: Path, weight: float, scale: float | None, seed: int) -> Path:
    """A small dense run on toy birds."""
    config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    config["seed"] = seed
    config["phases"] = {name: config["phases"][name] for name in ("dense", "evaluate")}
    dense = config["phases"]["dense"]
    dense["module"]["init_args"] |= {"filter_loss": weight, "filter_scale": scale}
    dense["module"]["init_args"]["lr_scheduler"]["init_args"]["T_max"] = dense["max_epochs"] = EPOCHS
    dense["callbacks"] = []
    config["network"]["options"] = {"width": 8}
    config["data"]["init_args"] |= {"image_size": 32, "images_per_class": IMAGES_PER_CLASS, "val_images_per_class": 0,
                                    "test_images_per_class": 40, "batch_size": 40}  # fmt: skip
    runs.mkdir(parents=True, exist_ok=True)
    name = f"filter_loss_{weight:g}_{'published' if scale is None else f'{scale:g}'}_{seed}"
    file = runs / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    return trained(str(file.absolute()), runs / name)


def cost(runs: Path) -> None:
    """Time of the measures of features on top of the passes, and of dissecting 512 filters."""
    rows = _costs("toy birds, ResNet-20, 48 px", Run(trained("configs/quickstart.yaml", runs / "quickstart")))
    if (runs / "cub_frozen" / "results.json").is_file():
        rows += _costs("cub100, EfficientNet-Lite0, 224 px", Run(runs / "cub_frozen"))
    lines = [
        "`python -m benchmarks.measures cost` (after `photographs`): processor seconds on one thread, medians of "
        f"{TURNS} turns. Of the measures: what all feature measures that need no annotations spend from their "
        "construction to their result, between the batches that the network has seen. Of the passes: 64 images, times "
        "the number of test images. Features and maps of the frozen Lite0 are read from the cache, which is not "
        "counted.", "",
        *table(["run", "stage", "test images", "features", "forward passes, s", "measures, s", "more"], rows), "",
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


def _costs(title: str, run: Run) -> list[list[Any]]:
    """A row per stage: seconds of the forward passes, and of all measures of features on top."""
    images = AnnotatedImages(run.datamodule(), Options())
    features = [cls for cls in chosen_measures("features") if not cls.needs]
    rows = []
    for stage in (run.stages[0], run.stages[-1]):
        module = run.load(stage)
        subject = Subject(stage, module.model, images)  # type: ignore[arg-type]
        some = images.pixels(images.indices[:64])
        passes, spent = [], []
        for turn in range(TURNS + 1):
            clock = time.process_time()
            with torch.no_grad():
                subject.model.feature_maps(some)
            passes.append(time.process_time() - clock)
            seconds: list[float] = []
            measured(module, subject, [_timed(cls, seconds) for cls in features])
            if turn:  # the first warms up
                spent.append(sum(seconds))
        forward = statistics.median(passes[1:]) / len(some) * len(images.indices)
        more = statistics.median(spent)
        rows.append([title, stage, len(images.indices), len(subject.used), forward, more,
                     f"{100 * more / forward:.1f} %"])  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _timed(cls: type[Measure], seconds: list[float]) -> type[Measure]:
    """A measure that appends the processor seconds of whatever it does."""

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            clock = time.process_time()
            try:
                return work(*arguments)
            finally:
                seconds.append(time.process_time() - clock)

        return run

    names = ("__init__", "begin", "update", "compute")
    return type(cls.__name__, (cls,), {name: timed(getattr(cls, name)) for name in names})


def main() -> None:
    """Run one command."""
    parser = argument_parser(__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--runs", type=Path, default=Path("runs/measures"))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of filter_loss, with commas between")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "filter_loss":
        filter_loss(given.runs, [int(seed) for seed in given.seeds.split(",")])
        return
    {"birds": birds, "photographs": photographs, "cost": cost}[given.command](given.runs)


if __name__ == "__main__":
    main()
