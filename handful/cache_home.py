"""The folder for what can be worked out again: the user's cache, or a private temporary folder where that is no use."""

import os
import tempfile
import warnings
from pathlib import Path

_settled: dict[str | None, Path] = {}


def cache_home() -> Path:
    """Return `$XDG_CACHE_HOME`, else `~/.cache`; where neither can be written, a folder of one's own in `/tmp`.

    A warning says, once, where the cache is then.

    Example:
        >>> cache_home().is_absolute()
        True
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if given not in _settled:
        wanted, reason = _wanted(given)
        reason = reason or _obstacle(wanted)
        if not reason:
            return wanted  # asked again: a folder may cease to be writable
        _settled[given] = _private_folder()
        warnings.warn(
            f"The cache folder {wanted} cannot be used ({reason}): using {_settled[given]} instead. Set "
            "XDG_CACHE_HOME (or data.cache_dir, for images) to choose another folder.",
            stacklevel=2,
        )
    return _settled[given]


def settle_cache_home() -> None:
    """Let this process, those that it starts and all libraries keep caches where they can be written."""
    home = cache_home()
    if home in _settled.values() or not os.environ.get("HOME"):
        os.environ["XDG_CACHE_HOME"] = str(home)
    if home in _settled.values():
        os.environ.setdefault("MPLCONFIGDIR", str(home / "matplotlib"))
        _settled[str(home)] = home


def _wanted(given: str | None) -> tuple[Path, str]:
    """The folder that the environment names, and why it cannot be the one."""
    if given and Path(given).is_absolute():  # others do not count, as the XDG specification has it
        return Path(given), ""
    try:
        home = Path.home()
    except RuntimeError:
        return Path("~/.cache"), "there is no home folder"
    return home / ".cache", "" if home.is_absolute() else "the home folder is not an absolute path"


def _obstacle(folder: Path) -> str:
    """Why a folder cannot be made or written; empty where it can."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".handful-", dir=folder))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _private_folder() -> Path:
    """A folder for temporary files that belongs to this user alone; the same for all processes where that can be."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"handful-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != user or found.st_mode & 0o077 or _obstacle(folder):
            raise FileExistsError(str(folder))  # somebody else's
    except OSError:
        return Path(tempfile.mkdtemp(prefix="handful-"))
    return folder
