"""ImageNet (ILSVRC 2012): a thousand classes, tested on the validation images."""

import csv
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from datamodules.image_check import Reading
from datamodules.image_folder import ImageFiles
from datamodules.images import ImagePixels
from datamodules.locate import Files, lines_of, locate_folders, open_published, rows_of
from datamodules.matlab import mat_fields
from datamodules.official import OfficialData
from handful.errors import UserError
from handful.images import is_image_name
from handful.text import safe_text

_SOLUTION, _WORDS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


class ImageNet(OfficialData):
    """ImageNet in folders: `train/<wnid>/*.JPEG`, and the 50,000 validation images as the test.

    The validation images lie in a folder per class, or all in `val/` beside `LOC_val_solution.csv` (Kaggle's form,
    `ILSVRC/Data/CLS-LOC`) or the devkit's `ILSVRC2012_validation_ground_truth.txt` and `meta.mat`. Labels count the
    sorted names of the folders, as pretrained networks do.

    The images are not all decoded beforehand, which takes hours: one that cannot be read is refused when it is met.
    They are streamed from the disk, and nothing of them is kept in memory.

    Args:
        root: the folder that holds `train` and `val`, or one above it.
        image_size: side of the images in pixels.
        cache: see `ImageFolder`; true keeps decoded copies, which takes 200 GB at 224 pixels.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge" (IJCV 2015).
    """

    title = "ImageNet"
    download = (
        "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from "
        "https://image-net.org/download.php, with a folder per class in train/"
    )
    official: ClassVar[Mapping[str, int]] = {"classes": 1000, "train": 1_281_167, "test": 50_000}

    def __init__(self, root: str, image_size: int = 224, cache: Any = False, **kwargs: Any) -> None:
        super().__init__(root, image_size=image_size, cache=cache, **kwargs)

    @cached_property
    def files(self) -> Files:
        """The files below the folder that holds `train` and `val`."""
        tree = open_published(self.root, self.cache, self.how_to_get())
        return locate_folders(tree, self.root, self.title, ("train", "val"), self.how_to_get())

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read classes off the training folders, and the labels of the validation images."""
        train = [(name, name.split("/")[1]) for name in files.names("train/") if name.count("/") > 1]
        train = [(name, wnid) for name, wnid in train if is_image_name(name)]
        number = {wnid: label for label, wnid in enumerate(sorted({wnid for _, wnid in train}))}
        val = [(name, self._validation_class(name)) for name in files.names("val/") if is_image_name(name)]
        packed = [] if train else [name for name in files.names("train/") if name.casefold().endswith(".tar")]
        if packed:
            raise UserError(f"{files.shown(packed[0])}: the training images are still packed, in an archive per class. "
                            f"Unpack each into a folder of its own name, {safe_text(packed[0][:-4])}/.")  # fmt: skip
        wrong = [(name, wnid) for name, wnid in val if wnid not in number]
        if wrong:
            raise UserError(f"{files.shown(wrong[0][0])}: its class {wrong[0][1]} has no folder in train/.")
        words = self._words()
        rows = {"train": train, "test": val}
        return [words.get(wnid, wnid) for wnid in number], {
            split: [(name, number[wnid]) for name, wnid in named] for split, named in rows.items()
        }

    def _validation_class(self, name: str) -> str:
        """Return the class of a validation image: its folder, or what the tables say."""
        if name.count("/") > 1:
            return name.split("/")[1]
        stem = name.rpartition("/")[2].rpartition(".")[0]
        if stem not in self._validation:
            above = [place for place in list(self.root.expanduser().absolute().parents)[:3]
                     if (place / _SOLUTION).is_file()]  # fmt: skip
            if above:
                raise UserError(f"{safe_text(above[0])} holds {_SOLUTION}, the classes of the images in "
                                f"{self.files.shown('val/')}: give it as data.root.")  # fmt: skip
            raise UserError(
                f"{self.files.shown('val/')} has no folder per class, and there is neither {_SOLUTION} nor the "
                f"devkit's {_TRUTH} with {_META} that says the class of {stem}. {self.how_to_get()}"
            )
        return self._validation[stem]

    @cached_property
    def _validation(self) -> dict[str, str]:
        """Classes of validation images by the names of their files, from whichever table is there."""
        solution = self.files.anywhere(_SOLUTION)
        if solution is not None:
            return self._of_kaggle(solution)
        truth, meta = self.files.anywhere(_TRUTH), self.files.anywhere(_META)
        return self._of_devkit(truth, meta) if truth and meta else {}

    def _of_kaggle(self, path: str) -> dict[str, str]:
        lines, shown = self._lines(path)
        reader = csv.reader(lines, delimiter=";" if lines and ";" in lines[0] else ",")
        found: dict[str, str] = {}
        try:
            header = next(reader, [])
            if not {"ImageId", "PredictionString"} <= set(header):
                raise UserError(f"{shown} has no columns ImageId and PredictionString: download it again.")
            image, boxes = header.index("ImageId"), header.index("PredictionString")
            for row in filter(None, reader):
                classes = row[boxes].split() if len(row) > max(image, boxes) else []
                if not classes:
                    raise UserError(f"{shown}, line {reader.line_num}: no class of {row[0]}; the file seems to be "
                                    "truncated, download it again.")  # fmt: skip
                found[row[image]] = classes[0]
        except csv.Error as error:
            raise UserError(f"{shown} is not a readable CSV file: {error}.") from None
        return found

    def _of_devkit(self, truth: str, meta: str) -> dict[str, str]:
        tree, known = self.files.tree, safe_text(self.files.tree.root / meta)
        synsets = mat_fields(tree.read(meta), known, self.title, "synsets")["synsets"]
        try:
            wnid = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        except (IndexError, ValueError, TypeError):
            raise UserError(f"{known} names no classes: it is not the file of {self.title}.") from None
        lines, shown = self._lines(truth)
        found = {}
        for number, line in enumerate(lines, start=1):
            label = line.strip()
            if not label.isdecimal() or int(label) not in wnid:
                raise UserError(f"{shown}, line {number}: {safe_text(label)!r} is no class of {known}.")
            found[f"ILSVRC2012_val_{number:08d}"] = wnid[int(label)]
        return found

    def _lines(self, path: str) -> tuple[list[str], str]:
        """Return the lines of a table, and its name for the sentence."""
        shown = safe_text(self.files.tree.root / path)
        return lines_of(self.files.tree.read(path), shown), shown

    def _words(self) -> dict[str, str]:
        """Names of the classes that are words, where Kaggle's table has them; equal ones with their WNID."""
        path = self.files.anywhere(_WORDS)
        if path is None:
            return {}
        lines, shown = self._lines(path)
        named = {cells[0]: cells[1].split(",")[0].strip() for _, cells in rows_of(lines, shown, 2)}
        shared = {name for name, count in Counter(named.values()).items() if count > 1}
        return {wnid: f"{name} {wnid}" if name in shared else name for wnid, name in named.items()}

    def _files(self) -> tuple[dict[str, ImagePixels], Reading]:
        """The images as they lie, unread."""
        if self.unreadable == "skip":
            raise UserError("data.unreadable: skip needs every image to be read beforehand, which ImageNet's are not; "
                            "remove what cannot be read, or set data.cache to true.")  # fmt: skip
        return {split: ImageFiles(self, split) for split in self.listing.files}, Reading()
