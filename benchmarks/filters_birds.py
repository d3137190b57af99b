"""Do the filters of a class look at the parts that define it? Measured on the toy birds, whose parts are known.

    python -m benchmarks.filters_birds            # runs configs/filters/toy_birds.yaml first, if need be

For every test image and every feature: the share of its map's mass that lies on the parts by which the classes
differ. Compared: the filters of the image's class, the filters of other classes only, all other features, and the
share of the picture that those parts cover, which is what a flat map would have.
"""

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from datamodules.toy_birds import ToyBirds
from handful.birds import PART_NAMES
from handful.filters.measures import membership
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.plain_options import QUICKSTART
from pipelines.runner import Runner

GROUPS = ("its filters", "filters of other classes only", "all other features", "area")


@torch.inference_mode()
def part_shares(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Shares `(N, F, parts)` of every map's mass on every part, the parts' share of the area `(N, parts)`, labels."""
    module: Any = run.load("dense")
    birds = cast(ToyBirds, run.datamodule())
    birds.setup()
    images = birds.test_dataset
    shares, areas = [], []
    for index in range(len(images)):
        maps = module.model.feature_maps(images[index][0].unsqueeze(0))[0].clamp(min=0).double()
        masks = torch.from_numpy(birds.masks("test", index)).double()
        cells = functional.adaptive_avg_pool2d(masks, maps.shape[1:])
        shares.append(torch.einsum("fhw,phw->fp", maps, cells) / maps.sum(dim=(1, 2)).unsqueeze(1))
        areas.append(masks.mean(dim=(1, 2)))
    return torch.stack(shares), torch.stack(areas), images.labels


def group_masks(filters: Tensor, num_features: int) -> list[Tensor]:
    """Masks `(C, F)`: a class's filters, filters of others only, all that are not its filters."""
    own = membership(filters, num_features)
    anyone = own.any(dim=0)
    return [own, anyone & ~own, ~own]


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked features of an image `(N,)`; maps without any mass have no share and do not count."""
    mask = mask & ~values.isnan()
    return values.nan_to_num().mul(mask).sum(dim=1) / mask.sum(dim=1)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run_dir", type=Path, default=Path("runs/filters_toy_birds"))
    folder = parser.parse_args().run_dir
    if not (folder / "results.json").is_file():
        config = QUICKSTART.parent / "filters" / "toy_birds.yaml"
        pipeline, _ = parse_pipeline(["--config", str(config), "--run_dir", str(folder), "--wandb.mode", "disabled"])
        Runner(pipeline).run()
    run = Run(folder)
    deciding = run.config["data"]["init_args"]["deciding_parts"] or list(PART_NAMES)
    columns = [PART_NAMES.index(part) for part in deciding]
    filters = torch.load(run.folder / "filters" / "filters.pt", weights_only=True)["filters"]
    shares, areas, labels = part_shares(run)
    on_parts = shares[:, :, columns].sum(dim=2)
    values = [mean_where(on_parts, mask[labels]) for mask in group_masks(filters, shares.shape[1])]
    values.append(areas[:, columns].sum(dim=1))
    lines = [
        f"Classes differ in {', '.join(deciding)}. Share of a map's mass on those parts, mean over {len(labels)} test "
        f"images ± standard error, in per cent; in how many images the class's filters have the greater share:",
        "",
        "| features | on the deciding parts | its filters have more in |",
        "|---|---|---|",
    ]
    for name, value in zip(GROUPS, values, strict=True):
        error = float(value.std()) / len(value) ** 0.5
        wins = "" if name == GROUPS[0] else f"{100 * float((values[0] > value).double().mean()):.1f} % of images"
        lines.append(f"| {name} | {100 * float(value.mean()):.2f} ± {100 * error:.2f} | {wins} |")
    lines += ["", "By part, its filters against all other features and area, in per cent:", ""]
    lines += ["| part | its filters | all other features | area |", "|---|---|---|---|"]
    own, _, rest = group_masks(filters, shares.shape[1])
    for p, part in enumerate(PART_NAMES):
        row = [mean_where(shares[:, :, p], mask[labels]).mean() for mask in (own, rest)]
        kind = "decides" if part in deciding else "varies"
        cells = " | ".join(f"{100 * float(v):.2f}" for v in (*row, areas[:, p].mean()))
        lines.append(f"| {part} ({kind}) | {cells} |")
    noise = json.loads((run.folder / "filters" / "essentiality.json").read_text())
    lines += [
        "",
        f"Test accuracy {noise['clean']:.2f} %; with noise in the place of the class's filters "
        f"{noise['filters']:.2f} %, of as many other features {noise['as_many_others']:.2f} %, of all other "
        f"features {noise['rest']:.2f} %.",
    ]
    write_section("Class filters: where they look on toy birds (`python -m benchmarks.filters_birds`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
