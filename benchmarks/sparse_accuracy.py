"""What the choices of the sparse layer give in accuracy, before any finetuning, on features of trained networks.

`python -m benchmarks.sparse_accuracy` reads CIFAR-10 and the public ResNet-20 from the folder `HANDFUL_DATA` and takes
some minutes. `--features FILE --name NAME --n_features 50` takes features of another network instead: a file of
`torch.save` with train_x, train_y, test_x, test_y.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.networks import SparseHead, build_classifier, load_weights
from handful.sparse import fit_sparse_layer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cifar_features(folder: Path) -> dict[str, Tensor]:
    """Pooled features (N, 64) of the public ResNet-20 on the un-augmented images, and labels."""
    classifier = build_classifier({"backbone": "cifar_resnet20"}, 10)
    load_weights(classifier, folder / "resnet20_cifar10.pth")
    classifier.eval()
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    held: dict[str, Tensor] = {}
    with zipfile.ZipFile(folder / "cifar10.zip") as archive, torch.inference_mode():
        for split in ("train", "test"):
            names = sorted(n for n in archive.namelist() if n.startswith(split + "/") and n.endswith(".png"))
            classes = sorted({name.split("/")[1] for name in names})
            held[split + "_y"] = torch.tensor([classes.index(name.split("/")[1]) for name in names])
            parts = []
            for low in range(0, len(names), 500):
                images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in names[low : low + 500]])
                batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
                parts.append(classifier.features((batch - mean) / std))
            held[split + "_x"] = torch.cat(parts).clone()
    return held


class Table:
    """Rows of layers fitted to the same features."""

    def __init__(self, data: dict[str, Tensor], n_features: int, features_per_class: int) -> None:
        self.data, self.wanted = data, (n_features, features_per_class)
        self.lines = [
            "| selection | solver | point | cut | test accuracy | features used | weights per class (min–max) "
            "| CPU s |",
            "|---|---|---|---|---|---|---|---|",
        ]

    def add(self, **options: Any) -> SparseHead:
        """Fits a layer and writes its row."""
        begun = time.process_time()
        head, record = fit_sparse_layer(self.data["train_x"], self.data["train_y"], *self.wanted, **options)
        seconds = time.process_time() - begun
        with torch.no_grad():
            right = head(self.data["test_x"]).argmax(1).eq(self.data["test_y"])
        accuracy = 100 * right.double().mean().item()
        fitted = record.layer
        counts = fitted["counts_per_class"]
        selection = options.get("selection", "greedy")
        seed = f", seed {options['seed']}" if selection == "saga" else ""
        self.lines.append(
            f"| {selection}{seed} | {fitted['solver']} "
            f"| {fitted['choose']}: {fitted['density_before_cut']:.1f} per class | {fitted['cut']} "
            f"| {accuracy:.2f} | {fitted['n_features']} | {fitted['features_per_class']:.2f} "
            f"({min(counts)}–{max(counts)}) | {seconds:.1f} |"
        )
        print(self.lines[-1], flush=True)
        return head


def compare(data: dict[str, Tensor], n_features: int, features_per_class: int, glm_saga: bool) -> list[str]:
    table = Table(data, n_features, features_per_class)
    for choose in ("density", "validation"):
        for cut in ("average", "per_class", "refit"):
            layer = table.add(choose=choose, cut=cut, seed=0)
            if (choose, cut) == ("density", "average"):
                greedy = set(layer.selection.tolist())
    for solver in ("saga", "glm_saga") if glm_saga else ("saga",):
        table.add(solver=solver, seed=0)
    sets = [
        set(table.add(selection="saga", solver="saga" if seed == 0 else "exact", seed=seed).selection.tolist())
        for seed in (0, 1, 2)
    ]
    between = [jaccard(a, b) for a, b in combinations(sets, 2)]
    across = [jaccard(greedy, other) for other in sets]
    return [
        *table.lines,
        "",
        f"Overlap (Jaccard) of the chosen features: `greedy` with `saga`, three seeds, {mean_of(across)}; two seeds of "
        f"`saga` with each other {mean_of(between)}.",
    ]


def jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def mean_of(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--features", type=Path, help="file of train_x, train_y, test_x, test_y")
    parser.add_argument("--name", default="ResNet-20 on CIFAR-10", help="of network and data, for the title")
    parser.add_argument("--n_features", type=int, default=32)
    parser.add_argument("--features_per_class", type=int, default=5)
    parser.add_argument("--no_glm_saga", action="store_true", help="leave out the package, which is slow")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.features is not None:
        data = torch.load(args.features, weights_only=True)
    elif folder := os.environ.get("HANDFUL_DATA"):
        data = cifar_features(Path(folder))
    else:
        raise SystemExit("HANDFUL_DATA, the folder with cifar10.zip and resnet20_cifar10.pth, is not set")
    n, f = data["train_x"].shape
    about = (
        f"{n:,} training rows × {f} features, {int(data['train_y'].max()) + 1} classes; {args.n_features} features, "
        f"{args.features_per_class} per class; test accuracy in per cent, before finetuning."
    )
    lines = compare(data, args.n_features, args.features_per_class, not args.no_glm_saga)
    title = f"The sparse layer's choices: {args.name} (`python -m benchmarks.sparse_accuracy`)"
    write_section(title, [about, "", *lines])


if __name__ == "__main__":
    main()
