"""Every attribution method by every measure, on the network of the quickstart; also in docs/attribution_measures.md.

    python -m benchmarks.attribution_measures [--run_dir RUN] [--images 12] [--few 4] [--birds 16]

The run is that of `configs/quickstart.yaml` with `configs/plugin/after_quickstart.yaml`; it is trained if it is not
there. Every finished row is kept in the run's folder under all that decides it (weights, images, options, settings,
code), so that the command can be interrupted and given again.
"""

import math
import re
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.arguments import argument_parser
from benchmarks.kept_rows import KeptRows, code_digest
from benchmarks.results import machine, today, write_section
from datamodules.toy_birds import ToyBirds
from handful.attribution import AttributionContext, attribute, get, register
from handful.metrics.boxes import BoxRatio
from handful.metrics.degradation import Degradation
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.funny_birds import WatchedBirds, funny_birds, watch_birds
from handful.metrics.infidelity import Infidelity
from handful.metrics.localisation import EnergyInMask, PointingGame
from handful.metrics.max_sensitivity import MaxSensitivity
from handful.metrics.parameter_randomisation import ParameterRandomisation
from handful.metrics.road import ROAD
from handful.metrics.sensitivity_n import SensitivityN
from handful.metrics.sparseness import Sparseness
from handful.networks.head import Head
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "attribution_measures.md"
TITLE = "Measures of attributions on the quickstart (`python -m benchmarks.attribution_measures`)"

#: Method → its options; those of the plug-in's maps come after the blank.
METHODS: dict[str, dict[str, Any]] = {
    "cam": {}, "gradcam": {}, "gradient": {}, "smoothgrad": {"samples": 16}, "input_x_gradient": {},
    "integrated_gradients": {"steps": 16}, "guided_backprop": {}, "deconvolution": {}, "lrp": {},
    "occlusion": {"window": 8, "stride": 4}, "lime": {"samples": 150}, "meaningful_perturbation": {"iterations": 30},
    "general": {}, "general_head": {}, "sufficient": {"samples": 4}, "redundant": {"samples": 4}, "keep": {},
    "capacity": {}, "iba": {"steps": 10, "copies": 5}, "random_values": {},
}  # fmt: skip
PLUGIN = ("general", "general_head", "sufficient", "redundant", "keep", "capacity", "iba")

#: Parts of the network that are randomised one after another, from the last to the first.
LAYERS = ("head", "backbone.layer3", "backbone.layer2", "backbone.layer1", "backbone.bn1", "backbone.conv1")

#: What a row is measured with, beside this file.
CODE = ("handful/attribution", "handful/birds", "handful/bottleneck", "handful/metrics", "handful/networks",
        "handful/blur.py", "handful/conversions.py", __file__)  # fmt: skip

#: Below this rank correlation of magnitudes, after the last of the layers, a method has passed.
PASSED = 0.5

#: Column → its head in the table.
COLUMNS = {
    "insertion": "ins. ↑", "deletion": "del. ↓", "degradation": "degr. ↑", "sensitivity_n": "sens.-n ↑",
    "infidelity": "infid. ↓", "road": "ROAD ↑", "max_sensitivity": "max-sens. ↓", "sparseness": "Gini",
    "energy": "energy ↑", "pointing": "point. ↑", "box_ratio": "box ↑", "randomised": "random. ↓",
}  # fmt: skip
BIRD_COLUMNS = {
    "controlled": "CSDC", "preservation": "PC", "deletion": "DC", "distractibility": "D",
    "completeness": "completeness", "correctness": "correctness", "contrastivity": "contrastivity",
    "explainability": "mean of the three",
}  # fmt: skip


@register("random_values", title="random values")
def random_values(context: AttributionContext) -> Tensor:
    """Uniform random numbers: what chance scores."""
    size = context.images.shape[2:]
    count = context.targets.count  # a map of its own for every target
    maps = [torch.rand(count, *size, generator=context.generator(image)) for image in range(len(context))]
    return torch.stack(maps).to(context.images)


