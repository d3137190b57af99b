"""The processes of a run on several devices: when one is killed, the others end soon and say what to do."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from handful.errors import UserError
from pipelines.errors import BAD_INPUT, print_sentence

#: Seconds between two looks at the other processes, and seconds that the main thread is given to end by itself.
_PERIOD, _GRACE = 0.5, 5.0
#: The latter where the others were asked to stop, as this one mostly is, too: it may have much to write.
_GRACE_OF_STOPPED = 60.0
#: The status of a process that was.
_STOPPED = 128 + signal.SIGTERM

#: By which the process that starts the others is known to them.
_STARTED_BY = "HANDFUL_STARTED_BY"

#: How torch says that the process at the other end of a connection is gone.
_LOST = re.compile(
    r"Connection (reset|closed|refused)|Broken pipe|[Ss]ocket [Tt]imeout|failed to recv|recvValue failed|"
    r"sendBytes failed|remote process exited|[Cc]ommunicator was aborted"
)

_REMEDY = "give the same command again to resume"

_children: list[subprocess.Popen[bytes]] = []


def watch_children(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End this process with a sentence soon after one of those that it has started was killed or has failed."""
    _children[:] = children
    _watch("watch-children", _child_ended)


def name_parent() -> None:
    """Let processes that are started from now on know by whom."""
    os.environ[_STARTED_BY] = str(os.getpid())


def started_by_a_run() -> bool:
    """Whether another process of the same run has started this one."""
    return _STARTED_BY in os.environ and os.environ[_STARTED_BY] != str(os.getpid())


def watch_parent() -> None:
    """End this process with a sentence soon after the one of the same run that has started it, if any, is gone."""
    if os.environ.get(_STARTED_BY, "").isdecimal():
        _watch("watch-parent", _parent_gone)


def lost_process(error: BaseException) -> UserError | None:
    """The sentence for an error that says that another process of the run is gone; None for any other error."""
    several = bool(_children) or _STARTED_BY in os.environ or os.environ.get("WORLD_SIZE", "1") != "1"
    if not several or not isinstance(error, RuntimeError) or not _LOST.search(str(error)):
        return None
    deadline = time.monotonic() + 2 * _PERIOD
    while not (_child_ended() or _parent_gone()) and time.monotonic() < deadline:
        time.sleep(_PERIOD / 10)  # the connection breaks before the process has ended
    return UserError(_sentence())


def _watch(name: str, gone: Callable[[], bool]) -> None:
    """Watch other processes in a thread of that name; one is enough for all phases."""
    if not any(thread.name == name for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(gone,), daemon=True, name=name).start()


def _end_with(gone: Callable[[], bool]) -> None:
    """End this process with a sentence when another is gone, unless it ends by itself."""
    while not gone():
        time.sleep(_PERIOD)
    time.sleep(_GRACE_OF_STOPPED if any(child.poll() == _STOPPED for child in _children) else _GRACE)
    sentence = _sentence()
    for child in _children:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
    # whoever reads the output may have stopped reading, which holds up whoever writes
    last_words = threading.Thread(target=_say, args=(sentence,), daemon=True)
    last_words.start()
    last_words.join(_GRACE)
    os._exit(BAD_INPUT)  # the main thread may wait for the lost process for ever


def _say(sentence: str) -> None:
    print_sentence(sentence)
    sys.stdout.flush()


def _child_ended() -> bool:
    """Whether a process that this one has started has ended otherwise than well."""
    return any(child.poll() for child in _children)


def _parent_gone() -> bool:
    """Whether the process that has started this one, where that was a run of ours, is gone."""
    parent = os.environ.get(_STARTED_BY, "")
    return parent.isdecimal() and int(parent) not in (os.getpid(), os.getppid())


def _sentence() -> str:
    for rank, child in enumerate(_children, start=1):
        status = child.poll()
        if status is not None and status < 0:
            why = "out of memory?" if status == -signal.SIGKILL else signal.strsignal(-status) or f"signal {-status}"
            return f"process {rank} of this run was killed ({why}); {_REMEDY}"
        if status == _STOPPED:
            return f"process {rank} of this run was stopped by SIGTERM; {_REMEDY}"
        if status:
            return f"process {rank} of this run ended with status {status}, its error is printed above; {_REMEDY}"
    lost = "process 0 of this run was killed (out of memory?)" if _parent_gone() else "another process has ended"
    return f"{lost}; {_REMEDY}"
