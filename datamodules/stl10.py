"""STL-10: ten classes of 96 × 96 pixels."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from datamodules.arrays import ArrayData, Arrays, records
from datamodules.locate import Files

_SIDE = 96


class STL10(ArrayData):
    """STL-10: 5,000 training and 8,000 test images; the unlabelled ones are not read.

    Args:
        root: the unpacked folder `stl10_binary`, one above it, or `stl10_binary.tar.gz`.
        image_size: side in pixels, 96 as they are.
        **kwargs: see `ArrayData` and `HandfulDataModule`.

    Source: Coates et al., "An Analysis of Single Layer Networks in Unsupervised Feature Learning" (AISTATS 2011).
    """

    title = "STL-10"
    download = "stl10_binary.tar.gz from https://cs.stanford.edu/~acoates/stl10/"
    official: ClassVar[Mapping[str, int]] = {"train": 5000, "test": 8000}

    def __init__(self, root: str, image_size: int = _SIDE, **kwargs: Any) -> None:
        super().__init__(root, image_size=image_size, **kwargs)

    @property
    def forms(self) -> Mapping[str, tuple[str, ...]]:
        """The only one."""
        return {"binary": ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")}

    def names(self, files: Files, form: str) -> list[str]:
        """Those of `class_names.txt`."""
        return [line.strip() for line in files.lines("class_names.txt") if line.strip()]

    def arrays(self, files: Files, form: str) -> dict[str, Arrays]:
        """Images are stored column by column, one colour after another; labels count from 1."""
        found: dict[str, Arrays] = {}
        for split in ("train", "test"):
            images = records(files.content(f"{split}_X.bin"), 3 * _SIDE**2, files.shown(f"{split}_X.bin"))
            labels = np.frombuffer(files.content(f"{split}_y.bin"), dtype=np.uint8).astype(np.int64) - 1
            found[split] = (images.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 3, 2, 1), labels)
        return found
