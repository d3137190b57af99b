"""All methods on real images: the picture of the documentation.

    python -m benchmarks.attribution_gallery FOLDER      # with cifar10.zip and resnet20_cifar10.pth

Takes the first test images of some classes of CIFAR-10 and the public ResNet-20; no image is chosen by its look.
"""

import argparse
import os
import zipfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from handful.attribution import attribute, get
from handful.images import read_image
from handful.networks import build_classifier, load_weights
from handful.networks.build import IMAGENET_MEAN, IMAGENET_STD
from handful.report.overlays import captioned, overlay, picture, sheet

METHODS = (
    "cam", "gradcam", "gradient", "smoothgrad", "guided_backprop", "deconvolution", "input_x_gradient",
    "integrated_gradients", "lrp", "occlusion", "lime", "meaningful_perturbation",
)  # fmt: skip
CLASSES = ("airplane", "automobile", "cat", "dog", "frog", "horse")
SIDE = 92


def first_images(archive: Path) -> tuple[Tensor, list[str]]:
    """The first test image of each class, `(N, 3, 32, 32)` in [0, 1], and the classes of the data set."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.startswith("test/") and name.endswith(".png"))
        chosen = [next(name for name in names if name.split("/")[1] == label) for label in CLASSES]
        pixels = [torch.from_numpy(read_image(files.read(name), name).copy()).permute(2, 0, 1) for name in chosen]
    return torch.stack(pixels).float() / 255, sorted({name.split("/")[1] for name in names})


def label(text: str) -> Image.Image:
    """A method's name, as high as a picture is wide."""
    return captioned(Image.new("RGB", (110, SIDE // 2 - 14), (255, 255, 255)), [text], 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("HANDFUL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/attribution.png"))
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the folder with cifar10.zip and resnet20_cifar10.pth, or set HANDFUL_DATA")
    model = build_classifier({"backbone": "cifar_resnet20"}, 10)
    load_weights(model, options.folder / "resnet20_cifar10.pth")
    pixels, classes = first_images(options.folder / "cifar10.zip")
    mean, std = (torch.tensor(part).reshape(3, 1, 1) for part in (IMAGENET_MEAN, IMAGENET_STD))
    images = (pixels - mean) / std
    tiles = [label("")]
    with torch.inference_mode():
        probabilities = model.eval()(images).softmax(1)
    for image, row in zip(pixels, probabilities, strict=True):
        text = f"{classes[int(row.argmax())]} {100 * float(row.max()):.0f} %"
        tiles.append(captioned(picture(image, SIDE), [text], 9))
    for name in METHODS:
        found = attribute(model, images, method=name)
        tiles += [label(get(name).title)]
        for image, values in zip(pixels, found.map(), strict=True):
            tiles.append(overlay(image, values, found.signed, SIDE))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = sheet(tiles, 1 + len(CLASSES), gap=6)
    drawn.quantize(104, dither=Image.Dither.NONE).save(options.out, optimize=True)
    print(f"{options.out}: {drawn.width} × {drawn.height}, {options.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
