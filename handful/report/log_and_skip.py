"""Pictures, tables and loggers that fail cost nobody else anything: the error is logged and the thing skipped."""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from handful.text import safe_text

T = TypeVar("T")

#: Reasons that were given, by owner.
_given: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def attempt(owner: object, what: str, action: Callable[[], T]) -> T | None:
    """Do what a run can do without; an error is logged once per owner and reason, and skipped.

    Args:
        owner: remembers the reasons that were given: the running Trainer, a logger, a phase.
        what: the thing attempted, for the warning.
        action: does it.

    Returns:
        What `action` returns; None after an error.

    Example:
        >>> class Run: ...
        >>> attempt(Run(), "the sum", lambda: 1 + 1)
        2
    """
    try:
        return action()
    except Exception as error:  # the only place where any error is one too small to stop for
        reason = safe_text(f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}")
        kind = f"{type(error).__name__}: {error.errno if isinstance(error, OSError) else error}"  # files differ
        reasons = _given.setdefault(owner, set())
        if kind not in reasons:
            reasons.add(kind)
            warnings.warn(f"{safe_text(what)} was skipped, as is all else with the same reason: {reason}", stacklevel=2)
        return None
