"""What a path is that is neither a file nor a folder."""

import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def special_kind(path: Path) -> str:
    """Say what is there instead of a file or a folder; "" where nothing is, or one of these.

    Example:
        >>> special_kind(Path("/dev/null")), special_kind(Path("/"))
        ('a device', '')
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "")


def instead_of_a_file(path: Path) -> str:
    """Return the end of a sentence that says there is no such file: what is there in its place, if anything.

    Example:
        >>> instead_of_a_file(Path("/dev/null"))
        '; it is a device, which holds nothing to read'
        >>> instead_of_a_file(Path("/nowhere"))
        ''
    """
    kind = special_kind(path)
    return f"; it is {kind}, which holds nothing to read" if kind else ""
