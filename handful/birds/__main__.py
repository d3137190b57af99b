"""`python -m handful.birds sheet.png`: a sheet of toy birds to look at."""

import argparse

from handful.birds.dataset import ToyBirdsDataset
from handful.birds.difficulty import DIFFICULTIES
from handful.birds.sheet import contact_sheet
from handful.errors import UserError


def main() -> None:
    """Draw the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m handful.birds", description="Draw a sheet of toy birds.")
    parser.add_argument("file", help="where to write the picture, for instance sheet.png")
    parser.add_argument("--n_classes", type=int, default=8)
    parser.add_argument("--size", type=int, default=112, help="side of one image in pixels")
    parser.add_argument("--difficulty", choices=sorted(DIFFICULTIES), default="easy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        birds = ToyBirdsDataset("train", options.n_classes, 4, options.size, options.seed, options.difficulty)
    except UserError as refusal:
        parser.error(str(refusal))
    # a palette of 256 colours makes the file a third as large
    contact_sheet(birds, rows=min(4, options.n_classes), taken_apart=1).quantize(256, kmeans=3).save(
        options.file, optimize=True
    )


if __name__ == "__main__":
    main()
