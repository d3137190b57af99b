"""Folders that are worked out once and kept, shared by processes and safe from interruptions."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful.cache_home import cache_home
from handful.errors import UserError
from handful.text import safe_text

_DRAFT, _LOCK, _PARTS, _VALUE = ".draft-", ".lock-", ".parts-", "value.json"
# Errors of a write to an open file, which do not name it.
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
# A draft without a known maker is taken for abandoned after so many seconds.
_ABANDONED = 24 * 3600
# Files and folders that are looked at to know a cache.
_LOOKED_AT = 1000
# Parts of an entry wait so many seconds for their maker to come back.
_FORGOTTEN = 7 * 24 * 3600


class CacheUnwritableError(UserError):
    """The cache's folder cannot be written.

    Args:
        sentence: for the user.
        cause: what the system says.
    """

    def __init__(self, sentence: str, cause: OSError) -> None:
        super().__init__(sentence)
        self.cause = cause


def cannot_read(error: OSError) -> UserError:
    """Return the sentence about images that the system does not let a process read."""
    named = isinstance(error.filename, str | bytes)
    what = safe_text(os.fsdecode(error.filename)) if named else "An image"
    return UserError(f"{what} cannot be read: {error.strerror or error}.")


def _is_of_writing(error: OSError, folder: Path) -> bool:
    """Whether an error is about writing to a folder: it names a file there, or none and can only be of writing."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if names:
        return any(Path(name).is_relative_to(folder) for name in names)
    return error.errno in _OF_WRITING


def _always(found: Any) -> bool:
    return True


def is_cache(folder: str | Path) -> bool:
    """Whether a folder holds entries of a cache, as far as a look at some of what lies in it shows."""
    try:
        inner = list(itertools.islice(Path(folder).expanduser().iterdir(), _LOOKED_AT))
    except (OSError, RuntimeError, ValueError):  # of no such user, or no name of a folder
        return False
    return any(map(_is_entry, inner))


def _is_entry(path: Path) -> bool:
    try:
        return path.is_dir() and ((path / _VALUE).is_file() or any(path.glob("*.shapes.json")))
    except OSError:
        return False


