"""Leave out the folders of thumbnails and system files of a data set, and keep those that are a class of it."""

import warnings
from collections.abc import Iterable

from datamodules.file_tree import split_of
from handful.images import is_image_name
from handful.images.clutter import LeftOut
from handful.images.doubtful import Read, are_copies, by_folder, by_plain_name, doubtful_folders, is_class_folder
from handful.text import safe_text

_CLUTTER = "thumbnails and system files"


def without_clutter(name: str, paths: Iterable[str], read: Read, left_out: LeftOut) -> set[str]:
    """Return the folders of a doubtful name that are left out; what lies in them is counted.

    A folder called `thumbnails` that stands beside class folders, in every split, and whose pictures are no copies of
    others is a class, of which a warning tells.

    Args:
        name: of the data set.
        paths: of all files.
        read: gives the content of a file, or where it lies.
        left_out: counts the files.
    """
    paths = list(paths)
    doubtful = doubtful_folders(paths)
    if not doubtful:
        return set()
    inside = {path for found in doubtful.values() for path in found}
    pictures, others = by_folder(paths), [path for path in paths if path not in inside]
    if not by_folder(others):  # all there is
        return set()
    named = by_plain_name(path for path in others if is_image_name(path))
    gone, kept = set(), []
    for folder, found in doubtful.items():
        its = [path for images in by_folder(found).values() for path in images]
        if its and is_class_folder(folder, pictures, split_of) and not are_copies(its, named, read):
            kept.append(folder)
        else:
            gone.add(folder)
            left_out.add(_CLUTTER, found[0], len(found))
    if kept:
        some = ", ".join(map(safe_text, kept[:3])) + (", …" if len(kept) > 3 else "")
        warnings.warn(
            f"{safe_text(name)}: {some}: read as a class, as it stands beside class folders and its pictures are no "
            "copies of others, though folders of this name mostly hold thumbnails or system files; remove it if it is "
            "none",
            stacklevel=2,
        )
    return gone


def lies_in(path: str, folders: set[str]) -> bool:
    """Say whether a path is one of some folders or lies in one.

    Example:
        >>> lies_in("a/b/c.png", {"a/b"}), lies_in("a/bc.png", {"a/b"})
        (True, False)
    """
    parts = path.split("/")
    return bool(folders) and any("/".join(parts[:n]) in folders for n in range(1, len(parts) + 1))
