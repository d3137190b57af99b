"""The InfoMax / information-bottleneck plug-in: where its maps point, what they are worth, what a step costs.

    python -m benchmarks.plugin toy          # three seeds of configs/plugin/quickstart.yaml
    HANDFUL_DATA=folder python -m benchmarks.plugin cifar     # cifar10.zip and resnet20_cifar10.pth
    HANDFUL_DATA=folder python -m benchmarks.plugin fewshot   # cub100.zip
    python -m benchmarks.plugin cost

Options after the name go to the pipeline (`--phases.plugin.max_epochs 8`). Runs lie in `runs/benchmark_plugin_*` and
are finished, not repeated, when the command is given again.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.attribution import attribute
from handful.attribution.layers import cut_at
from handful.birds import PART_NAMES, PARTS
from handful.bottleneck import InfoMaxBottleneck, Weights
from handful.fewshot.prototypes import QueryScores, prototypes
from handful.metrics.faithfulness import area_under, perturbation_curve
from handful.metrics.localisation import area_above_half, energy_in_mask, pointing_hits
from handful.networks import build_classifier
from handful.networks.layouts import Layout
from handful.report.information_maps import episode_sheet, information_sheet
from handful.report.overlays import denormalise
from lightning_modules import InfoMaxPlugin
from lightning_modules.infomax_bottleneck import stages
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner

CONFIGS = Path(__file__).parent.parent / "configs" / "plugin"
PICTURES = Path("runs") / "benchmark_plugin_pictures"


def pipeline(config: str, run_dir: Path, options: Sequence[str]) -> Run:
    """Run (or take up, or find finished) a pipeline."""
    arguments = ["--config", str(CONFIGS / config), "--run_dir", str(run_dir), *options]
    Runner(parse_pipeline([*arguments, "--wandb.mode", "disabled"])[0]).run()
    return Run(run_dir)


def plugin_of(run: Run, phase: str = "plugin") -> InfoMaxPlugin:
    module = run.load(phase)
    assert isinstance(module, InfoMaxPlugin)
    return module


def stacked(dataset: Any, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    items = [dataset[i] for i in ids]
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and range over seeds."""
    low, high = min(values), max(values)
    return f"{statistics.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# -- toy birds --------------------------------------------------------------------------------------------------------


