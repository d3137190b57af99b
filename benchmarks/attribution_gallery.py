"""All methods on photographs: the picture of the documentation.

    python -m benchmarks.attribution_gallery runs/cub100 cub100.zip      # a finished run and what it was trained on

Takes the first test image of every sixteenth class; no image is chosen by its look.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

import handful
from benchmarks.arguments import argument_parser
from handful.attribution import attribute, get
from handful.errors import UserError
from handful.images import read_image
from handful.report.overlays import captioned, overlay, picture, sheet

METHODS = (
    "cam", "gradcam", "gradient", "smoothgrad", "guided_backprop", "deconvolution", "input_x_gradient",
    "integrated_gradients", "lrp", "occlusion", "lime", "meaningful_perturbation",
)  # fmt: skip
SIDE, COUNT = 92, 6


def first_images(archive: Path, classes: Sequence[str]) -> tuple[list[str], list[Image.Image]]:
    """The first test image of some classes, evenly spaced, and the names of these classes."""
    chosen = classes[:: max(1, len(classes) // COUNT)][:COUNT]
    with zipfile.ZipFile(archive) as files:
        names = sorted(files.namelist())
        images = [name for name in names if not name.endswith("/")]
        first = [next(name for name in images if f"test/{label}/" in name) for label in chosen]
        return list(chosen), [Image.fromarray(read_image(files.read(name), name)) for name in first]


def label(text: str) -> Image.Image:
    """A method's name, as high as a picture is wide."""
    return captioned(Image.new("RGB", (110, SIDE // 2 - 14), (255, 255, 255)), [text], 12)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--phase", default="dense", help="whose classifier is explained")
    parser.add_argument("--out", type=Path, default=Path("docs/images/attribution.jpg"))
    options = parser.parse_args()
    model = handful.load(options.run_dir, options.phase)
    inputs = model.inputs
    assert inputs is not None
    labels, photographs = first_images(options.archive, inputs.class_names)
    images = torch.stack([inputs.image(photograph) for photograph in photographs])
    tiles = [label("")]
    with torch.no_grad():
        probabilities = model(images).softmax(1)
    pixels = inputs.denormalise(images)
    for image, row, truth in zip(pixels, probabilities, labels, strict=True):
        found = inputs.class_names[int(row.argmax())]
        text = f"{found.replace('_', ' ')} {100 * float(row.max()):.0f} %"
        lines = [text] if found == truth else [text, f"(is {truth.replace('_', ' ')})"]
        tiles.append(captioned(picture(image, SIDE), lines, 9))
    for name in METHODS:
        try:
            maps = attribute(model, images, method=name)
        except UserError as error:  # a method that cannot take this network is left out, in words
            print(f"{name}: {error}", flush=True)
            continue
        tiles += [label(get(name).title)]
        for image, values in zip(pixels, maps.map(), strict=True):
            tiles.append(overlay(image, values, maps.signed, SIDE))
        print(name, flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = sheet(tiles, 1 + len(labels), gap=6)
    drawn.convert("RGB").save(options.out, quality=88, optimize=True)
    print(f"{options.out}: {drawn.width} × {drawn.height}, {options.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
