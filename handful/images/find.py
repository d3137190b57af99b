"""The image files in a folder."""

import os
import warnings
from pathlib import Path

from handful.errors import UserError
from handful.file_kinds import check_there
from handful.images.clutter import clutter
from handful.images.doubtful import are_copies, by_plain_name, doubtful_folders
from handful.images.formats import HEAD, is_image_name, looks_like_image
from handful.text import safe_text


def find_images(where: Path) -> list[Path]:
    """The image files at a path: itself, or all beneath it, in order; hidden ones and clutter are left out.

    Raises:
        UserError: nothing is there, or a folder without images.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "notes.txt").write_text("no image"), (Path(folder) / "owl.png").touch()
        ...     [file.name for file in find_images(Path(folder))]
        (8, None)
        ['owl.png']
    """
    check_there("--images", where)
    if where.is_file():
        return [where]
    found: list[Path] = []
    others: list[str] = []
    visited: set[str] = set()
    for place, folders, files in os.walk(where, followlinks=True):
        folders[:] = sorted(name for name in folders if not clutter(name, folder=True))
        real = os.path.realpath(place)
        if real in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(real)
        for name in files:
            if not clutter(name):
                if is_image_name(name) or _begins_as_image(Path(place) / name):
                    found.append(Path(place) / name)
                else:
                    others.append(name)
    found = _without_thumbnails(where, found)
    if not found:
        example = safe_text(others[0]) if others else ""
        if len(others) == 1:
            why = f"; its only file, {example}, is none"
        else:
            why = f"; none of its {len(others):,} files, of which one is {example}, is one" if others else ""
        raise UserError(f"--images: there is no image in {where}{why}")
    return sorted(found)


def _without_thumbnails(where: Path, found: list[Path]) -> list[Path]:
    """Leave out folders such as `thumbnails` that hold copies of other pictures, and say so."""
    paths = {path.relative_to(where).as_posix(): path for path in found}
    doubtful = doubtful_folders(paths)
    inside = {path for its in doubtful.values() for path in its}
    others = by_plain_name(path for path in paths if path not in inside) if doubtful else {}
    for folder, its in doubtful.items():
        if are_copies(its, others, paths.__getitem__):
            what = f"{len(its):,} thumbnails in {safe_text(where / folder)}"
            warnings.warn(f"--images: {what} are left out", stacklevel=3)
            for path in its:
                del paths[path]
    return list(paths.values())


def _begins_as_image(path: Path) -> bool:
    """Whether a file without the name of an image has the content of one."""
    try:
        with path.open("rb") as file:
            return looks_like_image(file.read(HEAD))
    except OSError:
        return False  # nothing says that it was meant
