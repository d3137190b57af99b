"""Finding a published data set below a folder, and its files by their official names."""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from datamodules.cache import Cache
from datamodules.file_tree import FileTree, split_of
from datamodules.open_tree import open_tree
from handful.errors import UserError
from handful.images import is_image_name
from handful.text import safe_text

# What file managers and unzip tools add to the name of a second copy: "name (1).jpg", "name(1).jpg", "name copy.jpg".
_COPY = re.compile(r"( ?\(\d+\)| copy)(?=(\.[^./]+)?(/|$))")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")


class Files:
    """The files of a data set below its own folder, by the names that its tables give them.

    A name is also found where a tool has changed its case, its Unicode form or its separators, has marked it as a copy,
    has unpacked a folder into one of its own name, or has given an image another suffix (`.jpeg`, `.png`), as long as
    one file alone can be meant.

    Args:
        tree: where the files are.
        base: the data set's folder in it, with a `/` at the end; "" for the top.
        official: by the name of a folder in it that is called otherwise than its authors call it, their name.
    """

    def __init__(self, tree: FileTree, base: str, official: Mapping[str, str] | None = None) -> None:
        self.tree, self.base = tree, base
        renamed = official or {}
        self._exact: dict[str, str] = {}
        self._loose: dict[str, list[str]] = {}
        self._changed: dict[str, list[str]] = {}
        self._outside: dict[str, bool] = {}
        for path in tree.files():
            if not path.startswith(base):
                continue
            top, slash, rest = path[len(base) :].partition("/")
            name = renamed.get(top, top) + slash + rest
            self._exact[name] = path
            plain = plain_name(name)
            self._loose.setdefault(plain, []).append(path)
            self._changed.setdefault(_without_suffix(without_doubled_folders(plain)), []).append(path)

    def find(self, name: str) -> str | None:
        """Return the path in the tree of a file; None where there is none, or several could be meant."""
        found = self._exact.get(name)
        if found is None:
            plain = plain_name(name)
            like = self._loose.get(plain) or self._changed.get(_without_suffix(plain), [])
            found = like[0] if len(like) == 1 else None
        return found

    def beside(self, name: str) -> str | None:
        """Return the path of a file that lies in the data set's folder or, out of an archive of its own, beside it."""
        found = self.find(name)
        if found is not None:
            return found
        if self.base:
            return self._above.find(name)
        top, below, _ = name.partition("/")
        if below and top not in self._outside:  # one look for all files of a folder that is not there
            self._outside[top] = self.tree.root.is_dir() and (self.tree.root.parent / top).is_dir()
        outside = self._outside[top] if below else self.tree.root.is_dir()
        return f"../{name}" if outside and (self.tree.root.parent / name).is_file() else None

    def anywhere(self, name: str) -> str | None:
        """Return the path in the tree of the uppermost file of that name, in whatever folder; None without one."""
        plain = plain_name(name)
        start = plain.partition(".")[0] if plain.isascii() else ""  # in every spelling of it, and cheap to look for
        found = [path for path in self.tree.files()
                 if start in path.casefold() and plain_name(path.rpartition("/")[2]) == plain]  # fmt: skip
        return min(found, key=lambda path: (path.count("/"), path), default=None)

    @cached_property
    def _above(self) -> "Files":
        """The folder that the data set's folder lies in."""
        above = self.base.rstrip("/").rpartition("/")[0]
        return Files(self.tree, f"{above}/" if above else "")

    def names(self, folder: str) -> Iterator[str]:
        """Yield the official names of all files in a folder of the data set."""
        for name in self._exact:
            flat = without_doubled_folders(name)
            if flat.startswith(folder):
                yield flat

    def shown(self, name: str = "") -> str:
        """Return a file's path, or that of the data set, as it stands in messages."""
        return safe_text(self.tree.root / (self.beside(name) or self.base + name if name else self.base))

    def content(self, name: str, beside: bool = False) -> bytes:
        """Return a file.

        Args:
            name: official.
            beside: whether it may lie beside the data set's folder.

        Raises:
            UserError: it is not there, or cannot be read.
        """
        path = self.beside(name) if beside else self.find(name)
        if path is None:
            raise UserError(f"There is no file {safe_text(name)} in {self.shown()}: unpack the data set again.")
        return self.tree.read(path)

    def lines(self, name: str, beside: bool = False) -> list[str]:
        """Return the lines of a text file, in UTF-8, or in UTF-16 as editors of Windows save it; see `content`.

        Raises:
            UserError: it is not there, cannot be read, or is not text.
        """
        return lines_of(self.content(name, beside), self.shown(name))

    def rows(self, name: str, columns: int) -> Iterator[tuple[int, list[str]]]:
        """Yield number and cells of every line with any; the last of `columns` cells takes what is left of the line.

        Raises:
            UserError: as `lines`, or a line has fewer cells: the file is truncated.
        """
        return rows_of(self.lines(name), self.shown(name), columns)


