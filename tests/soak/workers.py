"""Processes that run cases, and outlive none of them."""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.soak.cases import Case, Result, run_case
from tests.soak.outcome import Outcome
from tests.soak.world import World

CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that runs cases one after another, started again where one ends it.

    Args:
        cases: in order.
        world: what they start from.
        folder: for their files.
        end: no case begins after this time of the monotonic clock.
        verbose: whether every case is shown in full.
    """

    def __init__(self, cases: list[Case], world: World, folder: Path, end: float, verbose: bool) -> None:
        self._cases, self._rest = list(cases), (world, folder, end, verbose)
        self.alive = False
        self._start()

    def _start(self) -> None:
        self.receiver, sender = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_work, args=(self._cases, *self._rest, sender))
        self._process.start()
        sender.close()
        self.alive = True

    def received(self) -> list[Result]:
        """The next result; a case that ended its process is one too."""
        try:
            result = self.receiver.recv()
            self._cases.pop(0)
            return [result]
        except EOFError:
            self.alive = False
            self._process.join()
            if self._process.exitcode == 0:
                return []
            lost = self._cases.pop(0)
            fault = Outcome("fault", [f"the process ended with status {self._process.exitcode}"])
            if self._cases:
                self._start()
            return [Result(lost, [], fault)]


def _work(cases: list[Case], world: World, folder: Path, end: float, verbose: bool, sender: Connection) -> None:
    for case in cases:
        if time.monotonic() > end:
            return
        sender.send(run_case(case, world, folder / f"worker-{os.getpid()}", verbose))
