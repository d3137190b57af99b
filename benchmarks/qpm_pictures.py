"""The pictures of docs/qpm.md: two classes that differ in one feature, steps from all classes to one, sets in words.

`python -m benchmarks.qpm_pictures --run_dir RUN` draws what the report of a run with a binary head holds, with
`evaluate --conformal` before it also the sets, into `docs/images`.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.arguments import argument_parser
from handful.atomic import atomic
from handful.report.overlays import captioned, sheet
from handful.report.sections import class_pairs, hierarchy, sets
from pipelines.finished_run import Run
from pipelines.report import content_of

DOCS = Path(__file__).parent.parent / "docs" / "images"


def class_pair(pair: Mapping[str, Any]) -> Image.Image:
    """A row per class: an image of it, then each feature with where it looked."""
    tiles = []
    for row in pair["rows"]:
        tiles.append(captioned(row["image"], [_called(row["name"])]))
        tiles += [captioned(image, [feature, _called(caption)]) for image, feature, caption in row["maps"]]
    return sheet(tiles, len(tiles) // len(pair["rows"]))


def steps(cards: Sequence[Mapping[str, Any]], classes: int) -> Image.Image:
    """A row per image: the image, then each step with the classes that are left, down to one."""
    rows = []
    for card in cards:
        right = card["predicted"] == card["truth"]
        row = [captioned(card["image"], [f"{'right' if right else 'wrong'}: {_called(card['truth'])}",
                                         f"{classes} classes"])]  # fmt: skip
        for level in card["levels"]:
            left = [_called(name) for name in level["classes"]]
            some = ", ".join(left[:3]) + (f", {len(left) - 3} more" if len(left) > 3 else "")
            words = [f"feature {level['feature']}: {level['value']:+.1f}"]
            words += [some] if len(left) == 1 else [f"{len(left)} left: {some}"]
            row.append(captioned(card["maps"][level["feature"]], words))
        rows.append(row)
    wide = max(map(len, rows))
    blank = Image.new("RGB", (1, 1), (255, 255, 255))
    return sheet([tile for row in rows for tile in (*row, *[blank] * (wide - len(row)))], wide)


def sets_in_words(cards: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A row per image: its sentence above, the image, the features that are shared, and those that would decide."""
    rows = []
    for card in cards:
        tiles = [captioned(card["image"], [f"in truth: {_called(card['truth'])}"])]
        tiles += [captioned(image, [feature, _called(caption)]) for image, feature, caption in card["maps"]]
        rows.append(sheet(tiles, len(tiles)))
    wide = max(row.width for row in rows)
    paper = Image.new("RGB", (wide, 1), (255, 255, 255))
    lines = [captioned(paper, textwrap.wrap(_called(card["in_words"]), 110)) for card in cards]
    return sheet([part for pair in zip(lines, rows, strict=True) for part in pair], 1, gap=2)


def _called(name: str) -> str:
    return name.replace("_", " ")


def save(image: Image.Image, path: Path) -> None:
    """Write a picture as JPEG."""
    with atomic(path) as file:
        image.save(file, "JPEG", quality=82, optimize=True)
    print(f"{path}: {image.width} × {image.height}, {path.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    """Draw and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--pair", type=int, default=0, help="which of the report's pairs of classes")
    parser.add_argument("--out", type=Path, default=DOCS)
    given = parser.parse_args()
    content = content_of(Run(given.run_dir))
    pairs, ways, found = class_pairs.build(content), hierarchy.build(content), sets.build(content)
    if pairs is None or ways is None or content.deciding is None:
        parser.error(f"--run_dir: {given.run_dir} has no binary head whose classes come in pairs")
    save(class_pair(pairs["pairs"][given.pair]), given.out / "class_pair.jpg")
    save(steps(ways["cards"], len(content.deciding.names)), given.out / "hierarchy.jpg")
    if found is not None and found["cards"]:
        save(sets_in_words(found["cards"]), given.out / "conformal_sets.jpg")


if __name__ == "__main__":
    main()
