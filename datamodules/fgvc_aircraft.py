"""FGVC-Aircraft: 10,000 aeroplanes by variant, family or manufacturer."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from datamodules.locate import Files, numbers
from datamodules.official import OfficialData
from handful.errors import UserError, did_you_mean
from handful.images import Box

Level = Literal["variant", "family", "manufacturer"]

_PLURAL = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
_CLASSES = {"variant": 100, "family": 70, "manufacturer": 30}
_BOXES = "images_box.txt"
#: Rows of pixels at the bottom of every picture that hold its copyright.
BANNER = 20


class FGVCAircraft(OfficialData):
    """FGVC-Aircraft by its official split: 6,667 training (3,334 and 3,333 of validation) and 3,333 test images.

    Args:
        root: the unpacked folder `fgvc-aircraft-2013b`, one above or below it, or the archive.
        level: what a class is: "variant" (100, the papers'), "family" (70) or "manufacturer" (30).
        train_on: "trainval" trains on the validation images too, as the papers do; "train" keeps them to validate on.
        remove_banner: cut off the 20 rows at the bottom that hold the copyright, as the authors of the data set ask.
            Published results of fine-grained methods mostly keep them.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Maji et al., "Fine-Grained Visual Classification of Aircraft" (arXiv 1306.5151).
    """

    title = "FGVC-Aircraft"
    download = "fgvc-aircraft-2013b.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"

    def __init__(
        self,
        root: str,
        level: Level = "variant",
        train_on: Literal["trainval", "train"] = "trainval",
        remove_banner: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        for name, value, known in (("level", level, get_args(Level)), ("train_on", train_on, ("trainval", "train"))):
            if value not in known:
                raise UserError(
                    f"data.{name} must be one of {', '.join(known)}, not {value!r}{did_you_mean(value, known)}."
                )
        self.level, self.train_on, self.remove_banner = level, train_on, remove_banner
        images = {"train": 6667} if train_on == "trainval" else {"train": 3334, "val": 3333}
        self.official = {"classes": _CLASSES[level], **images, "test": 3333}  # type: ignore[misc]
        self.markers = (_PLURAL[level], f"images_{level}_{train_on}.txt", f"images_{level}_test.txt")  # type: ignore[misc]

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read which image is of which class and split."""
        listed = _PLURAL[self.level]
        names = [line.strip() for line in files.lines(listed) if line.strip()]
        number = {name: label for label, name in enumerate(names)}
        parts = {"train": self.train_on, "test": "test"} | ({"val": "val"} if self.train_on == "train" else {})
        splits: dict[str, list[tuple[str, int]]] = {}
        place: dict[str, str] = {}
        for split, part in parts.items():
            file = f"images_{self.level}_{part}.txt"
            for line, (image, name) in files.rows(file, 2):
                if name not in number:
                    raise UserError(f"{files.shown(file)}, line {line}: the class {name!r} is not in {listed}"
                                    f"{did_you_mean(name, number)}.")  # fmt: skip
                if place.setdefault(image, file) != file:
                    raise UserError(f"{files.shown(file)}, line {line}: the image {image} is in {place[image]} too.")
                splits.setdefault(split, []).append((f"images/{image}.jpg", number[name]))
        used = sorted({label for rows in splits.values() for _, label in rows})
        again = {label: place for place, label in enumerate(used)}
        return [names[label] for label in used], {
            split: [(image, again[label]) for image, label in rows] for split, rows in splits.items()
        }

    def boxes(self) -> Mapping[str, Box]:
        """Boxes around the aeroplanes; none where the file is missing."""
        if self.files.find(_BOXES) is None:
            return {}
        found, shown = {}, self.files.shown(_BOXES)
        for line, (image, *cells) in self.files.rows(_BOXES, 5):
            left, top, right, bottom = numbers(cells, shown, line)
            path = self.files.find(f"images/{image}.jpg")
            if path is not None:
                found[path] = (left - 1, top - 1, right, bottom)  # counted from 1, the last pixel included
        return found

    def used_boxes(self) -> Mapping[str, Box]:
        """The box, or all above the banner."""
        if self.crop_to_box or not self.remove_banner:
            return super().used_boxes()
        images = [path for path in self.files.tree.files() if path.startswith(f"{self.files.base}images/")]
        return dict.fromkeys(images, (0.0, 0.0, 0.0, -float(BANNER)))
