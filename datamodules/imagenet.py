"""ImageNet (ILSVRC 2012): a thousand classes, tested on the validation images."""

import csv
import io
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from datamodules.image_check import Reading
from datamodules.image_folder import ImageFiles
from datamodules.images import ImagePixels
from datamodules.locate import Files, locate_folders, open_published
from datamodules.official import OfficialData
from handful.errors import UserError
from handful.images import is_image_name

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
            raise UserError(
                f"{self.files.shown('val/')} has no folder per class, and there is neither {_SOLUTION} nor the "
                f"devkit's {_TRUTH} with {_META} that says the class of {stem}. {self.how_to_get()}"
            )
        return self._validation[stem]

    @cached_property
    def _validation(self) -> dict[str, str]:
        """Classes of validation images by the names of their files, from whichever table is there."""
        solution = self._beside(_SOLUTION)
        if solution is not None:
            rows = csv.DictReader(io.StringIO(solution.decode()))
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        truth, meta = self._beside(_TRUTH), self._beside(_META)
        if truth is None or meta is None:
            return {}
        from scipy.io import loadmat  # takes its time to import

        synsets = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        wnid = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        return {f"ILSVRC2012_val_{i:08d}": wnid[int(line)] for i, line in enumerate(truth.split(), start=1)}

    def _beside(self, name: str) -> bytes | None:
        """Return a table's content, which may lie anywhere below the root."""
        tree = self.files.tree
        path = next((path for path in tree.files() if path.rpartition("/")[2] == name), None)
        return None if path is None else tree.read(path)

    def _words(self) -> dict[str, str]:
        """Names of the classes that are words, where Kaggle's table is there and no two classes share them."""
        content = self._beside(_WORDS)
        if content is None:
            return {}
        rows = [line.split(" ", 1) for line in content.decode().splitlines() if " " in line]
        named = {wnid: words.split(",")[0].strip() for wnid, words in rows}
        names = list(named.values())
        shared = {name for name in names if names.count(name) > 1}
        return {wnid: f"{name} {wnid}" if name in shared else name for wnid, name in named.items()}

    def _files(self) -> tuple[dict[str, ImagePixels], Reading]:
        """The images as they lie, unread."""
        return {split: ImageFiles(self, split) for split in self.listing.files}, Reading()
