"""Stanford Cars: 196 models of cars with boxes, in any of the forms that it is distributed in."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from datamodules.file_tree import FileTree, split_of
from datamodules.locate import Files, lines_of, locate, locate_folders, numbers, open_published, refuse_inside
from datamodules.matlab import mat_fields
from datamodules.official import OfficialData, in_class_folders
from handful.errors import UserError
from handful.images import Box, is_image_name
from handful.text import safe_text

_ALL = "cars_annos.mat"
_META, _TRAIN = "cars_meta.mat", "cars_train_annos.mat"
_TEST, _UNLABELLED = "cars_test_annos_withlabels.mat", "cars_test_annos.mat"


class StanfordCars(OfficialData):
    """Stanford Cars by its official split: 8,144 training and 8,041 test images of 196 models.

    Three forms are read: the devkit's (`cars_train`, `cars_test`, `devkit/cars_meta.mat`, `devkit/cars_train_annos.mat`
    and `cars_test_annos_withlabels.mat`, as torchvision wants it too), the single one (`car_ims` with
    `cars_annos.mat`), and copies in class folders (`train/<class>/`, `test/<class>/`, and boxes in `anno_train.csv` and
    `anno_test.csv`). The tables may lie in any folder. Its annotations are boxes.

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
        """The files of whichever form is there, from the folder that holds the images on."""
        tree = open_published(self.root, self.cache, self.how_to_get())
        top = Files(tree, "")
        if not any(map(top.anywhere, (_META, _TRAIN, _ALL))):
            for marker in (f"devkit/{_META}", _META, _ALL):
                refuse_inside(self.root, self.title, (marker,))
            if _holds_class_folders(tree):
                return locate_folders(tree, self.root, self.title, ("train", "test"), self.how_to_get())
        if _is_single(top):
            found = locate(tree, self.root, self.title, (_ALL,), self.how_to_get())
            return _from_images_on(found, "car_ims")
        # devkit's files lie in a folder of their own, or beside the images
        inside = any(path.casefold().endswith(f"devkit/{_META}") for path in tree.files())
        prefix = "devkit/" if inside else ""
        found = locate(tree, self.root, self.title, (prefix + _META, prefix + _TRAIN), self.how_to_get())
        if top.anywhere(_TEST) is None:
            held = " (cars_test_annos.mat has no labels)" if top.anywhere(_UNLABELLED) else ""
            raise UserError(f"{found.shown()} lacks {_TEST}, the labels of the test images{held}. {self.how_to_get()}")
        return _from_images_on(found, "cars_train")

    @cached_property
    def _rows(self) -> "tuple[list[str], list[tuple[str, int, bool, Box]]]":
        """Class names, and of every image its name, class from 0, whether it is a test image, and its box."""
        if _is_single(self.files):
            content = self._mat(_ALL, "annotations", "class_names")
            rows = [(str(row["relative_im_path"]), row, bool(row["test"])) for row in content["annotations"]]
            names = content["class_names"]
        else:
            names = self._mat(_META, "class_names")["class_names"]
            rows = []
            for table, folder in ((_TRAIN, "cars_train"), (_TEST, "cars_test")):
                for row in self._mat(table, "annotations")["annotations"]:
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
        """Read a file of MATLAB's, which may lie in any folder."""
        path = Files(self.files.tree, "").anywhere(name) or name
        shown = safe_text(self.files.tree.root / path)
        found = mat_fields(self.files.tree.read(path), shown, self.title, *keys)
        if "annotations" in keys and found["annotations"].dtype.names is None:
            raise UserError(f"{shown} has no annotations: it is not the file of {self.title}.")
        return found

    @cached_property
    def _in_class_folders(self) -> bool:
        """Whether it is the copy in folders of classes, without the authors' tables."""
        return not any(map(Files(self.files.tree, "").anywhere, (_META, _TRAIN, _ALL)))

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read which image is of which class and split."""
        if self._in_class_folders:
            return in_class_folders(files)
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
        """Boxes around the cars; none where the copy in class folders is without its tables of them."""
        if self._in_class_folders:
            return self._boxes_by_name()
        found = ((self.files.find(name), box) for name, _, _, box in self._rows[1])
        return {path: box for path, box in found if path is not None}

    def _boxes_by_name(self) -> dict[str, Box]:
        tree, found = self.files.tree, {}
        for split in ("train", "test"):
            path = Files(tree, "").anywhere(f"anno_{split}.csv")
            if path is None:
                return {}
            shown = safe_text(tree.root / path)
            by_name = {name.rpartition("/")[2]: name for name in self.files.names(f"{split}/")}
            for line, row in enumerate(lines_of(tree.read(path), shown), start=1):
                image, *cells = row.split(",")
                edges = numbers(cells[:4] if len(cells) > 3 else [""], shown, line)
                image_path = self.files.find(by_name.get(image, ""))
                if image_path is not None:
                    found[image_path] = (edges[0] - 1, edges[1] - 1, edges[2], edges[3])
        return found


def _is_single(files: Files) -> bool:
    """Whether images and table are those of the single form; copies of the devkit's may have that table beside it."""
    images = any("car_ims/" in path.casefold() for path in files.tree.files())
    top = Files(files.tree, "")
    return top.anywhere(_ALL) is not None and (images or top.anywhere(_TRAIN) is None)


def _from_images_on(files: Files, images: str) -> Files:
    """Return the files from the folder on that holds a folder of images, wherever the tables lie."""
    named = [folder for folder in files.tree.folders() if folder.rpartition("/")[2].casefold() == images]
    if not named:
        return files
    above = min(named, key=lambda folder: (folder.count("/"), folder)).rpartition("/")[0]
    return Files(files.tree, f"{above}/" if above else "")


def _holds_class_folders(tree: FileTree) -> bool:
    """Whether there is a folder of training images with a folder per class."""
    return any(split_of(part) == "train" for path in tree.files() if is_image_name(path)
               for part in path.split("/")[:-2])  # fmt: skip
