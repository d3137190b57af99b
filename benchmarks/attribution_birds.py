"""Do the maps lie on the part that decides? Toy birds whose classes differ in one part, masks known to the pixel.

    python -m benchmarks.attribution_birds

For each part a ResNet-20 learns five classes that differ in that part alone; everything else varies from image to
image. The maps of test images it gets right are compared with the part's mask.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from datamodules.toy_birds import ToyBirds
from handful.attribution import attribute, get
from handful.birds import PART_NAMES
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.localisation import EnergyInMask, PointingGame
from handful.networks import Classifier, build_classifier

METHODS = (
    "cam", "gradcam", "gradient", "smoothgrad", "input_x_gradient", "integrated_gradients", "guided_backprop",
    "deconvolution", "lrp", "occlusion", "lime", "meaningful_perturbation",
)  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "lime": {"samples": 400},
    "smoothgrad": {"samples": 25},
    "occlusion": {"window": 10, "stride": 4},
}

#: Pixels from the mask that still count as a hit of the pointing game: the published 15 of 224, at 64.
TOLERANCE = 4


def trained(data: ToyBirds, epochs: int) -> Classifier:
    torch.manual_seed(0)
    model = build_classifier({"backbone": "cifar_resnet20"}, data.num_classes)
    loader = data.train_dataloader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=epochs * len(loader))
    for _ in range(epochs):
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def test_images(data: ToyBirds, part: str) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and masks of the part, where it is seen."""
    dataset = data.test_dataset
    place = PART_NAMES.index(part)
    kept = [
        (*dataset[i], torch.from_numpy(data.masks("test", i)[place].copy()))
        for i in range(len(dataset))
        if data.masks("test", i)[place].sum() >= 8
    ]
    images, labels, masks = zip(*kept, strict=True)
    return torch.stack(images), torch.tensor(labels), torch.stack(masks)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model(part).argmax(1) for part in images.split(50)]) == labels


def rows(model: Classifier, images: Tensor, masks: Tensor, methods: Sequence[str]) -> dict[str, list[float]]:
    """Energy and pointing game on the part, insertion, deletion, by method."""
    found = {}
    for name in methods:
        maps = attribute(model, images, method=name, **OPTIONS.get(name, {})).map()
        energy, pointing = EnergyInMask(), PointingGame(TOLERANCE)
        insertion, deletion = InsertionAUC(16), DeletionAUC(16)
        energy.update(maps, masks)
        pointing.update(maps, masks)
        insertion.update(model, images, maps)
        deletion.update(model, images, maps)
        found[name] = [float(metric.compute()) for metric in (energy, pointing, insertion, deletion)]
    return found


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--parts", nargs="+", default=["breast", "wing"], choices=PART_NAMES)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=16, help="test images explained, by part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {}
    facts = []
    for part in options.parts:
        started = time.perf_counter()
        data = ToyBirds(
            n_classes=5, images_per_class=300, val_images_per_class=0, test_images_per_class=40,
            deciding_parts=[part], image_size=64, batch_size=50,
        )  # fmt: skip
        model = trained(data, options.epochs)
        images, labels, masks = test_images(data, part)
        right = accuracy(model, images, labels)
        chosen = right.nonzero()[:, 0][: options.images]
        share = float(masks[chosen].float().mean())
        facts.append(
            f"- {part}: test accuracy {100 * float(right.float().mean()):.1f} %, the part fills {100 * share:.1f} % "
            f"of the image ({len(chosen)} images; trained in {time.perf_counter() - started:.0f} s)"
        )
        tables[part] = (share, rows(model, images[chosen], masks[chosen], METHODS))
        print(facts[-1], flush=True)
    lines = [
        *facts,
        "",
        "Energy: share of the map's positive mass on the part, and how many times the part's share of the image that "
        f"is. Pointing: share of maps whose peak is at most {TOLERANCE} pixels from the part. Insertion (higher is "
        "better) and deletion (lower is better): area under the curve of the class's probability.",
        "",
        "| method | " + " | ".join(f"{part}: energy | pointing | ins. | del." for part in tables) + " |",
        "|---" * (1 + 4 * len(tables)) + "|",
    ]
    for name in METHODS:
        cells = []
        for share, table in tables.values():
            energy, pointing, insertion, deletion = table[name]
            cells.append(f"{energy:.3f} ({energy / share:.1f}×) | {pointing:.2f} | {insertion:.2f} | {deletion:.2f}")
        lines.append(f"| {get(name).title} | " + " | ".join(cells) + " |")
    write_section("Attribution on toy birds (`python -m benchmarks.attribution_birds`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
