"""CIFAR-10 and CIFAR-100: 32 × 32 pixels, as their authors distribute them."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from datamodules.arrays import ArrayData, Arrays, records
from datamodules.locate import Files
from datamodules.pickled import lists_and_bytes
from handful.errors import UserError, did_you_mean

_PIXELS = 3 * 32 * 32
_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


class _Cifar(ArrayData):
    """What both have in common: records of labels and pixels, or pickled dictionaries, which are read, never run."""

    official: ClassVar[Mapping[str, int]] = {"train": 50_000, "test": 10_000}

    def _binary(self, files: Files, splits: Mapping[str, list[str]], labels: int, column: int) -> dict[str, Arrays]:
        found: dict[str, Arrays] = {}
        for split, names in splits.items():
            rows = np.concatenate(
                [records(files.content(name), labels + _PIXELS, files.shown(name)) for name in names]
            )
            found[split] = (_images(rows[:, labels:]), rows[:, column].astype(np.int64))
        return found

    def _pickled(self, files: Files, splits: Mapping[str, list[str]], key: str) -> dict[str, Arrays]:
        found: dict[str, Arrays] = {}
        for split, names in splits.items():
            images, labels = [], []
            for name in names:
                lists, texts = lists_and_bytes(files.content(name), files.shown(name))
                pixels = max(texts, key=len, default=b"")
                if key not in lists or len(pixels) != len(lists[key]) * _PIXELS:
                    raise UserError(f"{files.shown(name)} has no {key} that fit its pixels: download it again.")
                images.append(np.frombuffer(pixels, dtype=np.uint8).reshape(-1, _PIXELS))
                labels += [int(value) for value in lists[key]]
            found[split] = (_images(np.concatenate(images)), np.array(labels, dtype=np.int64))
        return found


class CIFAR10(_Cifar):
    """CIFAR-10: 50,000 training and 10,000 test images of ten classes.

    Args:
        root: the unpacked folder `cifar-10-batches-bin` or `cifar-10-batches-py`, one above it, or the archive.
        **kwargs: see `ArrayData` and `HandfulDataModule`.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """

    title = "CIFAR-10"
    download = f"cifar-10-binary.tar.gz (or cifar-10-python.tar.gz) from {_PAGE}"

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    @property
    def forms(self) -> Mapping[str, tuple[str, ...]]:
        """Binary records, or pickled dictionaries."""
        batches = [f"data_batch_{i}" for i in range(1, 6)]
        return {
            "binary": (*(f"{batch}.bin" for batch in batches), "test_batch.bin", "batches.meta.txt"),
            "python": (*batches, "test_batch", "batches.meta"),
        }

    def names(self, files: Files, form: str) -> list[str]:
        """Those of the meta file."""
        if form == "binary":
            return [line.strip() for line in files.lines("batches.meta.txt") if line.strip()]
        return _names(files, "batches.meta", "label_names")

    def arrays(self, files: Files, form: str) -> dict[str, Arrays]:
        """Read the five training batches and the test batch."""
        *train, test, _ = self.forms[form]
        if form == "binary":
            return self._binary(files, {"train": train, "test": [test]}, 1, 0)
        return self._pickled(files, {"train": train, "test": [test]}, "labels")


class CIFAR100(_Cifar):
    """CIFAR-100: 50,000 training and 10,000 test images of a hundred classes, or of twenty coarse ones.

    Args:
        root: the unpacked folder `cifar-100-binary` or `cifar-100-python`, one above it, or the archive.
        level: "fine" (100 classes) or "coarse" (20).
        **kwargs: see `ArrayData` and `HandfulDataModule`.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """

    title = "CIFAR-100"
    download = f"cifar-100-binary.tar.gz (or cifar-100-python.tar.gz) from {_PAGE}"

    def __init__(self, root: str, level: Literal["fine", "coarse"] = "fine", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        if level not in ("fine", "coarse"):
            near = did_you_mean(level, ("fine", "coarse"))
            raise UserError(f"data.level must be fine or coarse, not {level!r}{near}.")
        self.level = level

    @property
    def forms(self) -> Mapping[str, tuple[str, ...]]:
        """Binary records, or pickled dictionaries."""
        return {
            "binary": ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"),
            "python": ("train", "test", "meta"),
        }

    def names(self, files: Files, form: str) -> list[str]:
        """Those of the meta file."""
        if form == "binary":
            return [line.strip() for line in files.lines(f"{self.level}_label_names.txt") if line.strip()]
        return _names(files, "meta", f"{self.level}_label_names")

    def arrays(self, files: Files, form: str) -> dict[str, Arrays]:
        """Read the training and the test file."""
        train, test = self.forms[form][:2]
        if form == "binary":
            return self._binary(files, {"train": [train], "test": [test]}, 2, 1 if self.level == "fine" else 0)
        return self._pickled(files, {"train": [train], "test": [test]}, f"{self.level}_labels")


def _images(rows: Any) -> Any:
    """Rows of one colour after another → images `(N, 32, 32, 3)`."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _names(files: Files, name: str, key: str) -> list[str]:
    lists, _ = lists_and_bytes(files.content(name), files.shown(name))
    if key not in lists:
        raise UserError(f"{files.shown(name)} has no {key}: download it again.")
    return [str(value) for value in lists[key]]
