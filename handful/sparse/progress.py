"""A progress bar that shows itself only where there is something to wait for."""

from __future__ import annotations

from tqdm import tqdm


def progress_bar(total: int, what: str, show: bool) -> tqdm[None]:
    """A bar on standard error that appears after a second; `show=False` never."""
    return tqdm(total=total, desc=what, disable=not show, delay=1.0, leave=False)
