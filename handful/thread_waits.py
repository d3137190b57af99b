"""How long the threads of a computation wait awake for each other."""

import os
import sys
from collections.abc import MutableMapping

#: Environment variables that take precedence.
_CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
#: How often a thread looks for work before it sleeps; some microseconds in all.
_LOOKS = "1000"


def sleep_between_products(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let threads sleep soon where they wait; to be called before torch is imported.

    After each product the threads of GNU's OpenMP, which torch uses on Linux, wait for the last of them, awake for
    milliseconds: where other processes use the cores as well, each waits for one that does not run, and trainings take
    several times as long. `python -m benchmarks.shared_cores` measures it.

    Args:
        environment: of the process; `GOMP_SPINCOUNT` and `OMP_WAIT_POLICY` in it take precedence. Processes that are
            started inherit it.

    Returns:
        Whether it was set: not where it is chosen, or where torch was imported before.

    Example:
        >>> sleep_between_products({"OMP_WAIT_POLICY": "active"})
        False
    """
    if "torch" in sys.modules or any(environment.get(name, "").strip() for name in _CHOSEN):
        return False
    environment["GOMP_SPINCOUNT"] = _LOOKS
    return True
