"""How long a person waits: help, a wrong option, an explanation of 100 pictures, a report of 200 classes.

    python -m benchmarks.waiting                                          # help, options, the report
    python -m benchmarks.waiting --run_dir runs/cub100 --images photos/   # and `explain` on its first 100 pictures
    python -m benchmarks.waiting --only explain --run_dir runs/cub100 --pictures 10

Each of the three has a section of its own in RESULTS.md. Seconds are those of the processor (user and system), which
other work on the machine changes less than those of the clock, in brackets.
Without `--images` the pictures are test photographs of HANDFUL_DATA/cub100.zip.
"""

import contextlib
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    ["pipeline", "--phases.dense.module.beta", "abc"],
    ["pipeline", "--data.n_classes", "many"],
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


@contextmanager
def timed(parts: dict[str, float]) -> Iterator[None]:
    """Add up the processor's seconds of each part of `explain` in this process, by the function that does it."""
    from handful.explain import explainer, explanation
    from handful.images import pictures
    from pipelines import explain_files

    found: list[tuple[Any, str, Any]] = []
    inner = [0.0]  # seconds of the parts within the part that runs

    def count(owner: Any, name: str, label: str) -> None:
        before = getattr(owner, name)

        def run(*arguments: Any, **options: Any) -> Any:
            started, outside = time.process_time(), inner[0]
            inner[0] = 0.0
            result = before(*arguments, **options)
            used = time.process_time() - started
            part = options.get("method", label)
            parts[part] = parts.get(part, 0.0) + used - inner[0]
            inner[0] = outside + used
            return result

        setattr(owner, name, run)
        found.append((owner, name, before))

    count(pictures.Pictures, "_read", "reading")
    count(explainer, "contributions", "contributions")
    count(explainer, "attribute", "maps")
    count(explanation.Explanation, "pictures", "drawing")
    count(explain_files.ExplanationFiles, "add", "records and encoded pictures")
    count(explain_files.ExplanationFiles, "finish", "records and encoded pictures")
    try:
        yield
    finally:
        for owner, name, before in found:
            setattr(owner, name, before)


def parts_line(run: Path, folder: Path, few: int = 10) -> str:
    """What each part of an explanation with all methods takes per picture, of a few."""
    from pipelines.explain import explain

    with tempfile.TemporaryDirectory() as some:
        files = sorted(folder.iterdir())[:few]
        for file in files:
            shutil.copy(file, some)
        parts: dict[str, float] = {}
        with timed(parts), contextlib.redirect_stdout(io.StringIO()):
            explain(str(run.resolve()), some, out=f"{some}-out")
        shutil.rmtree(f"{some}-out")
    listed = ", ".join(f"{name.replace('_', ' ')} {used / len(files):.3f}" for name, used in parts.items())
    return f"| parts of it, per picture, of {len(files)} in this process | | {listed} |"


def explain_lines(run: Path, images: Path, pictures: int) -> list[str]:
    """`explain` on the first pictures of a folder, method by method."""
    with tempfile.TemporaryDirectory() as folder:
        for place, file in enumerate(find_images(images)[:pictures]):
            shutil.copy(file, Path(folder) / f"{place:03d}{file.suffix}")
        count, lines = len(os.listdir(folder)), []
        for name, methods in METHODS.items():
            chosen = [] if methods is None else ["--methods", methods]
            out = ["--out", f"{folder}-out"]
            used, clock = seconds("explain", "--run_dir", str(run.resolve()), "--images", folder, *out, *chosen)
            each = f"{used / count:.2f} each, with the start"
            row = f"`explain`, {count} pictures, {name} | {used:.1f} ({clock:.1f}) | {each}"
            lines.append(f"| {row} |")
        lines.append(parts_line(run, Path(folder)))
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
    parser.add_argument("--pictures", type=int, default=PICTURES, help="how many of them")
    parser.add_argument("--only", choices=("commands", "explain", "report"), help="one of the three")
    given = parser.parse_args()
    if given.only in (None, "commands"):
        write("help and wrong options", [
            f"| slowest `--help` | {slowest([[], *([name, '--help'] for name in COMMANDS)])} |",
            f"| slowest wrong option | {slowest(WRONG)} |",
        ])  # fmt: skip
    if given.only in (None, "explain") and given.run_dir is not None:
        with tempfile.TemporaryDirectory() as folder:
            write("`explain`", explain_lines(given.run_dir, given.images or photographs(Path(folder)), given.pictures))
    if given.only in (None, "report"):
        write("the report", report_lines())


def write(what: str, rows: list[str]) -> None:
    """Write a section, and print it."""
    lines = ["| | seconds of the processor (of the clock) | |", "|---|---|---|", *rows]
    write_section(f"How long a person waits: {what} (`python -m benchmarks.waiting`)", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
