"""How fast images are loaded, against the network that they feed; how soon a large folder is open once it is indexed.

`python -m benchmarks.loading [--files 50000] [--images 512] [--threads 1]`. Photographs are JPEGs of smoothed noise,
500 × 375, as CUB-200-2011 has them. CPU time is that of all processes, on one thread each, which other work on the
machine changes little; two cores give twice as many images per second. Wall-clock time is that of this moment.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from datamodules import ImageFolder
from handful.networks import build_classifier
from handful.networks.memory_format import for_convolutions

SIZE, BATCH = 224, 32
NETWORKS = ("tf_efficientnet_lite0", "resnet50")


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measured(run: Callable[[], int]) -> tuple[float, float]:
    """CPU milliseconds per image, and images per second of wall-clock time."""
    began, clock = cpu(), time.perf_counter()
    count = run()
    return 1000 * (cpu() - began) / count, count / (time.perf_counter() - clock)


# -- loading ------------------------------------------------------------------------------------------------------


def photographs(folder: Path, count: int) -> Path:
    """Class folders of JPEGs of noise, smoothed as photographs are."""
    draw = np.random.default_rng(0)
    for number in range(count):
        file = folder / ("train" if number % 4 else "test") / "ab"[number // 4 % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)
    return folder


def loading(root: Path, cache: Path, images: int) -> list[str]:
    """A row for every way to load a training image."""
    lines = ["| images come from | augmentation | loader processes | CPU ms an image | images/s, wall-clock |",
             "|---|---|---|---|---|"]  # fmt: skip
    for kept in (False, True):
        for augmentation in ("crop_flip", "resized_crop", "standard", "timm"):
            for workers in (0, 2):
                data = ImageFolder(str(root), cache=kept, image_size=SIZE, batch_size=BATCH, num_workers=workers,
                                   normalisation="imagenet", augmentation=augmentation, repeats="warn",
                                   cache_dir=str(cache))  # fmt: skip
                data.follow({"backbone": NETWORKS[0]})
                data.setup()

                def run(data: ImageFolder = data, wanted: int = images) -> int:
                    seen = 0
                    for batch, _ in data.train_dataloader():
                        seen += len(batch)
                        if seen >= wanted:
                            break
                    return seen

                run(wanted=BATCH)  # what is imported or mapped at first
                each, rate = measured(run)
                source = "the cache, resized" if kept else "the files"
                lines.append(f"| {source} | {augmentation} | {workers} | {each:.2f} | {rate:.0f} |")
                print(lines[-1], flush=True)
    return lines


def network_lines(images: int) -> list[str]:
    """A row for every network: what it costs to classify an image and to train on it."""
    lines = ["| network | | CPU ms an image | images/s, wall-clock |", "|---|---|---|---|"]
    batch, labels = for_convolutions(torch.randn(BATCH, 3, SIZE, SIZE)), torch.arange(BATCH) % 100
    for name in NETWORKS:
        model = build_classifier({"backbone": name}, 100)

        def classify(model: torch.nn.Module = model) -> int:
            model.eval()
            with torch.inference_mode():
                for _ in range(max(1, images // BATCH // 4)):
                    model(batch)
            return max(1, images // BATCH // 4) * BATCH

        def train(model: torch.nn.Module = model) -> int:
            model.train()
            for _ in range(2):
                torch.nn.functional.cross_entropy(model(batch), labels).backward()
            return 2 * BATCH

        for what, run in (("forward pass", classify), ("training step", train)):
            each, rate = measured(run)
            lines.append(f"| {name} | {what} | {each:.1f} | {rate:.1f} |")
            print(lines[-1], flush=True)
    return lines


# -- start ---------------------------------------------------------------------------------------------------------


def tiny_files(folder: Path, count: int) -> Path:
    """A folder of 100 classes in two splits with so many files of 8 × 8 pixels, all different."""
    draw = np.random.default_rng(0)
    for label in range(100):
        for split in ("train", "test"):
            (folder / split / f"class_{label:03d}").mkdir(parents=True)
    for number in range(count):
        split = "test" if number // 100 % 5 == 0 else "train"
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / f"class_{number % 100:03d}" / f"{number:06d}.png")
    return folder


def opened(root: Path, cache: Path) -> dict[str, float]:
    """Seconds until the splits are there, and until the first batch is; in this process."""
    began, clock = cpu(), time.perf_counter()
    data = ImageFolder(str(root), image_size=8, batch_size=BATCH, normalisation="imagenet", cache_dir=str(cache))
    data.setup()
    listed = cpu() - began, time.perf_counter() - clock
    next(iter(data.train_dataloader()))
    return {
        "splits": listed[1], "splits_cpu": listed[0], "batch": time.perf_counter() - clock,
        "batch_cpu": cpu() - began, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def start_lines(count: int, folder: Path) -> list[str]:
    """A row per process that opens the same folder: the first indexes it."""
    root, cache = tiny_files(folder / "many", count), folder / "cache"
    lines = [f"| {count:,} files | splits are there after s (CPU s) | the first batch after s (CPU s) | peak MiB |",
             "|---|---|---|---|"]  # fmt: skip
    for name in ("first, which indexes", "again", "again"):
        command = [sys.executable, "-m", "benchmarks.loading", "--open", str(root), str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        lines.append(
            f"| {name} | {found['splits']:.2f} ({found['splits_cpu']:.2f}) | {found['batch']:.2f} "
            f"({found['batch_cpu']:.2f}) | {found['mib']:.0f} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--open", nargs=2, type=Path, metavar=("ROOT", "CACHE"), help="only open a folder, and time it")
    given = parser.parse_args()
    if given.open:
        print(json.dumps(opened(*given.open)))
        return
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        root = photographs(folder / "photos", given.images * 4 // 3 + BATCH)
        start = start_lines(given.files, folder)
        lines = [
            f"{SIZE} px, batches of {BATCH}, {given.threads} threads; JPEGs of 500 × 375 pixels. From the files: "
            "decoded and resized each time. From the cache: decoded and resized once, kept as pixels.",
            "", *loading(root, folder / "cache", given.images), "", *network_lines(given.images), "",
            "Opening a folder of small files, each row a process of its own, after its imports:", "",
            *start,
        ]  # fmt: skip
    write_section("Loading images (`python -m benchmarks.loading`)", lines)


if __name__ == "__main__":
    main()
