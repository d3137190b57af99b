"""Bad input in one sentence: what is wrong, and where."""

import errno
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from handful.errors import UserError, did_you_mean
from handful.text import safe_text, shorten
from pipelines.ranks import global_rank
from pipelines.trusted import check_classes, refusal, similar_class

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
_SHOWN = 80


_OURS = re.compile("is none of the classes of|there is no class|there is no such option|did you mean")


class OneSentenceParser(ArgumentParser):
    """A parser whose complaints are one sentence instead of a page, with the nearest valid name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"exit_on_error": True, "allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the sentence; `run_command` prints it and ends with status 2."""
        raise UserError(condense(self._with_suggestion(str(message) if message else str(ex))))

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Build what the configuration names, after a look at every class it names."""
        check_classes(namespace)
        return super().instantiate(namespace, *args, **kwargs)

    def instantiate_classes(self, cfg: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """The same, by the name that LightningCLI calls it."""
        check_classes(cfg)
        return super().instantiate_classes(cfg, *args, **kwargs)

    def _with_suggestion(self, message: str) -> str:
        """Name the nearest option where one is not known."""
        unknown = re.search(r"Option '([^']+)' is not accepted", message)
        if unknown and "did you mean" not in message:
            names = [action.dest for action in self._actions if action.dest not in ("help", "config")]
            hint = did_you_mean(unknown.group(1), names)
            return message.replace(unknown.group(0), f"{unknown.group(0)}{hint}", 1)
        extra = re.search(r"unrecognized arguments: (\S+)", message)
        if extra:
            name = extra.group(1).partition("=")[0]
            if not name.startswith("-"):
                return f"{_brief(name)}: an argument that belongs to no option"
            strings = [string for action in self._actions for string in action.option_strings]
            strings += ["--trust", "--run_dir", "--phase"]
            return f"{name}: there is no such option{did_you_mean(name, strings)}"
        return message


def condense(message: str) -> str:
    """The key and the innermost reasons of a jsonargparse complaint, on one line."""
    keys = [key for key in re.findall(r'(?:Parser key|Key) "([^"]+)"', message) if key != "config"]
    key = keys[0] if keys else next(iter(re.findall(r"--([\w.]+)", message)), "")
    where = f"{key}: " if key else ""
    # what a parser of a class within has said in our words already
    ours = [line.strip().removeprefix("- ") for line in message.splitlines() if _OURS.search(line)]
    denied = re.search(r"Importing '([^']+)' is not allowed", message)
    unknown = re.search(r"Expected a dot import path string: (.*)", message)
    if ours:
        text = re.sub(r'^(Parser key "[^"]+":\s*)+', "", ours[0])
        return text if text.startswith((where, "--")) else where + text
    if denied:
        return refusal(denied.group(1), key)
    if unknown:
        name = unknown.group(1).strip()
        close = similar_class(name)
        return f"{where}there is no class {_brief(name)!r}" + (f"; did you mean {close}?" if close else "")
    reasons = [
        line.strip(" -")
        for line in message.splitlines()
        if re.search(r"not accepted|not a subclass|[Nn]o such|not found|Expected|required|invalid|Given value:", line)
        and "NoneType" not in line
        and not line.rstrip().endswith(":")
    ]
    telling = [r for r in reasons if re.search(r"not accepted|[Nn]o such|not found|required", r)] or reasons
    text = "; ".join(map(_brief_value, dict.fromkeys(telling))) or " ".join(message.split())
    return text if key and key in text else where + text


def _brief_value(reason: str) -> str:
    """A reason with its value cut to what a line holds."""
    start, mark, value = reason.rpartition("alue: ")
    return f"{start}{mark}{_brief(value)}" if mark else reason


def _brief(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


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
        _end(f"{_brief(where)}: {error.strerror}; results written before stay as they are")


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
    words = re.sub(rf"\S{{{_LONG_WORD},}}", lambda word: shorten(word.group(), _LONG_WORD), sentence)
    print(safe_text(f"handful{process}: {words}"), file=sys.stderr, flush=True)
    raise SystemExit(BAD_INPUT)
