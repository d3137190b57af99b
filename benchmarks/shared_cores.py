"""A training on a CPU alone and beside another one, with threads that soon wait asleep (GOMP_SPINCOUNT=1000) or awake.

`python -m benchmarks.shared_cores` times training steps in processes of their own, each way in turns. Alone, the
machine must be idle; beside another, two trainings run at the same time, both the same way. Ratios are of medians over
the rounds, with the smallest and the largest ratio of one round.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section

#: Backbone, batch size, side in pixels and steps.
NETWORKS = [("tf_efficientnet_lite0", 16, 160, 6), ("cifar_resnet20", 32, 32, 30)]
#: Seconds that a process has.
LONGEST = 900.0


def measure(backbone: str, batch: int, side: int, steps: int) -> float:
    """Seconds of a training step in this process."""
    import torch
    from torch.nn import functional

    from handful.networks import build_classifier
    from handful.threads import use_the_cores

    use_the_cores()
    torch.manual_seed(0)
    model = build_classifier({"backbone": backbone, "image_size": side}, 100)
    optimizer = torch.optim.AdamW(model.parameters())
    images, labels = torch.randn(batch, 3, side, side), torch.arange(batch) % 100
    times = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def in_processes(network: tuple[Any, ...], asleep: bool, processes: int) -> float:
    """The mean over as many trainings that run at the same time."""
    code = "import json, sys\nfrom benchmarks.shared_cores import measure\n"
    code += "print(json.dumps(measure(*json.loads(sys.argv[1]))))"
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment |= {"GOMP_SPINCOUNT": "1000"} if asleep else {}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(network)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    try:
        found = [process.communicate(timeout=LONGEST)[0] for process in started]
    finally:
        for process in started:
            process.kill()  # where another one has failed
    if wrong := [process.returncode for process in started if process.returncode]:
        raise RuntimeError(f"a training ended with status {wrong[0]}")
    return statistics.fmean(map(float, found))


def row(network: tuple[Any, ...], processes: int, rounds: int) -> str:
    """A row of the table."""
    awake, asleep = [], []
    for _ in range(rounds):
        awake.append(in_processes(network, False, processes))
        asleep.append(in_processes(network, True, processes))
    ratios = [before / after for before, after in zip(awake, asleep, strict=True)]
    ratio = statistics.median(awake) / statistics.median(asleep)
    name, batch, side, _ = network
    return (
        f"| {name}, {batch} images of {side} px | {'alone' if processes == 1 else 'beside another'} "
        f"| {statistics.median(awake) * 1e3:.0f} | {statistics.median(asleep) * 1e3:.0f} "
        f"| {ratio:.2f}× ({min(ratios):.2f}–{max(ratios):.2f}) |"
    )


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    lines = ["| training | | ms a step, awake | asleep | ratio |", "|---|---|---|---|---|"]
    for network in NETWORKS:
        for processes in (1, 2):
            lines.append(row(network, processes, given.rounds))
            print(lines[-1], flush=True)
    write_section("Trainings that share the cores (`python -m benchmarks.shared_cores`)", lines)


if __name__ == "__main__":
    main()