class Cache:
    """Folders by key. An interrupted or failed attempt leaves no entry; what a killed one leaves is swept later.

    Two processes that need the same entry work it out once: the second waits for the first.

    Args:
        folder: where to keep them; by default `$XDG_CACHE_HOME/handful`, else `~/.cache/handful`; see
            `handful.cache_home`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder).expanduser() if folder else cache_home() / "handful"

    def find(self, key: str) -> Path | None:
        """Return the finished folder of that key, None where there is none."""
        entry = self.folder / key
        return entry if entry.is_dir() else None

    def free_bytes(self) -> int:
        """Return the free bytes of the disk that the folder lies on, or would lie on."""
        place = self.folder
        while not place.is_dir() and place != place.parent:
            place = place.parent
        return shutil.disk_usage(place).free

    def entry(self, key: str, make: Callable[[Path], None], is_whole: Callable[[Path], bool] = _always) -> Path:
        """Return the finished folder of that key, made first where there is none or a damaged one.

        Where a damaged one lies in a cache that cannot be written, as one that others share, the user's own cache takes
        its place, and a warning says so.

        Args:
            key: name of the folder.
            make: fills the empty folder that it is given.
            is_whole: whether a finished folder holds what `make` wrote, at a glance.

        Raises:
            UserError: the cache cannot be written, or what `make` reads cannot be read.
        """
        found = self.find(key)
        if found is not None and is_whole(found):
            return found
        try:
            return self._entry(key, make, is_whole)
        except CacheUnwritableError as error:
            own = Cache()
            if found is None or own.folder.resolve() == self.folder.resolve():
                raise
            warnings.warn(
                f"{safe_text(found)} is damaged and cannot be made again there ({error.cause.strerror}): "
                f"the images are kept in {safe_text(own.folder)} instead.",
                stacklevel=2,
            )
            return own.entry(key, make, is_whole)

    def _entry(self, key: str, make: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> Path:
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(key):
            self._sweep()
            found = self.find(key)  # another process may have made it while this one waited
            if found is not None and is_whole(found):
                return found
            return self._made(key, make, replace=found is not None)

    @contextmanager
    def gradually(self, key: str) -> Iterator["GradualEntry"]:
        """Hold the lock of an entry that takes long: it is made in parts, which outlive a process that is killed.

        Args:
            key: name of the folder.

        Raises:
            UserError: the cache cannot be written.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(key):
            self._sweep()
            yield GradualEntry(self, key)

    def parts_folder(self, key: str) -> Path:
        """Return where the parts of an entry lie until it is finished."""
        return self.folder / f"{_PARTS}{_short(key)}"

    def value(self, key: str, compute: Callable[[], Any], fits: Callable[[Any], bool] = _always) -> Any:
        """Return a small value that is worked out once: plain values, as JSON holds them.

        Where the cache cannot be written, the value is worked out all the same and a warning says so.

        Args:
            key: names the value.
            compute: works it out.
            fits: whether a kept value is one that `compute` returns; another one is worked out again.
        """
        found, kept = self._read(key, fits)
        if found:
            return kept
        computed: list[Any] = []

        def make(draft: Path) -> None:
            (draft / _VALUE).write_text(json.dumps(computed[0]))

        try:
            with self._writing():
                self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(key):
                self._sweep()
                found, kept = self._read(key, fits)  # another process may have made it while this one waited
                if found:
                    return kept
                computed.append(compute())
                self._made(key, make, replace=True)  # what cannot be read is damaged, or of an earlier version
        except CacheUnwritableError as error:
            warnings.warn(f"{error} Until then images are checked again in every run.", stacklevel=2)
        return json.loads(json.dumps(computed[0] if computed else compute()))

    def _read(self, key: str, fits: Callable[[Any], bool]) -> tuple[bool, Any]:
        """Whether the value of that key is there and whole, and the value."""
        try:
            value = json.loads((self.folder / key / _VALUE).read_text())
        except (OSError, ValueError, RecursionError):
            return False, None
        return fits(value), value

    def _made(self, key: str, make: Callable[[Path], None], replace: bool = False) -> Path:
        entry, draft = self.folder / key, Path()
        try:
            with self._writing():
                draft = Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{_short(key)}-", dir=self.folder))
            self._filled(draft, make)
            with self._writing():
                _sync(draft)
                if replace and os.path.lexists(entry):
                    with tempfile.TemporaryDirectory(prefix=f"{_DRAFT}{_short(key)}-", dir=self.folder) as aside:
                        entry.rename(Path(aside) / "old")
                _put(draft, entry)
        finally:
            if draft != Path():
                shutil.rmtree(draft, ignore_errors=True)  # nothing is there after it was renamed
        return entry

    def _filled(self, draft: Path, make: Callable[[Path], None]) -> None:
        """Fill a draft. What `make` cannot read is not the cache's fault, and said as what it is."""
        try:
            make(draft)
        except OSError as error:
            if _is_of_writing(error, draft):
                raise self._unwritable(error) from None
            raise cannot_read(error) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> CacheUnwritableError:
        return CacheUnwritableError(
            f"The image cache {self.folder} cannot be written ({error.strerror or error}): "
            "choose another place with data.cache_dir or set data.cache to false.",
            error,
        )

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        path = self.folder / f"{_LOCK}{_short(key)}"
        with self._writing():
            handle = _lock(path)
        try:
            yield
        finally:
            if handle is not None:
                path.unlink(missing_ok=True)
                os.close(handle)

    def _sweep(self) -> None:
        """Remove drafts whose makers are gone."""
        for draft in self.folder.glob(f"{_DRAFT}*"):
            owner = draft.name.removeprefix(_DRAFT).split("-")[0]
            if self._is_dead(owner, draft):
                shutil.rmtree(draft, ignore_errors=True)
        for parts in self.folder.glob(f"{_PARTS}*"):
            with contextlib.suppress(OSError):  # it went away meanwhile
                if time.time() - parts.stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(parts, ignore_errors=True)

    def _is_dead(self, owner: str, draft: Path) -> bool:
        path = self.folder / f"{_LOCK}{owner}"
        try:
            if "-" not in draft.name.removeprefix(_DRAFT):  # of a version that kept no locks
                return time.time() - draft.stat().st_mtime > _ABANDONED
            if not path.exists():
                return True
            handle = os.open(path, os.O_RDWR)
        except OSError:  # it went away meanwhile
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # its maker is at work
        else:
            return True
        finally:
            os.close(handle)


class GradualEntry:
    """An entry of a cache that is made in parts, while its lock is held; see `Cache.gradually`.

    Args:
        cache: the cache.
        key: of the entry.

    Attributes:
        parts: the folder of the parts, which may hold those of a process that was killed.
    """

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache, self._key = cache, key
        self.parts = cache.parts_folder(key)

    def begin(self) -> None:
        """Make the folder of the parts, where there is none yet."""
        with self._cache._writing():
            self.parts.mkdir(exist_ok=True)

    def finish(self, make: Callable[[Path], None]) -> Path:
        """Put the entry in its place, also in that of a damaged one, and remove the parts.

        Args:
            make: fills the empty folder that it is given.

        Raises:
            UserError: the cache cannot be written.
        """
        entry = self._cache._made(self._key, make, replace=True)
        shutil.rmtree(self.parts, ignore_errors=True)
        return entry


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _lock(path: Path) -> int | None:
    """Return an open and locked file, None where the file system knows no locks; waits for whoever holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                return None
            raise
        try:
            # its last holder may have removed it after this process had opened it
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _put(draft: Path, entry: Path) -> None:
    """Give a finished draft its name, unless another process was faster where the file system knows no locks."""
    try:
        draft.rename(entry)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not entry.is_dir():
            raise


def _sync(folder: Path) -> None:
    """Have the files of a folder on the disk before it takes its name."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
