"""ImageNet's sparse layer from features on the disk: peak memory of selecting, and of the path.

`python -m benchmarks.streaming [--rows 1281167] [--features 3]`. Features of ImageNet's size are synthetic, written as
float16 (5.2 GB at full size) and removed again; selection and path read them from the file, each number of rows in a
process of its own, one thread. About 40 minutes of a processor at full size, 5 with `--rows 160000`; of fewer rows than
ImageNet's it says what all would take if memory went on growing as between the two largest sizes.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import argument_parser
from benchmarks.loading import cpu
from benchmarks.results import write_section
from handful.sparse import fit_sparse_layer, select_features

COLUMNS, CLASSES, BLOCK, IMAGENET = 2048, 1000, 20_000, 1_281_167


def anonymous() -> float:
    """Resident memory that is no page of a file, in MiB: what cannot be given back to the system."""
    return int(re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def synthetic(file: Path, rows: int) -> None:
    """Features that are not negative, most of them small, of which some tell the class; float16, row by row."""
    draw = np.random.default_rng(0)
    centres = draw.gamma(0.4, 0.5, (CLASSES, COLUMNS)).astype(np.float32)
    out: Any = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(rows, COLUMNS))
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        noise = draw.standard_normal((count, COLUMNS), dtype=np.float32)
        labels = np.arange(start, start + count) % CLASSES
        out[start : start + count] = np.maximum(centres[labels] + 0.4 * noise, 0)
    out.flush()


class Watch:
    """Highest anonymous memory over what there was at its start; asked for in a thread."""

    def __enter__(self) -> "Watch":
        import threading

        self.before, self.highest, self.ends = anonymous(), 0.0, threading.Event()
        self.began, self.clock = cpu(), time.perf_counter()

        def look() -> None:
            while not self.ends.wait(0.02):
                self.highest = max(self.highest, anonymous())

        self.thread = threading.Thread(target=look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        self.thread.join()
        self.seconds, self.wall = cpu() - self.began, time.perf_counter() - self.clock
        self.risen = max(self.highest, anonymous()) - self.before


def solve(file: Path, features: int) -> dict[str, float]:
    """Select features off the disk, then solve the path on them; memory and CPU seconds of both."""
    torch.set_num_threads(1)
    rows = len(np.load(file, mmap_mode="r"))
    labels = torch.arange(rows) % CLASSES
    tiny = torch.rand(200, 20)
    fit_sparse_layer(tiny, torch.arange(200) % 5, n_features=4, features_per_class=2, num_classes=5)  # libraries
    with Watch() as selecting:
        selection = select_features([file], labels, features, num_classes=CLASSES)
    with Watch() as solving:
        fit_sparse_layer([file], labels, n_features=features, features_per_class=min(5, features), selection=selection,
                         search="coarse_to_fine", num_classes=CLASSES)  # fmt: skip
    return {"selecting": selecting.risen, "selecting_s": selecting.seconds, "solving": solving.risen,
            "solving_s": solving.seconds}  # fmt: skip


def in_process(*arguments: object) -> Any:
    """Run this module in a process of its own, and return what it prints last."""
    command = [sys.executable, "-m", "benchmarks.streaming", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def beyond(sizes: Sequence[int], risen: Sequence[dict[str, float]]) -> str:
    """What ImageNet's rows would take, by the growth between the two largest sizes; said to be reckoned."""
    found = []
    for key in ("selecting", "solving"):
        each = (risen[-1][key] - risen[-2][key]) / (sizes[-1] - sizes[-2])
        whole = risen[-1][key] + each * (IMAGENET - sizes[-1])
        found.append(f"{whole:,.0f} MiB ({each * 2**20:.0f} bytes more per row)")
    rows = f"Not measured but reckoned from the last two rows, for {IMAGENET:,} rows"
    return f"{rows}: selection {found[0]}, path {found[1]}."


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=IMAGENET)
    parser.add_argument("--features", type=int, default=3)
    parser.add_argument("--solve", type=Path, help="only solve on this file")
    given = parser.parse_args()
    if given.solve:
        print(json.dumps(solve(given.solve, given.features)))
        return
    lines = [
        f"{COLUMNS:,} synthetic features in float16, {CLASSES:,} classes; {given.features} features selected, then the "
        "path on them. Memory is what rose beside the file's own pages, MiB; one thread.",
        "", "| rows | file, GiB | selection: memory | CPU s | path: memory | CPU s |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    sizes: list[int] = []
    risen: list[dict[str, float]] = []
    for rows in (given.rows // 16, given.rows // 4, given.rows):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "features.npy"
            synthetic(file, rows)
            found = in_process("--solve", file, "--features", given.features)
            lines.append(
                f"| {rows:,} | {file.stat().st_size / 2**30:.2f} | {found['selecting']:.0f} | "
                f"{found['selecting_s']:.0f} | {found['solving']:.0f} | {found['solving_s']:.0f} |"
            )
            sizes.append(rows)
            risen.append(found)
            print(lines[-1], flush=True)
    if given.rows < IMAGENET:
        lines += ["", beyond(sizes, risen)]
        print(lines[-1], flush=True)
    write_section("ImageNet's features from the disk (`python -m benchmarks.streaming`)", lines)


if __name__ == "__main__":
    main()
