"""The one exception for things a person can put right, and the nearest valid name for its sentence."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, reported in one clear sentence that names the file or the option.

    The command line prints the sentence on standard error and ends with exit status 2; from Python it is an
    ordinary `ValueError`.

    Example:
        >>> raise UserError("data.root: there is no folder photos")
        Traceback (most recent call last):
        handful.errors.UserError: data.root: there is no folder photos
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the known name most like this one, or nothing where none is like it.

    Example:
        >>> did_you_mean("finetuned", ["dense", "finetune"])
        "; did you mean 'finetune'?"
        >>> did_you_mean("zebra", ["dense", "finetune"])
        ''
    """
    options = list(dict.fromkeys(known))
    folded = {option.casefold(): option for option in reversed(options)}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