def toy(options: Sequence[str], seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Birds of which one part alone tells the class: does the map find it?"""
    methods = ("sufficient", "general", "general_head", "keep", "capacity", "iba", "gradcam", "gradient")
    found: dict[str, dict[str, list[float]]] = {m: {"hit": [], "near": [], "energy": [], "half": []} for m in methods}
    accuracy: dict[str, list[float]] = {}
    bits: dict[str, list[float]] = {}
    for seed in seeds:
        # nothing is drawn on the way: the maps are made below
        seeded = ["--seed", str(seed), "--data.seed", str(seed), "--phases.plugin.callbacks", "[]", *options]
        run = pipeline("quickstart.yaml", Path("runs") / f"benchmark_plugin_toy_{seed}", seeded)
        module, data = plugin_of(run), run.datamodule()
        data.setup()
        birds: Any = data
        part = run.config["data"]["init_args"]["deciding_parts"][0]
        ids = list(range(len(data.test_dataset)))
        images, labels = stacked(data.test_dataset, ids)
        masks = torch.stack([torch.from_numpy(birds.masks("test", i)[PART_NAMES.index(part)]) for i in ids])
        maps = {m: attribute(module.model, images, method=m, image_ids=ids).map() for m in methods}
        for method, values in maps.items():
            row = found[method]
            row["hit"].append(100 * float(pointing_hits(values, masks).double().mean()))
            row["near"].append(100 * float(pointing_hits(values, masks, 2).double().mean()))
            row["energy"].append(float(energy_in_mask(values, masks).mean()))
            row["half"].append(float(area_above_half(values).mean()))
        for name, pictures in {"test images": images, "all other parts replaced": replaced(birds, ids, part)}.items():
            noised, clean = module.plugin.noised_outputs(pictures, ids)
            for kind, logits in (("clean", clean[None]), ("under noise", noised)):
                share = float((logits.argmax(-1) == labels).double().mean())
                accuracy.setdefault(f"{name}, {kind}", []).append(100 * share)
        for name, values in module.plugin.maps(images, ids, resize=False).items():
            if name != "keep":
                bits.setdefault(name, []).append(float(values.mean()))
        if seed == seeds[0]:
            chosen = [0, 1, 2, 3, 4]
            drawn = {m: maps[m][chosen] for m in ("general", "general_head", "sufficient", "capacity", "gradcam")}
            colours = denormalise(images[chosen], data.mean, data.std)
            save(information_sheet(colours, drawn, [data.class_names[int(labels[i])] for i in chosen]), "toy")
    area = float(masks.double().mean())
    lines = [
        f"Five classes that differ in the {part} alone ({100 * area:.1f} % of the pixels); {len(ids)} test images, "
        f"seeds {', '.join(map(str, seeds))}: mean (lowest to highest).",
        "",
        "| map | peak on the part, % | at most 2 px from it, % | energy on the part | area above half maximum |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {m} | {spread(r['hit'], 1)} | {spread(r['near'], 1)} | {spread(r['energy'])} | {spread(r['half'])} |"
        for m, r in found.items()
    ]
    lines += ["", "| accuracy, % | |", "|---|---|", *(f"| {k} | {spread(v, 1)} |" for k, v in accuracy.items())]
    lines += ["", "| mean bits a cell | |", "|---|---|", *(f"| {k} | {spread(v)} |" for k, v in bits.items())]
    publish("Plug-in: toy birds of one deciding part (`python -m benchmarks.plugin toy`)", lines)


def replaced(birds: Any, ids: Sequence[int], part: str) -> Tensor:
    """The same birds with every other part changed to its next variant; normalised."""
    dataset = birds.test_dataset
    pictures = []
    for i in ids:
        scene = birds.dataset_scene("test", i)
        others = {p.name: (scene.variants[p.name] + 1) % len(p.variants) for p in PARTS if p.name != part}
        drawn = birds.rendering("test", i, replace=others).image
        pictures.append(torch.from_numpy(drawn.copy()).permute(2, 0, 1))
    return dataset.normalised(torch.stack(pictures))


# -- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def cifar(options: Sequence[str], images: int = 60) -> None:
    """The public ResNet-20: accuracy under noise, bits, and insertion and deletion beside other maps."""
    folder = data_folder()
    given = [
        "--data.root", str(folder / "cifar10.zip"), "--init_from", str(folder / "resnet20_cifar10.pth"),
        *options,
    ]  # fmt: skip
    run = pipeline("cifar10_resnet20.yaml", Path("runs") / "benchmark_plugin_cifar", given)
    rows = run.results["stages"]
    plugin, readout, data = plugin_of(run).plugin, plugin_of(run, "readout").plugin, run.datamodule()
    data.setup()
    ids = torch.linspace(0, len(data.test_dataset) - 1, images).round().long().tolist()
    pictures, _ = stacked(data.test_dataset, ids)
    plain = ("sufficient", "general", "general_head", "capacity", "iba", "gradient")
    networks = {name: (plugin, name) for name in plain}
    networks |= {"iba readout": (readout, "capacity"), "gradcam": (plugin.base, "gradcam")}  # type: ignore[dict-item]

    def draw(name: str, x: Tensor, places: list[int]) -> Tensor:
        if name == "random":
            return torch.rand(len(x), *x.shape[2:], generator=torch.Generator().manual_seed(places[0]))
        network, method = networks[name]
        return attribute(network, x, method=method, image_ids=places).map()

    table, maps = [], {}
    for name in (*networks, "random"):
        started = time.perf_counter()
        maps[name] = torch.cat([draw(name, pictures[s : s + 20], ids[s : s + 20]) for s in range(0, images, 20)])
        seconds = (time.perf_counter() - started) / images
        insertion = area_under(perturbation_curve(plugin.base, pictures, maps[name], mode="insertion", steps=16))
        deletion = area_under(perturbation_curve(plugin.base, pictures, maps[name], mode="deletion", steps=16))
        half = float(area_above_half(maps[name]).mean())
        table.append(
            f"| {name} | {float(insertion.mean()):.3f} ± {error(insertion)} | {float(deletion.mean()):.3f} ± "
            f"{error(deletion)} | {float((insertion - deletion).mean()):.3f} | {half:.3f} | {1000 * seconds:.1f} |"
        )
    chosen = list(range(0, images, images // 6))[:6]
    drawn = {m: maps[m][chosen] for m in ("general", "general_head", "sufficient", "iba", "iba readout", "gradcam")}
    save(information_sheet(denormalise(pictures[chosen], data.mean, data.std), drawn), "cifar10")
    lines = [
        "Public ResNet-20, frozen; local layer and settings as in `configs/plugin/cifar10_resnet20.yaml`.",
        "",
        "| | plug-in | IBA readout |",
        "|---|---|---|",
    ]
    keys = list(dict.fromkeys([*rows["plugin"], *rows["readout"]]))
    lines += [f"| {k} | {rows['plugin'].get(k, '–')} | {rows['readout'].get(k, '–')} |" for k in keys]
    lines += [
        "",
        f"Insertion and deletion over {images} test images, 16 steps, ± standard error:",
        "",
        "| map | insertion ↑ | deletion ↓ | difference ↑ | area above half maximum | ms an image |",
        "|---|---|---|---|---|---|",
        *table,
    ]
    publish("Plug-in: ResNet-20 on CIFAR-10 (`python -m benchmarks.plugin cifar`)", lines)


def error(values: Tensor) -> str:
    return f"{float(values.std() / len(values) ** 0.5):.3f}"


# -- few-shot ---------------------------------------------------------------------------------------------------------


def fewshot(options: Sequence[str]) -> None:
    """A prototypical network on birds: accuracy on novel classes, and the maps of one episode."""
    given = ["--data.root", str(data_folder() / "cub100.zip"), *options]
    run = pipeline("cub_protonet.yaml", Path("runs") / "benchmark_plugin_fewshot", given)
    rows = run.results["stages"]
    module, data = plugin_of(run), run.datamodule()
    data.setup()
    draw_episode(module, data)
    epochs = {name: phase["max_epochs"] for name, phase in run.config["phases"].items()}
    splits: Any = data
    classes = " / ".join(str(len(names)) for names in splits.class_splits.values())
    lines = [
        f"Conv-4, {data.image_size} px, {classes} base, validation and novel classes; {epochs} epochs of "
        f"{splits.episodes} episodes; {run.results['seconds']} seconds. Accuracies in per cent over 600 episodes of "
        "novel classes, with half the 95 % interval; guessing gives 20.",
        "",
        *(
            f"* {stage}: " + ", ".join(f"{name} {value:.2f}" for name, value in row.items())
            for stage, row in rows.items()
        ),
    ]
    publish("Plug-in: few-shot birds (`python -m benchmarks.plugin fewshot`)", lines)


def draw_episode(module: InfoMaxPlugin, data: Any) -> None:
    from handful.fewshot.episodes import EpisodeSampler

    dataset = data.test_dataset
    sampler = EpisodeSampler(dataset.labels, way=5, shot=1, query=1, episodes=1, seed=1)
    chosen = sampler.draw(0)
    images, labels = stacked(dataset, chosen)
    support, queries = images[0::2], images[1::2]
    plugin = module.plugin
    names = [data.class_splits["novel"][int(label)].replace("_", " ") for label in labels[0::2]]
    with torch.no_grad():
        means = prototypes(plugin.base(support)[:, None])
    scorer = QueryScores(plugin.base, means).eval()
    with torch.no_grad():
        predicted = scorer(queries).argmax(1)
    lines = [f"query: seen as {names[int(p)]}" for p in predicted]
    support_maps = plugin.maps(support, chosen[0::2])["sufficient"]
    found = plugin.maps(queries, chosen[1::2])
    maps = {name: found[name] for name in ("general", "sufficient", "capacity")}
    maps["gradcam"] = attribute(scorer, queries, method="gradcam", layer="embedding.backbone.layer4").map()
    colours = [denormalise(x, data.mean, data.std) for x in (support, queries)]
    save(episode_sheet(colours[0], support_maps, colours[1], maps, names, lines), "episode")


# -- cost -------------------------------------------------------------------------------------------------------------


def cost(options: Sequence[str], repeats: int = 15) -> None:
    """A training step against two forward passes and one backward pass of the tail, alternating."""
    lines = [
        "A training step (both passes, all terms, backward, Adam) against two forward passes of the bare network and "
        f"one backward pass of its tail. Medians of {repeats} alternating repeats; of the ratio also the quartiles.",
        "",
        "| network, local layer | images | two forwards and the tail's backward, ms | step, ms | ratio |",
        "|---|---|---|---|---|",
    ]
    cases = [
        ("cifar_resnet20", 32, 64, "backbone.layer1"),
        ("cifar_resnet20", 32, 64, "backbone.layer2"),
        ("resnet18", 96, 16, "backbone.net.layer1"),
        ("resnet50", 96, 8, "backbone.net.layer1"),
    ]
    for backbone, size, batch, layer in cases:
        base = build_classifier({"backbone": backbone, "dropout": 0.0}, 10)
        plugin = InfoMaxBottleneck(
            base, local_layer=layer, readout_layers=stages(base), image_size=size, bank_size=256, units=256
        )
        images = torch.randn(batch, 3, size, size)
        plugin.observe(images, range(batch))
        plugin.finish_statistics()
        plugin.train()
        ours, limit = _timed(plugin, images, layer, repeats)
        ratios = [a / b for a, b in zip(ours, limit, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(
            f"| {backbone}, {layer.split('.')[-1]}, {size} px | {batch} | {statistics.median(limit):.0f} | "
            f"{statistics.median(ours):.0f} | {middle:.2f} ({low:.2f} to {high:.2f}) |"
        )
        print(lines[-1], flush=True)
    publish("Plug-in: cost of a training step (`python -m benchmarks.plugin cost`)", lines)


def _timed(plugin: InfoMaxBottleneck, images: Tensor, layer: str, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the plug-in's step and of the bare passes, alternating."""
    optimiser = torch.optim.Adam([p for p in plugin.parameters() if p.requires_grad], 1e-3)
    labels = torch.zeros(len(images), dtype=torch.int64)

    def bare() -> None:
        with torch.no_grad():
            plugin.base(images)
        with cut_at(plugin.base, layer, Layout("NCHW")) as cut:
            loss = functional.cross_entropy(plugin.base(images), labels)
        torch.autograd.grad(loss, cut[0])

    def step() -> None:
        loss = plugin.objective(plugin.terms(images), Weights())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    times: dict[Callable[[], None], list[float]] = {step: [], bare: []}
    for turn in range(repeats + 2):
        for work, kept in times.items():
            started = time.perf_counter()
            work()
            if turn >= 2:
                kept.append(1000 * (time.perf_counter() - started))
    return times[step], times[bare]


# -- around -----------------------------------------------------------------------------------------------------------


def data_folder() -> Path:
    folder = os.environ.get("HANDFUL_DATA")
    if not folder:
        sys.exit("HANDFUL_DATA, the folder with the real data, is not set")
    return Path(folder)


def save(image: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    image.save(PICTURES / f"plugin_{name}.png")


def publish(title: str, lines: Sequence[str]) -> None:
    print("\n".join(lines))
    write_section(title, lines)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"toy": toy, "cifar": cifar, "fewshot": fewshot, "cost": cost}


def main(arguments: Sequence[str]) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command, *rest = arguments or ["--help"]
    COMMANDS[parser.parse_args([command]).command](rest)


if __name__ == "__main__":
    main(sys.argv[1:])
