"""A full disk: files hold so many bytes, in a process of its own."""

import os
import resource
import traceback
from collections.abc import Callable


def with_full_disk(action: Callable[[], None], size: int = 16) -> None:
    """Run something in a copy of this process in which no file can grow beyond `size` bytes."""
    child = os.fork()
    if child == 0:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            action()
        except BaseException:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
