"""A table of labels: a CSV file of `path,label[,split]`."""

import csv
import difflib
import io
import itertools
import os
import posixpath
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.cache import Cache
from datamodules.file_tree import FileTree, digest, split_of
from datamodules.listing import SPLITS, Listing, is_utf8
from datamodules.problems import refuse
from handful.errors import UserError
from handful.images import is_image_name
from handful.images.clutter import LeftOut
from handful.text import safe_text

#: Ends of the names of tables.
TABLE_SUFFIXES = (".csv", ".tsv")

#: Headers of columns that say yes or no.
_IS_TRAIN = ("is_train", "is_training", "is_training_image", "is_training_img")
_HEADERS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name",
             "img", "img_path", "name", "id", "image_id"),
    "label": ("label", "class", "class_name", "classname", "category", "species", "target", "y", "labels", "class_id"),
    "split": ("split", "set", "subset", "partition", "fold", *_IS_TRAIN),
}  # fmt: skip
#: What columns of yes and no say of the split.
_YES_OR_NO = (dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), "train")
              | dict.fromkeys(("0", "0.0", "false", "f", "no", "n"), "test"))  # fmt: skip
#: How programs write that a label is missing, in their very letters: a class may be called Nan or null.
_MISSING = {"", "nan", "NaN", "<NA>", "N/A", "n/a", "#N/A"}


@dataclass(frozen=True)
class Row:
    """One image of a table: its line number, path, label and split ("" where there is none)."""

    line: int
    path: str
    label: str
    split: str


def list_table(tree: FileTree, table: Path, drop_repeats: bool, cache: Cache) -> Listing:
    """List the images that a table names.

    Args:
        tree: the files; paths of the table lie inside its root, or are absolute where it is a folder.
        table: the CSV file.
        drop_repeats: take a row that is there twice once, instead of refusing it.
        cache: for the list of problems.

    Raises:
        UserError: no such table, no column of paths or labels, a missing file, an unknown split, a path under two
            labels or twice, fewer than two classes, a class without training images.
    """
    text = _text(table)
    rows = _rows(table, text)
    places = _Places(tree)
    problems: list[str] = []
    taken: dict[str, Row] = {}
    left_out = LeftOut()
    left_out.update(tree.left_out)
    known = sorted({split_of(row.split) or row.split for row in rows} - {""})
    for row in rows:
        here = f"{safe_text(table)}, line {row.line}"
        path = places.find(row.path)
        if row.label in _MISSING:
            given = f" ({row.label!r} stands for a missing one; if a class is meant, rename it)" if row.label else ""
            problems.append(f"{here}: {safe_text(row.path)} has no label{given}.")
        elif known and split_of(row.split) is None:
            problems.append(f"{here}: {_unknown_split(row.split)}.")
        elif path is None:
            problems.append(
                f"{here}: there is no file {safe_text(row.path)} in {safe_text(tree.root)}{places.nearest(row.path)}."
            )
        elif (before := taken.setdefault(path, row)) is not row:
            if before.label != row.label or split_of(before.split) != split_of(row.split):
                what = "label" if before.label != row.label else "split"
                one, two = (getattr(r, what) for r in (before, row))
                problems.append(
                    f"{here}: {safe_text(row.path)} has the {what} {two!r}, but {one!r} in line {before.line}."
                )
            elif drop_repeats:
                left_out.add("rows that repeat another", row.path)
            else:
                problems.append(f"{here}: {safe_text(row.path)} is in line {before.line} already.")
    refuse(problems, f"Correct {safe_text(table)}.", cache)
    for path in tree.files():
        if path not in taken and is_image_name(path):
            left_out.add(f"images that are not in {safe_text(table.name)}", path)
    names = _class_names(table, taken.values())
    return Listing(tree, names, _files(table, taken, names), left_out, digest(text))


def _files(table: Path, taken: dict[str, Row], names: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    files: dict[str, list[tuple[str, int]]] = {}
    for path, row in taken.items():
        split = split_of(row.split) or "train"
        files.setdefault(split, []).append((path, names.index(row.label)))
    trained = {names[label] for _, label in files.get("train", [])}
    missing = [name for name in names if name not in trained]
    if missing:
        raise UserError(
            f"{safe_text(table)} has no training image of the class {missing[0]!r}"
            + (f" nor of {len(missing) - 1} others." if len(missing) > 1 else ".")
        )
    return {split: sorted(files[split], key=lambda file: (file[1], file[0])) for split in SPLITS if split in files}


def _class_names(table: Path, rows: Iterable[Row]) -> list[str]:
    labels = {row.label for row in rows}
    wrong = sorted(label for label in labels if not is_utf8(label))
    if wrong:
        raise UserError(f"{safe_text(table)} has the label {safe_text(wrong[0])}, which is not text.")
    if len(labels) < 2:
        raise UserError(f"{safe_text(table)} has {len(labels)} labels; at least two are needed.")
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)


def _unknown_split(split: str) -> str:
    if not split:
        return "there is no split, as other lines have one"
    near = difflib.get_close_matches(split.lower(), SPLITS, 1, 0.5)
    return f"unknown split {safe_text(split)!r}, " + (f"is {near[0]} meant" if near else "take train, val or test")


