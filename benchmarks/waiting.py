"""How long a person waits: help, a wrong option, an explanation of 100 pictures, a report of 200 classes.

    python -m benchmarks.waiting                                          # help, options, the report
    python -m benchmarks.waiting --run_dir runs/cub100 --images photos/   # and `explain` on its first 100 pictures

Seconds are those of the processor (user and system), which other work on the machine hardly changes, and in brackets
those of the clock. Without `--images` the pictures are test photographs of HANDFUL_DATA/cub100.zip.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.images import find_images
from pipelines.cli import COMMANDS

ROOT = Path(__file__).parents[1]

#: Commands with a wrong option, one per kind.
WRONG = (
    ["pipelin"],
    ["pipeline", "--naem", "x"],
    ["pipeline", "--phases.dense.max_epoch", "3"],
    ["pipeline", "--data.n_clases", "3"],
    ["fit", "--trainer.max_epoch", "1"],
    ["explain", "--run_dir", "x", "--imagse", "x"],
    ["evaluate", "--run_dir", "nowhere"],
    ["report", "--run", "x"],
)

#: What explains, beside the contributions of the features.
METHODS = {"contributions alone": "none", "and CAM": "cam", "and integrated gradients (the default)": None}
PICTURES = 100
CLASSES, FEATURES = 200, 50


def seconds(*arguments: str) -> tuple[float, float]:
    """Seconds of the processor and of the clock that `python train.py ARGUMENTS` takes."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - clock


def slowest(cases: Sequence[Sequence[str]]) -> str:
    """The command that takes longest, and its seconds."""
    found = [(seconds(*case), " ".join(case)) for case in cases]
    (used, clock), name = max(found)
    return f"{used:.2f} ({clock:.2f}) | `{name}`, of {len(cases)}"


def explain_lines(run: Path, images: Path) -> list[str]:
    """`explain` on the first pictures of a folder, method by method."""
    with tempfile.TemporaryDirectory() as folder:
        for place, file in enumerate(find_images(images)[:PICTURES]):
            shutil.copy(file, Path(folder) / f"{place:03d}{file.suffix}")
        count, lines = len(os.listdir(folder)), []
        for name, methods in METHODS.items():
            chosen = [] if methods is None else ["--methods", methods]
            out = ["--out", f"{folder}-out"]
            used, clock = seconds("explain", "--run_dir", str(run.resolve()), "--images", folder, *out, *chosen)
            row = f"`explain`, {count} pictures, {name} | {used:.1f} ({clock:.1f}) | {used / count:.2f} each"
            lines.append(f"| {row} |")
        shutil.rmtree(f"{folder}-out", ignore_errors=True)
    return lines


def report_lines() -> list[str]:
    """The report of a synthetic run: writing, size, and opening in a browser where there is one."""
    from handful.report.run_page import run_pages

    synthetic: Any = import_module("tests.helpers.large_report")
    seen: Any = import_module("tests.helpers.browser")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = synthetic.large_content(folder, CLASSES, FEATURES)
        clock = time.process_time()
        for file, text in run_pages(content).items():
            (folder / file).write_text(text, encoding="utf-8")
        used = time.process_time() - clock
        size = sum(path.stat().st_size for path in folder.glob("*.html")) / 1e6
        lines = [f"| report, {CLASSES} × {FEATURES}, written | {used:.1f} | {size:.1f} MB in all |"]
        if seen.CHROMIUM is not None:
            with seen.browser() as chromium, seen.opened(chromium, folder / "index.html") as page:
                loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
            lines.append(f"| report, {CLASSES} × {FEATURES}, opened | ({loaded:.2f}) | until the load event |")
    return lines


def photographs(folder: Path) -> Path:
    """Test photographs of `cub100.zip`, unpacked."""
    with zipfile.ZipFile(Path(os.environ["HANDFUL_DATA"]) / "cub100.zip") as files:
        members = sorted(name for name in files.namelist() if "test/" in name and name.endswith(".jpg"))
        files.extractall(folder, members[:: max(1, len(members) // PICTURES)][:PICTURES])
    return folder


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run_dir", type=Path, help="a finished run, for explain")
    parser.add_argument("--images", type=Path, help="pictures, for explain")
    given = parser.parse_args()
    lines = ["| | seconds of the processor (of the clock) | |", "|---|---|---|"]
    lines.append(f"| slowest `--help` | {slowest([[], *([name, '--help'] for name in COMMANDS)])} |")
    lines.append(f"| slowest wrong option | {slowest(WRONG)} |")
    if given.run_dir is not None:
        with tempfile.TemporaryDirectory() as folder:
            lines += explain_lines(given.run_dir, given.images or photographs(Path(folder)))
    lines += report_lines()
    write_section("How long a person waits (`python -m benchmarks.waiting`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
