"""The boundary between what a person can put right, one sentence, and our own faults, a traceback."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from handful.errors import UserError
from handful.progress import close_bars, print_line
from handful.text import safe_text, shorten

# No room, a file too large, no leave to write, a file where a folder should be, a folder that cannot be made.
_CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR,
    errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
}  # fmt: skip

#: A word as long as this, in characters, is a pasted file, not a name: its middle is left out of a sentence.
_LONG_WORD = 500

#: Exit status of a command that was given bad input.
BAD_INPUT = 2

#: A value is quoted up to this length.
SHOWN = 80


def brief(value: str) -> str:
    """A value as a sentence quotes it."""
    return value if len(value) <= SHOWN else f"{value[:SHOWN]}…"


def run_command(command: Callable[[], None]) -> None:
    """Run a command; bad input and a full disk end in one sentence on standard error and exit status 2."""
    try:
        _translated(command)
    except ValueError as error:
        known = user_error_in(error)
        if known is None:
            raise
        _end(_without_traceback(str(known)))
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        where = error.filename if isinstance(error.filename, str) else "a file"
        _end(f"{brief(where)}: {error.strerror}; results written before stay as they are")


def _without_traceback(text: str) -> str:
    """The sentence alone of an error that torch brought from a loader process together with its traceback."""
    if not re.match(r"Caught \w+ in DataLoader worker process", text):
        return text
    return text.rpartition(f"{UserError.__name__}: ")[2].strip()


def _translated(command: Callable[[], None]) -> None:
    try:
        command()
    except BaseException as error:
        close_bars()  # what is said of the error stands on a line of its own
        if "lightning" not in sys.modules:  # a command that ends before it needs Lightning does not wait for it
            raise
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.pytorch.utilities.exceptions import SIGTERMException

        if isinstance(error, SIGTERMException):  # whose status is that of success
            print_sentence("stopped by SIGTERM; the same command resumes a pipeline")
            raise SystemExit(128 + signal.SIGTERM) from error
        if isinstance(error, MisconfigurationException):
            raise UserError(" ".join(str(error).split())) from error
        raise


def user_error_in(error: BaseException) -> UserError | None:
    """The sentence that an error carries: itself, or what it was raised from (jsonargparse wraps constructors')."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, UserError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _end(sentence: str) -> NoReturn:
    print_sentence(sentence)
    raise SystemExit(BAD_INPUT)


def print_sentence(sentence: str) -> None:
    """Print what went wrong on standard error, such that it cannot steer the terminal."""
    # the others say which they are: mostly they only repeat what process 0 says
    rank = _rank()
    process = f" (process {rank})" if rank else ""
    words = re.sub(rf"\S{{{_LONG_WORD},}}", lambda word: shorten(word.group(), _LONG_WORD), sentence)
    print_line(safe_text(f"handful{process}: {words}"))


def _rank() -> int:
    """The rank of this process, as Lightning has it or will have it; 0 where nothing says another.

    Nothing is imported: a thread may ask while the main thread imports, and two imports can lock each other.
    """
    marked = getattr(sys.modules.get("lightning_utilities.core.rank_zero"), "rank_zero_only", None)
    known = getattr(marked, "rank", None)
    if known is None:
        known = next((os.environ[key] for key in ("RANK", "LOCAL_RANK") if key in os.environ), "0")
    return int(known) if str(known).isdecimal() else 0
