"""Bad input in one sentence: what is wrong, and where."""

import errno
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException

from handful.errors import UserError
from pipelines.ranks import global_rank

# No room, a file too large, no leave to write, a file where a folder should be, a folder that cannot be made.
_CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR,
    errno.ENOENT,
}  # fmt: skip

#: Exit status of a command that was given bad input.
BAD_INPUT = 2


class OneSentenceParser(ArgumentParser):
    """A parser whose complaints are one sentence instead of a page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"exit_on_error": True, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the sentence; `run_command` prints it and ends with status 2."""
        raise UserError(condense(str(message) if message else str(ex)))


def condense(message: str) -> str:
    """The key and the innermost reasons of a jsonargparse complaint, on one line."""
    key = re.search(r'(?:Parser key|Key) "([^"]+)"', message) or re.search(r"--([\w.]+)", message)
    reasons = [
        line.strip(" -")
        for line in message.splitlines()
        if re.search(r"not accepted|not a subclass|[Nn]o such|not found|Expected|required|invalid|Given value:", line)
        and "NoneType" not in line
        and not line.rstrip().endswith(":")
    ]
    telling = [r for r in reasons if re.search(r"not accepted|[Nn]o such|not found|required", r)] or reasons
    text = "; ".join(dict.fromkeys(telling)) or " ".join(message.split())
    where = f"{key.group(1)}: " if key and key.group(1) not in text else ""
    return where + text


def run_command(command: Callable[[], None]) -> None:
    """Run a command; bad input and a full disk end in one sentence on standard error and exit status 2."""
    try:
        command()
    except ValueError as error:
        told = user_error_in(error)
        if told is None:
            raise
        _end(_without_traceback(str(told)))
    except MisconfigurationException as error:
        _end(" ".join(str(error).split()))
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        where = error.filename if isinstance(error.filename, str) else "a file"
        _end(f"{where}: {error.strerror}; results written before stay as they are")


def _without_traceback(text: str) -> str:
    """The sentence alone of an error that torch brought from a loader process together with its traceback."""
    if not re.match(r"Caught \w+ in DataLoader worker process", text):
        return text
    return text.rpartition(f"{UserError.__name__}: ")[2].strip()


def user_error_in(error: BaseException) -> UserError | None:
    """The sentence that an error carries: itself, or what it was raised from (jsonargparse wraps constructors')."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, UserError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _end(sentence: str) -> NoReturn:
    # the others say which they are: mostly they only repeat what process 0 says
    process = f" (process {global_rank()})" if global_rank() else ""
    print(f"handful{process}: {sentence}", file=sys.stderr, flush=True)
    raise SystemExit(BAD_INPUT)
