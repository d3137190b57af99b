"""A folder of images for a network that knows ImageNet's thousand classes, of which it has some or says none."""

import re
from functools import cached_property
from typing import Any, Literal

from datamodules.file_tree import splits_of
from datamodules.image_folder import ImageFolder
from datamodules.listing import SPLITS, Listing
from datamodules.open_tree import open_tree
from handful.errors import UserError, did_you_mean
from handful.images import is_image_name, looks_like_image
from handful.images.clutter import LeftOut
from handful.images.formats import HEAD
from handful.text import safe_text


class ImageNetFolder(ImageFolder):
    """Images of some of ImageNet's thousand classes, for the last layer that a network was published with.

    Folders of classes are called by ImageNet's number (`11`, `011`), its synset (`n01531178`, `n01531178-goldfinch`) or
    one of its names (`goldfinch`). Where they are called otherwise, or the images are of other things altogether,
    `classes: none` takes all images, in folders or not: nothing is then said of their classes, which methods that need
    some take from the network's own predictions (`FindFilters`, `labels: predicted`).

    Args:
        root: the folder or archive; see `ImageFolder`, as all below.
        classes: "folders", or "none" for images of which nothing is known.
        **kwargs: see `ImageFolder`.

    Example:
        >>> len(imagenet_names()), imagenet_names()[11]
        (1000, 'goldfinch')
    """

    every_class_is_there = False

    def __init__(self, root: str, classes: Literal["folders", "none"] = "folders", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        if classes not in ("folders", "none"):
            raise UserError(f"data.classes: folders or none, not {classes!r:.60}")
        self.classes = classes

    @cached_property
    def listing(self) -> Listing:
        """The files of all splits, by ImageNet's numbers; by 0 where nothing is known."""
        found = self._unnamed() if self.classes == "none" and not self.has_table else super().listing
        numbers = {}
        for label, name in enumerate(found.class_names):
            numbers[label] = 0 if self.classes == "none" else _number(name, str(self.root))
        files = {
            split: sorted(((path, numbers[label]) for path, label in listed), key=lambda one: (one[1], one[0]))
            for split, listed in found.files.items()
        }
        return Listing(found.tree, imagenet_names(), files, found.left_out, f"{found.key}imagenet-{self.classes}",
                       found.boxes)  # fmt: skip


    def _unnamed(self) -> Listing:
        """All images, whatever folders they lie in, or none; by split where all folders with images are splits."""
        tree = open_tree(self.root, self.cache)
        images = {path for path in tree.files() if is_image_name(path) or looks_like_image(tree.head(path, HEAD))}
        tops = {path.partition("/")[0] for path in images if "/" in path}
        splits = splits_of(sorted(tops), tops)
        splits = splits if "train" in splits.values() and len(splits) == len(tops) else {}
        files: dict[str, list[tuple[str, int]]] = {}
        left_out = LeftOut()
        left_out.update(tree.left_out)
        for path in tree.files():
            split = splits.get(path.partition("/")[0]) if splits else "train"
            if split is None or path not in images:
                left_out.add("that are not images" if split else "outside of train/, val/ and test/", path)
            else:
                files.setdefault(split, []).append((path, 0))
        if "train" not in files:
            raise UserError(f"data.root {safe_text(tree.root)} has no images.")
        return Listing(tree, [""], {split: files[split] for split in SPLITS if split in files}, left_out)


def imagenet_names() -> list[str]:
    """The first name of each of ImageNet's classes, by number; with its synset where two have the same name."""
    synsets, lemmas = _known()
    first = [names.split(", ")[0] for names in lemmas]
    return [
        name if first.count(name) == 1 else f"{name} ({synset})" for synset, name in zip(synsets, first, strict=True)
    ]


def _known() -> tuple[list[str], list[str]]:
    """Synsets and names of ImageNet's classes, by number."""
    from timm.data.imagenet_info import ImageNetInfo  # timm takes seconds to import

    info = ImageNetInfo("imagenet-1k")
    return list(info.label_names()), [str(names) for names in info.label_descriptions()]


def _number(folder: str, root: str) -> int:
    """The number of the class that a folder is called by.

    Raises:
        UserError: it is none of ImageNet's, or the name of two of them.
    """
    if folder.isdecimal() and int(folder) < 1000:
        return int(folder)
    synsets, lemmas = _known()
    # folders of Stanford Dogs and others hold a name behind the synset
    synset = re.search(r"(?<![0-9a-z])n\d{8}(?![0-9a-z])", folder.lower())
    if synset and synset[0] in synsets:
        return synsets.index(synset[0])
    wanted = _plain(folder)
    found = [number for number, names in enumerate(lemmas) if wanted in map(_plain, names.split(", "))]
    if len(found) == 1:
        return found[0]
    shown = safe_text(f"{root}: {folder}")
    if found:
        raise UserError(f"{shown}: a name of {len(found)} classes of ImageNet ({', '.join(map(str, found))}); call the "
                        "folder by the number")  # fmt: skip
    every = [name for names in lemmas for name in names.split(", ")]
    raise UserError(f"{shown} is no class of ImageNet, by number, synset or name; data.classes none takes the images "
                    f"without their classes{did_you_mean(folder, every)}")  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()
