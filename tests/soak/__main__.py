"""Hundreds of damaged inputs against every command: `python -m tests.soak`, or `make soak`."""

import argparse
import collections
import multiprocessing.connection
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.cases import Result, chosen_cases
from tests.soak.workers import CONTEXT, Worker
from tests.soak.world import World, build_world


def main() -> int:
    """Run the cases and say what failed; status 1 where anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--cases", type=int, default=1200, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="other cases")
    parser.add_argument("--processes", type=int, default=2, help="at work at the same time")
    parser.add_argument("--only", default="", help="KIND, or KIND:NUMBER for a single case, shown in full")
    parser.add_argument("--minutes", type=float, default=10, help="begin no case after so many minutes")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    cases = chosen_cases(given.cases, given.seed, given.only)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        world = World(Path(name) / "world")
        builder = CONTEXT.Process(
            target=build_world, args=(world.folder,)
        )  # this process stays free of what a run leaves
        builder.start()
        builder.join()
        before = world.digest()
        end = start + 60 * given.minutes
        workers = [
            Worker(cases[i :: given.processes], world, Path(name), end, ":" in given.only)
            for i in range(given.processes)
        ]
        results = []
        while waiting := [worker.receiver for worker in workers if worker.alive]:
            for worker in workers:
                if worker.receiver in multiprocessing.connection.wait(waiting):
                    results += worker.received()
                    if len(results) % 100 == 0:
                        print(f"  {len(results)} of {len(cases)}", file=sys.stderr, flush=True)
        if world.digest() != before:
            print("FAULT: a case changed files that are not its own")
            return 1
    return _summary(results, time.monotonic() - start, len(cases))


def _summary(results: list[Result], seconds: float, count: int) -> int:
    kinds = collections.defaultdict(collections.Counter)
    seconds_of = collections.Counter()
    for result in results:
        kinds[result.case.kind][result.outcome.status] += 1
        seconds_of[result.case.kind] += result.outcome.seconds
    groups = collections.defaultdict(list)
    for result in results:
        if result.outcome.faults:
            groups[result.group].append(result)
    for found in sorted(groups.values(), key=len, reverse=True):
        shortest = min(found, key=lambda r: len(str(r.arguments)))
        print(f"\n{len(found)} × {shortest.describe()}")
        print("    also: " + " ".join(r.case.name for r in found if r is not shortest)[:300])
    print()
    for kind, statuses in kinds.items():
        count_of = sum(statuses.values())
        ends = ", ".join(f"{n} {s}" for s, n in sorted(statuses.items()))
        print(f"  {kind:8} {count_of:5}   {seconds_of[kind] / count_of:.2f} s each   {ends}")
    peak = max((r.outcome.peak for r in results), default=0)
    faults = sum(map(len, groups.values()))
    print(
        f"\n  {len(results)} of {count} cases in {seconds:.0f} s, {faults} faults of {len(groups)} kinds, "
        f"at most {peak / 2**20:.0f} MiB used by one"
    )
    return 1 if faults or len(results) < count else 0


if __name__ == "__main__":
    raise SystemExit(main())
