"""What `explain` writes, picture by picture: any number of them, and earlier results stay until all is there."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful.atomic import json_text
from handful.explain import Explanation
from handful.report.explain_page import Entry, Pictures, explain_page, index_page
from handful.report.overlays import data_uri
from pipelines.array_files import GrowingArrays

#: Pictures on a page; more are divided over several, with an index of all.
ON_A_PAGE = 30

#: Side of a picture in the index, in pixels.
THUMBNAIL = 72

#: Pictures that the index shows; further ones are named only.
SHOWN = 3000


class ExplanationFiles:
    """Writes `index.html`, `explain.json` and `maps.npz`; for many pictures an index and `index-1.html`, ….

    Args:
        folder: to write to.
        title: of the page.
        facts: about the model, beneath the title.
        head: what `explain.json` says before its images.
    """

    def __init__(self, folder: Path, title: str, facts: Sequence[str], head: Mapping[str, Any]) -> None:
        self._folder, self._title, self._facts, self._head = folder, title, facts, head
        self._draft = folder
        self._waiting: list[tuple[Mapping[str, Any], Pictures]] = []
        self._pages: list[str] = []
        self._entries: list[Entry] = []
        self._written = 0

    @contextmanager
    def open(self) -> Iterator["ExplanationFiles"]:
        """Prepare the drafts; they are put in place by `finish` and removed in any case."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(prefix=".explain-", dir=self._folder))
        self._arrays = GrowingArrays(self._draft)
        try:
            with (self._draft / "explain.json").open("w", encoding="utf-8") as self._json:
                head = json_text(dict(self._head)).rstrip("}").rstrip()
                self._json.write(f'{head},\n  "images": [')
                yield self
        finally:
            self._arrays.close()
            shutil.rmtree(self._draft, ignore_errors=True)
            if not any(self._folder.iterdir()):
                self._folder.rmdir()

    def add(self, why: Explanation) -> None:
        """Append one picture's explanation."""
        record = why.to_dict()
        text = json_text(record).replace("\n", "\n    ")
        self._json.write(f"{',' if self._written else ''}\n    {text}")
        for method, found in why.methods.items():
            self._arrays.append(method, found.raw[None].numpy())
        self._written += 1
        if len(self._waiting) == ON_A_PAGE:
            self._page(last=False)
        pictures = why.pictures()
        self._waiting.append((record, pictures))
        self._entries.append(self._entry(why, pictures))

    def finish(self, unreadable: Mapping[str, str], notes: Sequence[str] = ()) -> Path:
        """Complete the files and put them in place of earlier ones.

        Args:
            unreadable: name → what is wrong, of the pictures left out.
            notes: further statements for the page.

        Returns:
            The first page.
        """
        listed = json_text(dict(unreadable)).replace("\n", "\n  ")
        self._json.write(f'\n  ],\n  "unreadable": {listed}\n}}\n')
        self._json.flush()
        os.fsync(self._json.fileno())
        self._page(last=True, notes=[*notes, *unreadable.values()])
        self._arrays.write(self._draft / "maps.npz")
        if len(self._pages) > 1:
            index = index_page(self._title, [*self._facts, *notes, *unreadable.values()], self._entries)
            (self._draft / "index.html").write_text(index, encoding="utf-8")
            self._pages.insert(0, "index.html")
        for name in ("maps.npz", "explain.json", *reversed(self._pages)):
            os.replace(self._draft / name, self._folder / name)
        for page in self._folder.glob("index-*.html"):
            if re.fullmatch(r"index-\d+\.html", page.name) and page.name not in self._pages:
                with contextlib.suppress(FileNotFoundError):
                    page.unlink()  # of an earlier explanation of more pictures
        return self._folder / "index.html"

    def _page(self, last: bool, notes: Sequence[str] = ()) -> None:
        number = len(self._pages) + 1
        only = last and number == 1
        links = {} if only else {"index": "index.html"}
        links |= {"previous": _page_name(number - 1)} if number > 1 else {}
        page = explain_page(
            self._title if only else f"{self._title} ({number})",
            [*self._facts, *notes],
            [record for record, _ in self._waiting],
            [pictures for _, pictures in self._waiting],
            links if last else links | {"next": _page_name(number + 1)},
        )
        name = "index.html" if only else _page_name(number)
        (self._draft / name).write_text(page, encoding="utf-8")
        self._pages.append(name)
        self._waiting = []

    def _entry(self, why: Explanation, pictures: Pictures) -> Entry:
        thumbnail = ""
        if len(self._entries) < SHOWN:
            small = pictures.image.copy()
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            thumbnail = data_uri(small, "JPEG")
        address = f"{_page_name(len(self._pages) + 1)}#{len(self._waiting) - 1}"
        seen = (why.prediction.name, why.prediction.probability)
        return Entry(why.name, address, thumbnail, seen, why.correct, why.true)


def _page_name(number: int) -> str:
    return f"index-{number}.html"
