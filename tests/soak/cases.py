"""Cases by name: `KIND:NUMBER` and a seed give the same case again."""

import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.soak.kinds import MAKE, SHARES
from tests.soak.outcome import Outcome, fresh, run_command, shown
from tests.soak.world import World


@dataclass(frozen=True)
class Case:
    """One damaged input.

    Attributes:
        kind: what is damaged.
        number: which of its kind.
        seed: of all.
    """

    kind: str
    number: int
    seed: int

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.kind}:{self.number}"


@dataclass
class Result:
    """How a case ended."""

    case: Case
    arguments: list[str]
    outcome: Outcome
    trace: str = ""

    @property
    def group(self) -> str:
        """Cases of one group most likely have one cause."""
        frames = self.outcome.trace.splitlines()[-2:]
        return " ".join([self.outcome.faults[0].split(":")[0], *frames]) if self.outcome.faults else ""

    def describe(self) -> str:
        """What failed, and how to meet it again."""
        faults = "; ".join(self.outcome.faults)
        again = f"python -m tests.soak --seed {self.case.seed} --only {self.case.name}"
        return f"{self.case.name}: {faults}\n    {again}\n    {shown(self.arguments)[:600]}\n{self.outcome.trace}"


def chosen_cases(count: int, seed: int, only: str = "") -> list[Case]:
    """Cases of all kinds in their shares, the kinds mixed; or those that `only` names."""
    if ":" in only:
        kind, number = only.split(":")
        return [Case(kind, int(number), seed)]
    kinds = [only] if only else list(SHARES)
    total = sum(SHARES[kind] for kind in kinds)
    cases = [Case(kind, number, seed) for kind in kinds for number in range(-(-count * SHARES[kind] // total))]
    random.Random(seed).shuffle(cases)
    return cases[:count]


def run_case(case: Case, world: World, folder: Path, verbose: bool = False) -> Result:
    """Make and run one case in a folder of its own, which is removed."""
    rng = random.Random(f"{case.seed}/{case.name}")
    place = fresh(folder)
    try:
        command = MAKE[case.kind](rng, world, place)
        outcome = run_command(command, world, place)
        if (place / "canary").exists():
            outcome.status = "fault"
            outcome.faults.insert(0, "what a stranger wrote was executed")
        if verbose:
            print(shown(command.arguments), outcome, sep="\n", file=sys.stderr)
            if case.kind == "config":
                print((place / "config.yaml").read_bytes()[:3000], file=sys.stderr)
        return Result(case, command.arguments, outcome)
    finally:
        shutil.rmtree(place, ignore_errors=True)
