"""A command on a real terminal, and what stands on its screen afterwards."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import traceback

from tests.helpers import forked

_SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])")


def on_terminal(*arguments: str, seconds: float = 400, **environment: str) -> tuple[int, str]:
    """Run `python ARGUMENTS` with a terminal of 100 columns; its exit status and all that it wrote there."""
    leader, follower = _terminal()
    variables = {**os.environ, "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=follower, stdout=follower, stderr=follower, env=variables, close_fds=True
    )
    os.close(follower)
    return _written(leader, process, seconds)


def code_on_terminal(code: str, seconds: float = 400) -> tuple[int, str]:
    """Run Python code as `on_terminal` does, in a forked process, without the seconds that imports take."""
    leader, follower = _terminal()

    def work() -> None:
        os.setsid()
        os.environ["TERM"] = "xterm"
        os.close(leader)
        forked.write_to(follower)
        status = 0
        try:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    process = forked.Child(forked.fork(work))
    os.close(follower)
    return _written(leader, process, seconds)


def _terminal() -> tuple[int, int]:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    return leader, follower


def _written(leader: int, process: "subprocess.Popen[bytes] | forked.Child", seconds: float) -> tuple[int, str]:
    written, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                block = os.read(leader, 1 << 16)
            except OSError:  # the other end is closed
                break
            written += block
        elif process.poll() is not None:
            break
    os.close(leader)
    try:
        return process.wait(timeout=60), written.decode()
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)


def screen(written: str) -> list[str]:
    """The lines that stand on a terminal after all was written, without blanks at their ends."""
    lines, row, column = [""], 0, 0
    place = 0
    while place < len(written):
        sequence = _SEQUENCE.match(written, place)
        if sequence:
            row -= int(sequence[1] or 1) if sequence[2] == "A" else 0
            place = sequence.end()
            continue
        letter = written[place]
        place += 1
        if letter == "\r":
            column = 0
        elif letter == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row].ljust(column)[:column] + letter + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]
