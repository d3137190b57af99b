"""Every pipeline on two processes, each of them killed in some phase: `python -m tests.soak.lost [--all]`.

The other process ends within half a minute with a sentence, and the same command gives what an uninterrupted run does.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import yaml

from tests.helpers.processes import finish, lose
from tests.soak.kills import LEFT_BEHIND, configs, content, difference


def try_pipeline(name: str, folder: Path, draw: random.Random, everywhere: bool) -> list[str]:
    """Kill both processes of a pipeline, in one phase or in every phase; a sentence per fault."""
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(configs()[name], sort_keys=False))
    whole = folder / f"{name}-whole"
    finish(config, whole)
    expected = content(whole)
    faults = []
    phases = list(configs()[name]["phases"])
    for rank in (0, 1):
        for phase in phases if everywhere else [draw.choice(phases)]:
            run = folder / f"{name}-{phase}-{rank}"
            lost = lose(config, run, phase, rank, after=draw.random() / 2)
            fault = ""
            if lost.left:
                fault = f"{len(lost.left)} processes were there after {lost.seconds:.0f} s"
                fault += f", {lost.waited:.0f} s of them without a core: {lost.text[-6000:]}"
            elif lost.status == 0:
                fault = "ended as if nothing had happened"
            elif len(lost.sentences) != 1 or "give the same command again" not in lost.sentences[0]:
                fault = f"said {lost.text[-500:]!r}"
            else:
                finish(config, run)
                fault = difference(expected, content(run))
                left = [str(p.relative_to(run)) for pattern in LEFT_BEHIND for p in run.rglob(pattern)]
                fault = fault or (f"left behind {', '.join(left)}" if left else "")
            ended = f"ended after {lost.seconds:.1f} s, {lost.waited:.1f} of them without a core"
            print(f"  {name}, {phase}, process {rank}: {fault or ended}", flush=True)
            if fault:
                faults.append(f"{name}, {phase}, process {rank}: {fault}")
            shutil.rmtree(run, ignore_errors=True)
    return faults


def main() -> int:
    """Try; status 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.lost", description=__doc__)
    parser.add_argument("--all", action="store_true", help="in every phase")
    parser.add_argument("--seed", type=int, default=0, help="other phases and moments")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    clock, faults = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="lost-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        for name in configs():
            faults += try_pipeline(name, Path(folder), random.Random(f"{given.seed}/{name}"), given.all)
    print(f"  processes killed in {time.monotonic() - clock:.0f} s, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
