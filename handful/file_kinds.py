"""What a path is that is neither a file nor a folder."""

import stat
from pathlib import Path

from handful.errors import UserError

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


def check_there(option: str, where: Path) -> None:
    """Refuse a path where there is neither a file nor a folder.

    Args:
        option: that names it, for the sentence.
        where: the path.

    Raises:
        UserError: nothing is there, or something that cannot be read.

    Example:
        >>> check_there("--images", Path("/nowhere"))
        Traceback (most recent call last):
        handful.errors.UserError: --images: there is no file or folder /nowhere
    """
    try:
        missing = not where.is_file() and not where.is_dir()
    except OSError as error:  # a name too long, a loop of links
        raise UserError(f"{option}: there is no file or folder {where} ({error.strerror})") from error
    if missing:
        raise UserError(f"{option}: there is no file or folder {where}{instead_of_a_file(where)}")


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
