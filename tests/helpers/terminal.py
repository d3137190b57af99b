"""A command on a real terminal, and what stands on its screen afterwards."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

_SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])")


def on_terminal(*arguments: str, seconds: float = 300, **environment: str) -> tuple[int, str]:
    """Run `python ARGUMENTS` with a terminal of 100 columns; its exit status and all that it wrote there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    variables = {**os.environ, "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=follower, stdout=follower, stderr=follower, env=variables, close_fds=True
    )
    os.close(follower)
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
    return process.wait(timeout=60), written.decode()


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
