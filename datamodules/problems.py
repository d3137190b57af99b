"""What is wrong with a data set, collected and said together."""

from collections.abc import Sequence

from datamodules.cache import Cache
from datamodules.file_tree import digest
from handful.errors import UserError

_SHOWN = 10


def refuse(problems: Sequence[str], advice: str, cache: Cache) -> None:
    """Refuse a data set for its problems, if there are any; the first ten are named, and a file lists all.

    Args:
        problems: a sentence each, which names the file.
        advice: what to do, a sentence.
        cache: of which the folder takes the file with the whole list.

    Raises:
        UserError: there is a problem.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise UserError(f"{problems[0]} {advice}")
    named = "; ".join(problem.removesuffix(".") for problem in problems[:_SHOWN])
    rest = len(problems) - _SHOWN
    more = f"; and {rest} more, all listed in {_listed(problems, cache)}" if rest > 0 else ""
    raise UserError(f"{len(problems)} problems: {named}{more}. {advice}")


def _listed(problems: Sequence[str], cache: Cache) -> str:
    """Write all problems to a file, one a line, and return its path."""
    file = cache.folder / f"problems-{digest(*problems)}.txt"
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(problems) + "\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return f"no file, because {file} cannot be written ({error.strerror})"
    return str(file)
