"""Masks of concepts in a folder of pictures."""

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from handful.annotations.pixels import KINDS, Concept
from handful.errors import UserError
from handful.images import centre_crop, open_mask, resize
from handful.text import safe_text

_SUFFIX = ".png"
_HALF = 127


class MaskFolder:
    """Masks in `ROOT/KIND/CONCEPT/IMAGE.png`, or `ROOT/CONCEPT/IMAGE.png` for concepts that are all objects.

    `IMAGE` is the image's name inside the data set without its suffix (`train/Robin/0001`), or its last part alone.
    A pixel belongs to the concept where the mask is brighter than half; a mask of the values 0 and 1 is taken as well,
    and one whose brightness says nothing is refused. Masks of another size are brought to the network's as its images
    are; one that is so narrow that no pixel is brighter than half by then has those brighter than half of its
    brightest. An image that has a mask of any concept of a kind was searched for all of that kind.

    Args:
        root: the folder.
        names: of the images, in the order of the data set.
        size: side of the images in pixels, as the network gets them.
        fit: how its images were brought into a square; "crop", "pad", "squash" or the text of a
            `handful.images.placement.Framing`.

    Raises:
        UserError: no such folder, or no mask in it belongs to one of the images.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "part/wing").mkdir(parents=True)
        >>> Image.new("L", (8, 8), 255).save(root / "part/wing/robin.png")
        >>> masks = MaskFolder(root, ["test/robin.jpg", "test/owl.jpg"], size=4)
        >>> masks.concepts, masks.masks([0, 1]).flatten(1).sum(dim=1).tolist(), masks.annotated([0, 1]).tolist()
        ([Concept(name='wing', kind='part')], [16, 0], [[True], [False]])
    """

    def __init__(self, root: str | Path, names: Sequence[str], size: int, fit: str = "crop") -> None:
        self.root, self.size, self.fit = Path(root).expanduser(), size, fit
        self._has_warned = False
        if not self.root.is_dir():
            raise UserError(f"{self.root}: there is no such folder of masks")
        folders = _concept_folders(self.root)
        self.concepts: Sequence[Concept] = [Concept(folder.name, kind) for kind, folder in folders]
        keys = [PurePosixPath(name.replace("\\", "/")).with_suffix("") for name in names]
        self._files = [[_mask_file(folder, key) for _, folder in folders] for key in keys]
        if not any(file for row in self._files for file in row):
            raise UserError(
                f"{self.root}: no mask belongs to an image; expected KIND/CONCEPT/IMAGE{_SUFFIX} with names of images "
                f"such as {keys[0] if keys else 'none'}, kinds being {', '.join(KINDS)}"
            )

    def masks(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, K, size, size)` in the order of `concepts`; empty where there is no mask."""
        found = torch.zeros(len(indices), len(self.concepts), self.size, self.size, dtype=torch.bool)
        for row, index in enumerate(indices):
            for column, file in enumerate(self._files[int(index)]):
                if file is not None:
                    found[row, column] = self._read(file)
        return found

    def annotated(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, K)`: whether the image has a mask of any concept of the same kind."""
        kinds = [concept.kind for concept in self.concepts]
        rows = []
        for index in indices:
            searched = {kind for kind, file in zip(kinds, self._files[int(index)], strict=True) if file is not None}
            rows.append([kind in searched for kind in kinds])
        return torch.tensor(rows, dtype=torch.bool).reshape(len(rows), len(kinds))

    def segmentation(self, indices: Sequence[int]) -> Tensor:
        """Bool `(B, size, size)`: the union of all objects, or of everything where there is no object."""
        masks = self.masks(indices)
        objects = [number for number, concept in enumerate(self.concepts) if concept.kind == "object"]
        return (masks[:, objects] if objects else masks).any(dim=1)

    def _read(self, path: Path) -> Tensor:
        resized = torch.from_numpy(resize(open_mask(path), self.size, self.fit).copy())
        pixels, most = centre_crop(resized[None], self.size)[0], int(resized.max())
        if most > _HALF or not bool(pixels.any()):  # nothing, or what lies outside of the square
            return pixels > _HALF
        if not self._has_warned:  # each names another file
            self._has_warned = True
            warnings.warn(
                f"{safe_text(self.root)}: masks such as {safe_text(path.name)} are narrower than a pixel of the "
                f"network's images of {self.size} pixels; the pixels that they cover most belong to the concept",
                stacklevel=2,
            )
        return pixels > most / 2


def _concept_folders(root: Path) -> list[tuple[str, Path]]:
    """Kind and folder of every concept, in the order of their names."""
    inner = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    kinds = [folder for folder in inner if folder.name in KINDS]
    if not kinds:
        return [("object", folder) for folder in inner]
    others = [folder.name for folder in inner if folder not in kinds]
    if others:
        kinds_known = ", ".join(KINDS)
        raise UserError(f"{root}: {others[0]} is not one of the kinds {kinds_known}, which other folders in it are")
    return [
        (kind, folder)
        for kind in KINDS
        for folder in sorted((root / kind).iterdir() if (root / kind).is_dir() else [])
        if folder.is_dir()
    ]


def _mask_file(folder: Path, key: PurePosixPath) -> Path | None:
    """The mask of an image, by its whole name first, then by the last part of it."""
    for name in (folder / f"{key}{_SUFFIX}", folder / f"{key.name}{_SUFFIX}"):
        if name.is_file():
            return name
    return None