def plain_name(path: str) -> str:
    r"""Return a path as all spellings share it that tools make of one name.

    Example:
        >>> plain_name("Images\\001.Owl\\A (1).JPG")
        'images/001.owl/a.jpg'
    """
    tidy = unicodedata.normalize("NFC", path.replace("\\", "/")).casefold().removeprefix("./")
    return _COPY.sub("", tidy)


def lines_of(content: bytes, shown: str) -> list[str]:
    """Return the lines of a text, without empty ones at its end.

    Args:
        content: in UTF-8, or in UTF-16 with a byte order mark.
        shown: the file, for the sentence.

    Raises:
        UserError: it is no text.
    """
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{shown} is not text in UTF-8: unpack the data set again.") from None
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def rows_of(lines: Iterable[str], shown: str, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of every line with any; the last of `columns` cells takes what is left of the line.

    Args:
        lines: of a table.
        shown: the file, for the sentence.
        columns: how many values belong into a line.

    Raises:
        UserError: a line has fewer: the file is truncated.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.split(None, columns - 1)
        if len(cells) < columns:
            raise UserError(
                f"{shown}, line {number}: {len(cells)} values where {columns} belong; the file seems to be truncated, "
                "unpack it again."
            )
        yield number, [*cells[:-1], cells[-1].strip()]


def numbers(cells: Sequence[str], shown: str, line: int) -> list[float]:
    """Return the numbers that cells of a table hold.

    Args:
        cells: of a line.
        shown: the file, for the sentence.
        line: its number, for the sentence.

    Raises:
        UserError: one of them is no number, or not finite.
    """
    try:
        found = [float(cell) for cell in cells]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise UserError(f"{shown}, line {line}: {safe_text(' '.join(cells))} are not numbers.")
    return found


def without_doubled_folders(path: str) -> str:
    """`images/images/owl/1.jpg` → `images/owl/1.jpg`: tools unpack a folder into one that they call like it."""
    parts = path.split("/")
    return "/".join(part for place, part in enumerate(parts) if place == 0 or part != parts[place - 1])


def _without_suffix(plain: str) -> str:
    """A name without the suffix of an image; all of another file."""
    return plain.rpartition(".")[0] + "." if is_image_name(plain) else plain


def open_published(root: Path, cache: Cache, advice: str) -> FileTree:
    """Return the files under a root; one that is not there is refused with what to download."""
    try:
        return open_tree(root, cache)
    except UserError as error:
        if root.exists():
            raise
        raise UserError(f"{error} {advice}") from None


def locate(tree: FileTree, root: Path, title: str, markers: Sequence[str], advice: str) -> Files:
    """Return a data set's files, wherever below `root` its folder lies.

    Args:
        tree: the files under the root.
        root: as given.
        title: of the data set.
        markers: files that it cannot do without, by their names in its folder.
        advice: what to download, for the sentence.

    Raises:
        UserError: it is not there, is there twice, only partly, or `root` lies inside it.
    """
    found: dict[str, set[str]] = {}
    wanted = {plain_name(marker): marker for marker in markers}
    for path in tree.files():
        loose = plain_name(path)
        for plain, marker in wanted.items():
            if loose == plain or loose.endswith("/" + plain):
                depth = marker.count("/") + 1
                found.setdefault("/".join([*path.replace("\\", "/").split("/")[:-depth], ""]), set()).add(marker)
    whole = sorted((base for base, has in found.items() if len(has) == len(markers)), key=lambda b: (b.count("/"), b))
    if len(whole) > 1 and whole[0].count("/") == whole[1].count("/"):
        one, two = (safe_text(tree.root / base) for base in whole[:2])
        raise UserError(f"data.root {safe_text(root)} holds {title} twice, in {one} and {two}: give one of them.")
    if whole:
        return Files(tree, "" if whole[0] == "/" else whole[0])
    refuse_inside(root, title, markers)
    if found:
        base, has = max(found.items(), key=lambda item: len(item[1]))
        lacking = [marker for marker in markers if marker not in has]
        raise UserError(
            f"{safe_text(tree.root / base)} lacks {' and '.join(lacking)}: {title} is only partly unpacked. {advice}"
        )
    packed = next((path for path in tree.files() if path.lower().endswith(_ARCHIVES)), None)
    hint = f" It holds the archive {safe_text(packed)}: give that file, or unpack it." if packed else ""
    raise UserError(f"data.root {safe_text(root)} is not {title}: there is no {markers[0]} in it.{hint} {advice}")


def refuse_inside(root: Path, title: str, markers: Sequence[str]) -> None:
    """Refuse a root inside the data set, naming the folder that is meant."""
    for parent in list(root.expanduser().absolute().parents)[:3]:
        if all((parent / marker).is_file() for marker in markers):
            raise UserError(f"data.root {safe_text(root)} lies inside {title}: give {safe_text(parent)}.")


def locate_folders(
    tree: FileTree, root: Path, title: str, names: Sequence[str], advice: str, home: str | None = None
) -> Files:
    """Return a data set's files that is known by its folders alone, such as `train` and `test` with class folders.

    Folders of splits may be called otherwise (`Train`, `validation`).

    Args:
        tree: the files under the root.
        root: as given.
        title: of the data set.
        names: of the folders that lie side by side in it.
        advice: what to download, for the sentence.
        home: name of its own folder, which is taken where several folders are like it.

    Raises:
        UserError: they are not there, or in several places, or `root` lies inside them.
    """
    bases: dict[str, dict[str, str]] = {}
    for folder in tree.folders():
        above, _, last = folder.rpartition("/")
        meant = next((name for name in names if split_of(last) == split_of(name)), None)
        if meant is not None:
            there = bases.setdefault(f"{above}/" if above else "", {})
            there[meant] = meant if last == meant else there.get(meant, last)
    whole = sorted((base for base, has in bases.items() if len(has) == len(names)), key=lambda b: (b.count("/"), b))
    if len(whole) > 1:  # annotations may lie in folders of the same names
        pictured = {base for path in tree.files() if is_image_name(path) for base in whole if path.startswith(base)}
        whole = [base for base in whole if base in pictured] or whole
        called = [base for base in whole if home and base.rstrip("/").rpartition("/")[2].casefold() == home.casefold()]
        whole = called or [base for base in whole if base.count("/") == whole[0].count("/")]
    if len(whole) > 1:
        one, two = (safe_text(tree.root / base) for base in whole[:2])
        raise UserError(f"data.root {safe_text(root)} holds folders {' and '.join(names)} twice, in {one} and {two}: "
                        f"give that of {title}.")  # fmt: skip
    if whole:
        return Files(tree, whole[0], {last: meant for meant, last in bases[whole[0]].items()})
    for parent in list(root.expanduser().absolute().parents)[:2]:
        if all((parent / name).is_dir() for name in names):
            raise UserError(f"data.root {safe_text(root)} lies inside {title}: give {safe_text(parent)}.")
    beside = {base: has for base, has in bases.items() if names[0] in has}
    if beside:
        base = min(beside, key=lambda base: (base.count("/"), base))
        lacking = next(name for name in names if name not in beside[base])
        raise UserError(f"{safe_text(tree.root / base)} has no folder {lacking}/: {title} is only partly unpacked. "
                        f"{advice}")  # fmt: skip
    raise UserError(f"data.root {safe_text(root)} is not {title}: there is no folder {names[0]}/ in it. {advice}")
