"""The one kind of progress bar, of whatever takes longer than a second, and lines that do not collide with it.

On a terminal and in a notebook a bar appears after a second and vanishes when the work ends. Elsewhere, as in a file,
nothing is drawn; work of ten seconds and more is reported in one line when it has ended.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

#: Seconds after which a bar appears, and from which on work is reported where no bar can be drawn.
DELAY, LONG = 1.0, 10.0

#: Seconds between two looks at values behind a bar.
_REFRESH = 0.2

_open: list[ProgressBar] = []


class ProgressBar:
    """A bar on standard error while something lasts; use it in a `with` statement.

    Args:
        total: number of units; None where it is not known.
        description: what is being done, beside the bar.
        unit: what is counted, in the plural; "bytes" are shown with prefixes.
        show: False for nothing at all, as on all processes but the first.
        report: whether the end of long work is reported where no bar can be drawn.

    Example:
        >>> with ProgressBar(2, "reading", "files") as bar:
        ...     bar.update()
        ...     bar.update()
        >>> bar.count
        2
    """

    def __init__(
        self,
        total: float | None,
        description: str,
        unit: str = "images",
        *,
        show: bool = True,
        report: bool = True,
    ) -> None:
        self.count = 0
        self._description, self._unit = description, unit
        self._show, self._report = show, report
        self._began = time.monotonic()
        self._asked = -math.inf
        self._bar: tqdm[Any] | None = None
        if show and is_live(sys.stderr):
            self._bar = tqdm(
                total=total if total is None else int(total),
                desc=description,
                unit="B" if unit == "bytes" else f" {unit}",
                unit_scale=unit == "bytes",
                delay=DELAY,
                leave=False,
                dynamic_ncols=True,
            )
            _open.append(self)

    def update(self, count: int = 1) -> None:
        """Count further units."""
        self.count += count
        if self._bar is not None:
            self._bar.update(count)

    def say(self, description: str = "", **values: Any) -> None:
        """Change the description, and the values that stand behind the bar, when it is next drawn."""
        if self._bar is not None:
            if description:
                self._bar.set_description(description, refresh=False)
            if values:
                self._bar.set_postfix(values, refresh=False)

    @property
    def is_drawn(self) -> bool:
        """Whether the bar stands on the terminal."""
        bar = self._bar
        return bar is not None and not bar.disable and bar.last_print_t >= bar.start_t + bar.delay

    def wants_values(self) -> bool:
        """Whether the next update may draw the bar, so that values are worth reading: about five times a second."""
        now = time.monotonic()
        if self._bar is None or now - self._asked < _REFRESH:
            return False
        self._asked = now
        return True

    def clear(self) -> None:
        """Wipe the bar from the terminal; the next update draws it again."""
        if self._bar is not None and self.is_drawn:
            self._bar.clear()

    def close(self, finished: bool = True) -> None:
        """End the bar; where none could be drawn and the work was long, report it."""
        if self._bar is not None:
            self._bar.close()
            if self in _open:
                _open.remove(self)
        elif self._show and self._report and finished:
            seconds = time.monotonic() - self._began
            if seconds >= LONG and self.count:
                print_line(f"{self._description}: {amount(self.count, self._unit)} in {duration(seconds)}")
        self._show = False  # closing twice says nothing twice

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(finished=kind is None)


def tracked(
    items: Iterable[Item], description: str, unit: str, total: int | None = None, *, report: bool = True
) -> Iterator[Item]:
    """Yield the items behind a bar.

    Args:
        items: to go through.
        description: beside the bar.
        unit: what the items are, in the plural.
        total: how many they are, where they do not know it themselves.
        report: as `ProgressBar`'s.

    Example:
        >>> list(tracked("ab", "reading", "letters"))
        ['a', 'b']
    """
    known = len(items) if total is None and isinstance(items, Sized) else total
    with ProgressBar(known, description, unit, report=report) as bar:
        for item in items:
            yield item
            bar.update()


@contextmanager
def patience(text: str, seconds: float = LONG) -> Iterator[None]:
    """Say on a line of its own what is waited for, where the block has not ended by then.

    Args:
        text: one sentence.
        seconds: before it is said.

    Example:
        >>> with patience("the server has not answered yet", 60):
        ...     answer = 1
    """
    timer = threading.Timer(seconds, print_line, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_live(stream: TextIO) -> bool:
    """Whether what is written on a stream can be written over: a terminal, or the output of a notebook's cell."""
    if type(stream).__module__.partition(".")[0] == "ipykernel":
        return True
    return os.environ.get("TERM") != "dumb" and stream is not None and stream.isatty()


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print text on lines of its own, also while bars are drawn; on standard error if no file is given."""
    clear_bars()
    print(text, file=sys.stderr if file is None else file, flush=True)


def clear_bars() -> None:
    """Wipe all bars from the terminal, so that what is printed next stands on lines of its own."""
    for bar in reversed(_open):
        bar.clear()


def close_bars() -> None:
    """End all bars for good, as where an error ends what they show."""
    for bar in reversed(list(_open)):
        bar.close(finished=False)


def amount(count: int, unit: str) -> str:
    """A number of units in words.

    Example:
        >>> amount(2903, "images"), amount(1, "classes"), amount(1, "batches"), amount(5 * 2**20, "bytes")
        ('2,903 images', '1 class', '1 batch', '5 MiB')
    """
    if unit == "bytes":
        return f"{count / 2**20:.0f} MiB"
    if count == 1:
        unit = unit.removesuffix("es") if unit.endswith(("sses", "ches")) else unit.removesuffix("s")
    return f"{count:,} {unit}"


def duration(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> duration(9.6), duration(71), duration(7384)
        ('10 s', '1 min 11 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
