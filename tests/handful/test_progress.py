"""One kind of progress bar: on a terminal it comes and goes, in a file there is one line when long work ends."""

import sys
import threading
import time

import pytest

from handful import progress
from handful.progress import ProgressBar, patience, print_line, tracked
from tests.helpers.terminal import on_terminal, screen

WORK = """
import sys, time
from handful import progress
from handful.errors import UserError
from handful.progress import ProgressBar, print_line, tracked
from pipelines.cli import quietened
from pipelines.errors import run_command
progress.DELAY, progress.LONG = 0.05, 0.2
quiet = quietened()
quiet.__enter__()
def work():
    print("before", flush=True)
    for number in tracked(range(30), "reading", "images"):
        with ProgressBar(3, "inner", "parts") as bar:
            for _ in range(3):
                time.sleep(0.01)
                bar.update()
        if number == 15:
            SAYS
    print("after", flush=True)
run_command(work)
"""


def work(says: str = "pass") -> str:
    return WORK.replace("SAYS", says)


def test_a_bar_on_a_terminal_comes_and_leaves_nothing_behind():
    status, written = on_terminal("-c", work())
    assert status == 0
    assert "reading:" in written
    assert "images/s" in written
    assert screen(written) == ["before", "after", ""]


@pytest.mark.parametrize(
    ("says", "line"),
    [
        ("print_line('a line')", "a line"),
        ("import warnings; warnings.warn('careful')", "handful: warning: careful"),
        ("from lightning.pytorch.utilities import rank_zero_info; rank_zero_info('logged')", "logged"),
    ],
)
def test_what_is_printed_while_bars_are_drawn_stands_on_lines_of_its_own(says, line):
    status, written = on_terminal("-c", work(says))
    assert status == 0
    assert screen(written) == ["before", line, "after", ""]


def test_an_error_stands_on_a_line_of_its_own_where_bars_were_drawn():
    status, written = on_terminal("-c", work("raise UserError('photos/a.jpg: cannot be read')"))
    assert status == 2
    assert screen(written) == ["before", "handful: photos/a.jpg: cannot be read", ""]


def test_a_fault_of_ours_begins_on_a_line_of_its_own():
    _, written = on_terminal("-c", work("1 / 0"))
    lines = screen(written)
    assert lines[:2] == ["before", "Traceback (most recent call last):"]
    assert lines[-2] == "ZeroDivisionError: division by zero"


def test_in_a_file_long_work_is_one_line_and_short_work_none(capsys, monkeypatch):
    list(tracked(range(3), "reading", "images"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LONG", 0.0)
    list(tracked(range(3), "reading", "images"))
    assert capsys.readouterr().err == "reading: 3 images in 0 s\n"
    with ProgressBar(3, "reading", show=False) as bar:
        bar.update()
    with ProgressBar(3, "reading", report=False) as bar:
        bar.update()
    with pytest.raises(ZeroDivisionError):
        list(tracked((1 / number for number in (1, 0)), "dividing", "numbers"))
    assert capsys.readouterr().err == ""


def test_a_line_goes_where_it_is_sent(capsys):
    print_line("result", sys.stdout)
    print_line("remark")
    assert capsys.readouterr() == ("result\n", "remark\n")


def test_what_is_waited_for_is_said_once_and_only_if_it_takes_long(capsys):
    said = ""
    with patience("nobody has answered yet", 0.01):
        while not said.endswith("\n"):
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said == "nobody has answered yet\n"
    before = threading.active_count()
    with pytest.raises(ValueError, match="an error"), patience("nobody has answered yet", 3600):
        raise ValueError("an error")
    while threading.active_count() > before:  # nothing waits any longer
        time.sleep(0.01)
    assert capsys.readouterr().err == ""