class _Places:
    """Finds the file of a tree that a table means by a path."""

    def __init__(self, tree: FileTree) -> None:
        self._tree = tree
        self._files = set(tree.files())
        self._by_form = {unicodedata.normalize("NFC", path): path for path in self._files}
        self._by_case: dict[str, list[str]] = {}
        for path in self._files:
            self._by_case.setdefault(unicodedata.normalize("NFC", path).casefold(), []).append(path)

    def find(self, path: str) -> str | None:
        """Return the file's path as the tree has it, None where there is none."""
        plain = path.replace("\\", "/") if path not in self._files else path
        root = str(self._tree.root) + "/"
        for written in (plain, posixpath.normpath(plain)):  # one file has one name, however a row writes it
            for candidate in (written, written.removeprefix(root), written.removeprefix(self._tree.top)):
                found = self._by_form.get(unicodedata.normalize("NFC", candidate))
                if found is not None:
                    return found
        alike = self._by_case.get(unicodedata.normalize("NFC", posixpath.normpath(plain)).casefold(), [])
        if len(alike) == 1:  # a table from a system that takes both cases for one
            return alike[0]
        elsewhere = self._tree.root / plain
        if not plain or not self._tree.root.is_dir() or not elsewhere.is_file():
            return None
        inside = os.path.relpath(elsewhere.resolve(), self._tree.root.resolve())  # by links, or another way to write it
        return self._by_form.get(unicodedata.normalize("NFC", inside), posixpath.normpath(plain))

    def nearest(self, path: str) -> str:
        """Return a hint at a file of nearly the same name, as the end of a message."""
        plain = path.replace("\\", "/")
        same_stem = [file for file in self._files if file.rpartition(".")[0] == plain]
        by_name = [file for file in self._files if file.rpartition("/")[2] == plain.rpartition("/")[2]]
        near = same_stem or sorted(by_name, key=lambda file: -_common_end(file, plain))
        if not near and len(self._files) < 20_000:
            near = difflib.get_close_matches(plain, self._files, 1, 0.8)
        return f"; is {safe_text(near[0])} meant" if near else ""


def _common_end(one: str, other: str) -> int:
    """Count the parts of two paths that are equal, from the end."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
    except OSError as error:
        raise UserError(f"{safe_text(table)} cannot be read: {error.strerror}.") from None
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(f"{safe_text(table)} is not UTF-8: save it as a CSV file in UTF-8.") from None
    if "\0" in text:
        raise UserError(f"{safe_text(table)} is not a text file: save it as a CSV file in UTF-8.")
    return text


def _rows(table: Path, text: str) -> list[Row]:
    """Return the rows of a table, by its header; without one, the columns are path, label and split."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"sep=[,;\t|]", first.strip(" ")):  # a spreadsheet's note of its delimiter
        head, _, text = text.partition(first)
        text = head + text  # line numbers stay those of the file
        delimiter = first.strip(" ")[-1]
    else:
        delimiter = max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{safe_text(table)} is not a readable CSV file: {error}.") from None
    if not lines:
        raise UserError(f"{safe_text(table)} is empty.")
    columns = _columns(table, lines[0][1])
    width: int | None = None  # how many cells a row may have
    if columns is None:
        columns = {"path": 0, "label": 1} | ({"split": 2} if len(lines[0][1]) > 2 else {})
    else:
        _, header = lines.pop(0)
        if "split" in columns and _plain_header(header[columns["split"]]) in _IS_TRAIN:
            _read_yes_or_no(table, lines, columns)
        if len(header) - 1 in columns.values():  # behind others, more cells leave those that are read where they are
            width = len(header)
    rows = []
    for line, cells in lines:
        if len(cells) <= max(columns["path"], columns["label"]):
            raise UserError(f"{safe_text(table)}, line {line}: there is no label; is a delimiter missing?")
        if width is not None and any(cells[width:]):
            raise UserError(
                f"{safe_text(table)}, line {line}: {len(cells)} values where {width} belong; put values that hold the "
                "delimiter in quotes."
            )
        split = columns.get("split", len(cells))
        label = unicodedata.normalize("NFC", cells[columns["label"]])
        rows.append(Row(line, cells[columns["path"]], label, cells[split] if split < len(cells) else ""))
    if not rows:
        raise UserError(f"{safe_text(table)} has a header and no rows.")
    return rows


def _read_yes_or_no(table: Path, lines: Sequence[tuple[int, list[str]]], columns: dict[str, int]) -> None:
    """Write the splits that a column of yes and no means into the lines; where it holds more, it is not the split."""
    column = columns["split"]
    rows = [(line, cells) for line, cells in lines if len(cells) > column]
    for line, cells in rows:
        if cells[column] and cells[column].lower() not in _YES_OR_NO and not split_of(cells[column]):
            warnings.warn(f"{safe_text(table)}, line {line}: {safe_text(cells[column])!r} is neither yes nor no; this "
                          "column is ignored, and splits are drawn", stacklevel=2)  # fmt: skip
            del columns["split"]
            return
    for _, cells in rows:
        cells[column] = _YES_OR_NO.get(cells[column].lower(), cells[column])


def _plain_header(cell: str) -> str:
    return cell.lower().replace(" ", "_")


def _columns(table: Path, header: Sequence[str]) -> dict[str, int] | None:
    """Return the columns by meaning; None for a table without header."""
    lower = [_plain_header(cell) for cell in header]
    found = {}
    for meaning, names in _HEADERS.items():
        number = next((lower.index(name) for name in names if name in lower), None)
        if number is not None:
            found[meaning] = number
    if {"path", "label"} <= set(found):
        return found
    if len(header) in (2, 3) and (is_image_name(header[0]) or "." in header[0] or "/" in header[0]) and not found:
        return None
    raise UserError(
        f"{safe_text(table)} needs the columns path and label, and split if there are splits; it has "
        f"{safe_text(', '.join(header))}."
    )
