"""What `explain` writes, picture by picture: any number of them, and earlier results stay until all is there."""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful.explain import Explanation
from handful.report.explain_page import Pictures, explain_page
from pipelines.array_files import GrowingArrays

#: Pictures on a page; more are divided over several.
ON_A_PAGE = 100


class ExplanationFiles:
    """Writes `index.html` (and `index-2.html`, … for many pictures), `explain.json` and `maps.npz`.

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
        self._written = 0

    @contextmanager
    def open(self) -> Iterator["ExplanationFiles"]:
        """Prepare the drafts; they are put in place by `finish` and removed in any case."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(prefix=".explain-", dir=self._folder))
        self._arrays = GrowingArrays(self._draft)
        try:
            with (self._draft / "explain.json").open("w", encoding="utf-8") as self._json:
                head = json.dumps(dict(self._head), indent=2).rstrip("}").rstrip()
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
        text = json.dumps(record, indent=2).replace("\n", "\n    ")
        self._json.write(f"{',' if self._written else ''}\n    {text}")
        for method, found in why.methods.items():
            self._arrays.append(method, found.raw[None].numpy())
        self._written += 1
        if len(self._waiting) == ON_A_PAGE:
            self._page(last=False)
        self._waiting.append((record, why.pictures()))

    def finish(self, unreadable: Mapping[str, str], notes: Sequence[str] = ()) -> Path:
        """Complete the files and put them in place of earlier ones.

        Args:
            unreadable: name → what is wrong, of the pictures left out.
            notes: further statements for the page.

        Returns:
            The first page.
        """
        listed = json.dumps(dict(unreadable), indent=2).replace("\n", "\n  ")
        self._json.write(f'\n  ],\n  "unreadable": {listed}\n}}\n')
        self._json.flush()
        os.fsync(self._json.fileno())
        self._page(last=True, notes=[*notes, *unreadable.values()])
        self._arrays.write(self._draft / "maps.npz")
        for name in ("maps.npz", "explain.json", *reversed(self._pages)):
            os.replace(self._draft / name, self._folder / name)
        for page in self._folder.glob("index-*.html"):
            if re.fullmatch(r"index-\d+\.html", page.name) and page.name not in self._pages:
                with contextlib.suppress(FileNotFoundError):
                    page.unlink()  # of an earlier explanation of more pictures
        return self._folder / "index.html"

    def _page(self, last: bool, notes: Sequence[str] = ()) -> None:
        number = len(self._pages) + 1
        links = {"first": _page_name(1), "previous": _page_name(number - 1)} if number > 1 else {}
        page = explain_page(
            self._title if last and number == 1 else f"{self._title} ({number})",
            [*self._facts, *notes],
            [record for record, _ in self._waiting],
            [pictures for _, pictures in self._waiting],
            links if last else links | {"next": _page_name(number + 1)},
        )
        name = _page_name(number)
        (self._draft / name).write_text(page, encoding="utf-8")
        self._pages.append(name)
        self._waiting = []


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"index-{number}.html"