def trained(run_dir: Path) -> Run:
    """Run (or take up, or find finished) the pipeline."""
    files = ("quickstart.yaml", "plugin/after_quickstart.yaml")
    configs = [part for file in files for part in ("--config", str(ROOT / "configs" / file))]
    Runner(parse_pipeline([*configs, "--run_dir", str(run_dir), "--wandb.mode", "disabled"])[0]).run()
    return Run(run_dir)


class Bench:
    """The model, its images, and the rows measured so far.

    Args:
        run: finished.
        count: images for measures of perturbation.
        few: of these, for max-sensitivity and parameter randomisation.
        birds: images for the FunnyBirds protocol.
    """

    def __init__(self, run: Run, count: int, few: int, birds: int) -> None:
        self.run, self.few = run, few
        loaded = [run.load(phase).model for phase in ("plugin", "finetune")]
        self.plugin, self.model = (model.eval() for model in loaded if isinstance(model, nn.Module))
        data = run.datamodule()
        assert isinstance(data, ToyBirds)
        data.setup()
        dataset = data.test_dataset
        every = torch.stack([dataset[i][0] for i in range(len(dataset))])
        with torch.inference_mode():
            predicted = torch.cat([self.model(part).argmax(1) for part in every.split(100)])
        right = (predicted == dataset.labels).nonzero()[:, 0]
        #: images that are recognised, spread over the classes
        self.ids = right[torch.arange(count) * len(right) // count].tolist()
        self.images = every[self.ids]
        self.masks = torch.stack([torch.from_numpy(data.masks("test", i)).any(dim=0) for i in self.ids])
        self.accuracy = 100 * len(right) / len(every)
        self.size = data.image_size
        self.birds = [i * len(every) // birds for i in range(birds)]
        self.watched: WatchedBirds = watch_birds(self.model, data.birds["test"], self.birds, dataset.normalised)

    def decides(self) -> dict[str, Any]:
        """All that decides every row, as plain values."""
        return {"weights": self.run.made_of("finetune"), "data": self.run.config["data"], "images": self.ids,
                "few": self.few, "birds": self.birds, "code": code_digest(CODE)}  # fmt: skip

    def of_row(self, method: str) -> list[Any]:
        """What decides the row of a method beside that: its options, and the plug-in's weights where it has them."""
        return [METHODS[method], self.run.made_of("plugin") if method in PLUGIN else None]

    def of(self, method: str) -> nn.Module:
        """The model that a method explains."""
        return self.plugin if method in PLUGIN else self.model

    def row(self, method: str) -> dict[str, float]:
        """All numbers of a method; NaN where it cannot be."""
        model, options = self.of(method), METHODS[method]
        maps = attribute(model, self.images, method=method, **options).map()
        metrics = {
            "insertion": InsertionAUC(12), "deletion": DeletionAUC(12), "degradation": Degradation(4, 16),
            "sensitivity_n": SensitivityN(4, 4, 20), "infidelity": Infidelity(samples=20, normalise=True),
            "road": ROAD(), "sparseness": Sparseness(), "energy": EnergyInMask(), "pointing": PointingGame(),
            "box_ratio": BoxRatio(),
        }  # fmt: skip
        given = {"model": self.model, "images": self.images, "maps": maps, "masks": self.masks}
        found = {}
        for name, metric in metrics.items():
            metric.update(**metric._filter_kwargs(**given))
            found[name] = float(metric.compute())
        few = self.images[: self.few]
        sensitivity = MaxSensitivity(method, samples=3, options=options)
        sensitivity.update(model, few)
        found["max_sensitivity"] = float(sensitivity.compute())
        prefix = "plugin.base." if method in PLUGIN else ""
        randomised = ParameterRandomisation(method, [prefix + name for name in LAYERS], options=options)
        randomised.update(model, few)
        found["randomised"] = float(randomised.compute())
        found["randomised_undefined"] = float(randomised.left_out[-1].max())
        scores = funny_birds(model, self.watched, method, options=options)
        return found | {f"birds_{name}": value for name, value in scores.items()}


def cell(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def tables(rows: dict[str, dict[str, float]], bench: Bench) -> list[str]:
    """Markdown: what was measured, and two tables."""
    watched, head = next(iter(rows.values())), bench.model.head
    assert isinstance(head, Head)
    area = float(bench.masks.double().mean())
    epochs = bench.run.config["phases"]["plugin"]["max_epochs"]
    lines = [
        f"`python -m benchmarks.attribution_measures --images {len(bench.ids)} --few {bench.few} --birds "
        f"{len(bench.birds)}`. The finetuned stage of the quickstart ({head.n_features} features, "
        f"{head.features_per_class:.3g} per class): {bench.accuracy:.1f} % of the test images are recognised. The "
        f"plug-in's maps are those of a plug-in trained for {epochs} epochs. {len(bench.ids)} recognised images, the "
        f"predicted class; max-sensitivity and parameter randomisation on {bench.few} of them; masks: all parts of the "
        f"bird, {100 * area:.0f} % of the pixels. A method has passed (✓) if the magnitude of its rank correlation of "
        f"magnitudes is below {PASSED} after the last of {len(LAYERS)} layers is randomised; {PASSED} is a threshold "
        "of our own. Maps that are constant before or after are left out of it. Infidelity is normalised: 1 is that "
        "of an empty map. `–`: not defined.",
        "",
        "| method | " + " | ".join(COLUMNS.values()) + " | passed |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, row in rows.items():
        alike = row["randomised"]
        passed = "–" if math.isnan(alike) else "✓" if abs(alike) < PASSED else "✗"
        lines.append(f"| {get(name).title} | " + " | ".join(cell(row.get(c)) for c in COLUMNS) + f" | {passed} |")
    undefined = {get(name).title: int(row["randomised_undefined"]) for name, row in rows.items()}
    constant = [f"{title} ({count} of {bench.few})" for title, count in undefined.items() if count]
    lines += ["", f"Left out of randomisation, with a constant map: {', '.join(constant) or 'none'}."]
    lines += [
        "",
        f"The FunnyBirds protocol on {len(bench.watched.images)} test images, each drawn without every set of its six "
        "parts and without each thing behind the bird. The model's own scores: accuracy "
        f"{watched['birds_accuracy']:.2f}, background independence {watched['birds_background_independence']:.2f}.",
        "",
        "| method | " + " | ".join(BIRD_COLUMNS.values()) + " |",
        "|---" * (len(BIRD_COLUMNS) + 1) + "|",
    ]
    for name, row in rows.items():
        lines.append(f"| {get(name).title} | " + " | ".join(cell(row.get(f"birds_{c}")) for c in BIRD_COLUMNS) + " |")
    return lines


def write_page(lines: list[str], page: Path = PAGE) -> None:
    """Replace what stands between the page's two marks."""
    text = page.read_text(encoding="utf-8")
    begin, end = "<!-- measured -->", "<!-- end of measured -->"
    body = "\n".join([begin, "", *lines, "", end])
    page.write_text(re.sub(f"{begin}.*{end}", lambda _: body, text, flags=re.DOTALL), encoding="utf-8")


def measured(bench: Bench, kept: KeptRows) -> dict[str, dict[str, float]]:
    """The rows of all methods; those that are kept are not measured again."""
    rows = {}
    for name in METHODS:
        started = time.process_time()
        rows[name] = kept.row(name, bench.of_row(name), lambda name=name: bench.row(name))  # type: ignore[misc]
        print(f"{name}: {time.process_time() - started:.0f} s", flush=True)
    return rows


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run_dir", type=Path, default=Path("runs") / "benchmark_measures")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--few", type=int, default=4)
    parser.add_argument("--birds", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(trained(options.run_dir), options.images, options.few, options.birds)
    rows = measured(bench, KeptRows(options.run_dir / "attribution_rows.json", **bench.decides()))
    lines = tables(rows, bench)
    write_section(TITLE, lines)
    write_page([f"*{today()}; {machine()}*", "", *lines])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
