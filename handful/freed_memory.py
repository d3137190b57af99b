"""Memory that a process keeps between steps, instead of handing it back to the system and asking again.

Every large tensor on a CPU is memory fresh from the system, whose pages are faulted in one by one and handed back when
the tensor goes. glibc can be asked to keep freed blocks; `python -m benchmarks.cpu_speed` measures what that brings.
"""

import ctypes
import os
import platform
from collections.abc import Mapping
from functools import cache

#: Set to `system`, the process's allocator is left as it is.
ENVIRONMENT = "HANDFUL_ALLOCATOR"

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER, _STEP = 2**31 - 1, 128 * 2**20


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let glibc keep freed blocks in this process; to be called before the first large tensor.

    Nothing happens with another C library, with another allocator preloaded, where the environment sets glibc's own
    `MALLOC_…` variables, or with `HANDFUL_ALLOCATOR=system`.

    Args:
        environment: of the process.

    Returns:
        Whether freed blocks are kept from now on.

    Example:
        >>> keep_freed_memory({"HANDFUL_ALLOCATOR": "system"})
        False
    """
    chosen = environment.get(ENVIRONMENT, "") == "system" or any(name.startswith("MALLOC_") for name in environment)
    chosen |= "glibc.malloc" in environment.get("GLIBC_TUNABLES", "")
    libc = _glibc()
    if chosen or libc is None or "malloc" in environment.get("LD_PRELOAD", ""):
        return False
    settings = (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _STEP)
    taken = [libc.mallopt(parameter, value) == 1 for parameter, value in settings]
    return all(taken)


def hand_back_memory() -> bool:
    """Hand freed blocks back to the system, as at the end of a phase; whether any could be."""
    libc = _glibc()
    return libc is not None and bool(libc.malloc_trim(0))


@cache
def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        libc = ctypes.CDLL(None)
        _ = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        return None
    return libc
