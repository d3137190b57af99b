"""TravelingBirds: CUB-200-2011 with backgrounds that say the class in training, and another class in testing."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from datamodules.cub200 import CUB200
from datamodules.locate import Files, locate_folders, open_published
from datamodules.official import OfficialData, in_class_folders
from handful.images import Box


class TravelingBirds(OfficialData):
    """TravelingBirds: whether a classifier looks at the bird or at its background.

    Args:
        root: the folder `CUB_fixed`, with `train/<class>/…` and `test/<class>/…`, one above it, or an archive of it.
        cub_root: CUB-200-2011, whose boxes and parts hold here too; None without them.
        **kwargs: see `OfficialData` and `ImageFolder`.

    Source: Koh et al., "Concept Bottleneck Models" (ICML 2020).
    """

    title = "TravelingBirds"
    download = "the folder CUB_fixed from https://worksheets.codalab.org/bundles/0x518829de2aa440c79cd9d75ef6669f27"
    official: ClassVar[Mapping[str, int]] = {"classes": 200, "train": 5994, "test": 5794}

    def __init__(self, root: str, cub_root: str | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.cub = None if cub_root is None else CUB200(cub_root, complete=self.complete)

    @cached_property
    def files(self) -> Files:
        """The files below the folder that holds `train` and `test`."""
        tree = open_published(self.root, self.cache, self.how_to_get())
        return locate_folders(tree, self.root, self.title, ("train", "test"), self.how_to_get(), "CUB_fixed")

    def table(self, files: Files) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Read classes and splits off the folders."""
        folders, splits = in_class_folders(files)
        return [re.sub(r"^\d+\.", "", folder) for folder in folders], splits

    def boxes(self) -> Mapping[str, Box]:
        """CUB's boxes: the birds stand where they stood."""
        return {} if self.cub is None else self._own(self.cub.boxes())

    def parts(self) -> tuple[list[str], Mapping[str, Any]] | None:
        """CUB's parts."""
        known = None if self.cub is None else self.cub.parts()
        return None if known is None else (known[0], self._own(known[1]))

    def _own(self, of_cub: Mapping[str, Any]) -> dict[str, Any]:
        """What is known by CUB's path, by the path of the same picture here."""
        by_name = {"/".join(path.split("/")[-2:]): value for path, value in of_cub.items()}
        names = [*self.files.names("train/"), *self.files.names("test/")]
        own = ((self.files.find(name), by_name.get("/".join(name.split("/")[-2:]))) for name in names)
        return {path: value for path, value in own if path is not None and value is not None}
