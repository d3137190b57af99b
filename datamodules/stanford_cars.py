"""Stanford Cars: 196 models of cars with boxes, in either of the two forms that it was distributed in."""

import io
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from datamodules.file_tree import FileTree
from datamodules.locate import Files, locate, open_published, refuse_inside
from datamodules.official import OfficialData
from handful.errors import UserError
from handful.images import Box

_ALL = "cars_annos.mat"
_META, _TRAIN = "cars_meta.mat", "cars_train_annos.mat"
_TEST, _UNLABELLED = "cars_test_annos_withlabels.mat", "cars_test_annos.mat"


class StanfordCars(OfficialData):
    """Stanford Cars by its official split: 8,144 training and 8,041 test images of 196 models.

    Two forms are read: the devkit's (`cars_train`, `cars_test`, `devkit/cars_meta.mat`, `devkit/cars_train_annos.mat`
    and `cars_test_annos_withlabels.mat`, as torchvision wants it too), and the single one (`car_ims` with
    `cars_annos.mat`). Its annotations are boxes.

    Args:
        root: the folder that holds them, or one above it.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Krause et al., "3D Object Representations for Fine-Grained Categorization" (3dRR 2013).
    """

    title = "Stanford Cars"
    download = (
        "cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat, or car_ims.tgz and "
        "cars_annos.mat (official page https://ai.stanford.edu/~jkrause/cars/car_dataset.html, which has been down: "
        "then a mirror of these files)"
    )
    official: ClassVar[Mapping[str, int]] = {"classes": 196, "train": 8144, "test": 8041}

    @cached_property
    def files(self) -> Files:
        """The files of whichever form is there."""
        tree = open_published(self.root, self.cache, self.how_to_get())
        if not any(path.casefold().endswith((_META, _ALL)) for path in tree.files()):
            for marker in (f"devkit/{_META}", _META, _ALL):
                refuse_inside(self.root, self.title, (marker,))
        ends = [path.rpartition("/")[2].casefold() for path in tree.files()]
        # copies of the devkit's form have cars_annos.mat beside it, which names none of their images
        if _ALL in ends and (_TRAIN not in ends or _has_images(tree)):
            return locate(tree, self.root, self.title, (_ALL,), self.how_to_get())
        # devkit's files lie in a folder of their own, or beside the images
        inside = any(path.casefold().endswith(f"devkit/{_META}") for path in tree.files())
        prefix = "devkit/" if inside else ""
        files = locate(tree, self.root, self.title, (prefix + _META, prefix + _TRAIN), self.how_to_get())
        if self._find(files, _TEST) is None:
            held = " (cars_test_annos.mat has no labels)" if self._find(files, _UNLABELLED) else ""
            raise UserError(f"{files.shown()} lacks {_TEST}, the labels of the test images{held}. {self.how_to_get()}")
        return files

    @staticmethod
    def _find(files: Files, name: str) -> str | None:
        """Return the official name of a file that lies in `devkit` or beside it."""
        return next((place for place in (name, f"devkit/{name}") if files.find(place) is not None), None)

    @property
    def _is_single(self) -> bool:
        there = self.files.find(_ALL) is not None
        return there and (self._find(self.files, _TRAIN) is None or _has_images(self.files.tree))

    @cached_property
    def _rows(self) -> "tuple[list[str], list[tuple[str, int, bool, Box]]]":
        """Class names, and of every image its name, class from 0, whether it is a test image, and its box."""
        if self._is_single:
            content = self._mat(_ALL, "annotations", "class_names")
            rows = [(str(row["relative_im_path"]), row, bool(row["test"])) for row in content["annotations"]]
            names = content["class_names"]
        else:
            names = self._mat(self._find(self.files, _META) or _META, "class_names")["class_names"]
            rows = []
            for table, folder in ((_TRAIN, "cars_train"), (_TEST, "cars_test")):
                where = self._find(self.files, table) or table
                for row in self._mat(where, "annotations")["annotations"]:
                    rows.append((f"{folder}/{row['fname']}", row, folder == "cars_test"))
        found = []
        for name, row, is_test in rows:
            try:
                left, top, right, bottom = (float(row[f"bbox_{edge}"]) for edge in ("x1", "y1", "x2", "y2"))
                label = int(row["class"]) - 1
            except (ValueError, TypeError, KeyError, IndexError):
                raise UserError(f"{self.files.shown()}: the annotation of {name} lacks its class or box: "
                                f"the file is not {self.title}'s.") from None  # fmt: skip
            found.append((name, label, is_test, (left - 1, top - 1, right, bottom)))
        return [str(name) for name in names], found

    def _mat(self, name: str, *keys: str) -> dict[str, Any]:
        """Read a file of MATLAB's, which holds numbers and text alone."""
        from scipy.io import loadmat  # takes its time to import

        content = self.files.content(name)
        try:
            found = loadmat(io.BytesIO(content), squeeze_me=True)
        except Exception as error:  # scipy raises what it pleases on damaged files
            raise UserError(f"{self.files.shown(name)} cannot be read as a MATLAB file: {error}.") from None
        for key in keys:
            if key not in found or (key == "annotations" and found[key].dtype.names is None):
                raise UserError(f"{self.files.shown(name)} has no {key}: it is not the file of {self.title}.")
        return {key: np.atleast_1d(found[key]) for key in keys}

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read which image is of which class and split."""
        names, rows = self._rows
        wrong = [name for name, label, _, _ in rows if not 0 <= label < len(names)]
        if wrong:
            raise UserError(f"{files.shown()}: the class of {wrong[0]} is not one of the {len(names)} that have names.")
        splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
        used = {label: place for place, label in enumerate(sorted({label for _, label, _, _ in rows}))}
        for name, label, is_test, _ in rows:
            splits["test" if is_test else "train"].append((name, used[label]))
        return [names[label] for label in used], splits

    def boxes(self) -> Mapping[str, Box]:
        """Boxes around the cars."""
        found = ((self.files.find(name), box) for name, _, _, box in self._rows[1])
        return {path: box for path, box in found if path is not None}


def _has_images(tree: FileTree) -> bool:
    """Whether the images of the single form are there."""
    return any("car_ims/" in path.casefold() for path in tree.files())
