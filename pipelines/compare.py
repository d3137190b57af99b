"""`python train.py compare`: several runs side by side, in one table and on one page."""

import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

from handful.atomic import write_json, write_text
from handful.errors import UserError
from handful.record_files import read_json
from handful.report.csv_file import write_csv
from handful.report.page import render
from handful.text import safe_text
from pipelines.conformal import FILE as CONFORMAL
from pipelines.finished_run import Run
from pipelines.output_folder import output_folder
from pipelines.tables import format_table, stage_cells

#: Which way a column of `results.json` or of the sets is better; measures say it themselves.
_BETTER = {
    "accuracy": "higher", "balanced_accuracy": "higher", "loss": "lower", "dependence": "lower", "seconds": "lower",
    "peak memory, MiB": "lower", **{f"diversity@{k}": "higher" for k in range(1, 6)},
    **{f"{method} size": "lower" for method in ("thr", "aps", "hierarchy")},
}  # fmt: skip
#: Options of data that leave the test images as they are, or say where they lie.
_SAME_IMAGES = {
    "augmentation", "batch_size", "cache", "cache_dir", "eval_batch_size", "images_per_class", "max_megapixels",
    "num_workers", "root", "seed", "unreadable", "val_fraction", "val_images_per_class",
}  # fmt: skip
_ARROWS = {"higher": " ↑", "lower": " ↓"}


def compare(run_dirs: list[str], stages: Literal["last", "all"] = "last", out: str | None = None) -> Path:
    """Compare finished runs: accuracy, features per class, every measure that they have, what they cost.

    Measures of `evaluate` and sets of `evaluate --conformal` are taken in where a run has them of its present weights;
    what is not measured is named, with the command that measures it. Seconds and memory are those of all phases up to
    the stage. Writes `comparison.json`, `comparison.csv` and a page, and prints the table.

    Args:
        run_dirs: folders of the runs, two or more.
        stages: of every run its last stage, or all of them.
        out: folder to write to; runs/comparison if not given.

    Returns:
        The page.

    Raises:
        UserError: fewer than two runs, one twice, one without results, or of other classes than the first.
    """
    runs = [Run(folder) for folder in run_dirs]
    folders = [run.folder.resolve() for run in runs]
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise UserError("--run_dirs: two or more different runs are compared")
    folder = output_folder(out, Path("runs") / "comparison")
    _check_data(runs)
    names = _names(runs)
    rows: dict[str, dict[str, Any]] = {}
    about: dict[str, dict[str, str]] = {}
    missing: list[str] = []
    for name, run in zip(names, runs, strict=True):
        of_run = run.results["stages"]
        chosen = list(of_run) if stages == "all" else [list(of_run)[-1]]
        for stage in chosen:
            measured, sets = _measures(run, stage, about), _sets(run, stage)
            rows[f"{name}: {stage}"] = dict(of_run[stage]) | measured | sets | _cost(run, stage)
            for found, what, option in ((measured, "measures", ""), (sets, "sets", " --conformal 0.9")):
                if not found:
                    command = f"python train.py evaluate --run_dir {run.folder}{option}"
                    missing.append(f"{name}: {stage} has no {what}; {command}")
    costs = ("seconds", "peak memory, MiB")
    columns = sorted(dict.fromkeys(column for row in rows.values() for column in row), key=costs.__contains__)
    data = runs[0].results.get("data", {})
    record = {
        "runs": dict(zip(names, map(str, run_dirs), strict=True)),
        "data": {key: data[key] for key in ("name", "num_classes", "images") if key in data},
        "rows": rows,
        "measures": about,
        "missing": missing,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", record)
    cells = [[label, *(row.get(column) for column in columns)] for label, row in rows.items()]
    write_csv(folder / "comparison.csv", ["run and stage", *columns], cells)
    write_text(folder / "index.html", _page(record, columns))
    print(f"\n{_table(rows, columns)}\n", flush=True)
    for sentence in missing:
        print(safe_text(f"  {sentence}"), flush=True)
    return folder / "index.html"


def _check_data(runs: Sequence[Run]) -> None:
    """Refuse runs without results and of other classes; say it where images differ, or where it is not known.

    Raises:
        UserError: names the first that does not fit.
    """
    for run in runs:
        if not run.results.get("stages"):
            raise UserError(f"{run.folder}: no results yet; run its pipeline to the end")
    first = runs[0].results.get("data", {})
    for run in runs[1:]:
        data = run.results.get("data", {})
        if "class_names" in first and "class_names" in data:
            names, own = list(first["class_names"]), list(data["class_names"])
            if own != names:
                what = "the classes in another order" if sorted(own) == sorted(names) else "other classes"
                raise UserError(f"--run_dirs: {run.folder} has {what} than {runs[0].folder}")
        elif data.get("num_classes", first.get("num_classes")) != first.get("num_classes", data.get("num_classes")):
            raise UserError(f"--run_dirs: {run.folder} has other classes than {runs[0].folder}")
        else:
            _say(f"whether {run.folder} has the classes of {runs[0].folder} is not known: an earlier version wrote one")
        if not data or not first:
            continue
        if (data.get("name"), data.get("images")) != (first.get("name"), first.get("images")):
            _say(f"{run.folder} has different images from {runs[0].folder}: their accuracies cannot be compared")
            continue
        other_files = _apart(data, first, "test_images")
        ignored = _SAME_IMAGES - ({"seed"} if other_files else set())
        why = _other_options(runs[0], run, ignored)
        if other_files or (data.get("fingerprint") != first.get("fingerprint") and why):
            why = f" ({why})" if why else ""
            _say(f"{run.folder} has other images than {runs[0].folder}{why}: their accuracies say little together")


def _apart(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Whether both have a value, and not the same; earlier versions wrote some values not at all."""
    return name in one and name in other and one[name] != other[name]


def _say(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)


def _other_options(one: Run, other: Run, ignored: Set[str]) -> str:
    """The options of the data in which two runs differ, but for those that are ignored."""
    given = [run.config.get("data") or {} for run in (one, other)]
    options = [data.get("init_args") or {} for data in given if isinstance(data, dict)]
    names = sorted({name for some in options for name in some} - ignored)
    apart = [name for name in names if len({repr(some.get(name)) for some in options}) > 1]
    return ", ".join(f"{name} {options[1].get(name)}, not {options[0].get(name)}" for name in apart)


def _names(runs: Sequence[Run]) -> list[str]:
    """The names of the runs; the folder's where several have the same, numbered where these are the same too."""
    names = [str(run.config.get("name", run.folder.name)) for run in runs]
    if len(set(names)) < len(names):
        names = [run.folder.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{name} ({place})" for place, name in enumerate(names, start=1)]
    return names


def _measures(run: Run, stage: str, about: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What `evaluate` has measured of a stage's present weights; `about` gets every measure's question."""
    record = _record(run, "measures/measures.json", stage)
    values = record.get("stages", {}).get(stage, {}) if record else {}
    described = record.get("measures") if record else None
    for one in described.values() if isinstance(described, dict) else ():
        if isinstance(one, dict) and isinstance(one.get("values"), list):
            described = {"title": str(one.get("title", "")), "better": str(one.get("better", ""))}
            about |= {str(name): described for name in one["values"]}
    return dict(values) if isinstance(values, dict) else {}


def _cost(run: Run, stage: str) -> dict[str, Any]:
    """Seconds and the peak of memory of the phases up to a stage's."""
    upto = run.phases[: run.phases.index(run.phase_of(stage)) + 1]
    seconds, memory = (
        {name: value for name, value in run.results.get(key, {}).items() if name in upto}
        for key in ("seconds", "peak_memory_mib")
    )
    found: dict[str, Any] = {"seconds": round(sum(seconds.values()), 1)} if seconds else {}
    return found | ({"peak memory, MiB": round(max(memory.values()))} if memory else {})


def _sets(run: Run, stage: str) -> dict[str, Any]:
    """Coverage and size of a stage's conformal sets."""
    record = _record(run, f"conformal/{CONFORMAL}", stage)
    methods = record.get("stages", {}).get(stage, {}) if record else {}
    return {
        f"{method} {what}": found[what]
        for method, found in methods.items()
        for what in ("coverage", "size")
        if isinstance(found, dict) and what in found
    }


def _record(run: Run, name: str, stage: str) -> dict[str, Any] | None:
    """A record of the run, where it is one of the stage's present weights."""
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        phase = run.phase_of(stage)
        current = record["made_from"].get(phase) == run.made_of(phase)
        if not isinstance(record.get("stages"), dict):
            raise ValueError("no stages")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a record of evaluate ({error}); run evaluate again") from error
    if not current:
        warnings.warn(
            f"{path}: measured with earlier weights of {stage} and left out; run evaluate again", stacklevel=2
        )
    return record if current else None


def _table(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Measures as rows, runs as columns: there are more of those."""
    body = [[column, *(row.get(column) for row in rows.values())] for column in columns]
    return safe_text(format_table(["", *rows], body), lines=True)


def _page(record: Mapping[str, Any], columns: Sequence[str]) -> str:
    rows, about = record["rows"], record["measures"]
    header, cells = stage_cells({label: {c: row.get(c) for c in columns} for label, row in rows.items()})
    data = record["data"]
    facts = [str(data["name"])] if "name" in data else []
    facts += [f"{data['num_classes']} classes"] if "num_classes" in data else []
    if isinstance(images := data.get("images"), dict):
        facts.append(", ".join(f"{count:,} {split}" for split, count in images.items()) + " images")
    body: list[tuple[str, list[Any], str]] = []
    last_title = ""
    for place, name in enumerate(header):
        if place:
            described = about.get(name, {"title": "", "better": _BETTER.get(name, "")})
            arrow = _ARROWS.get(described["better"], "")
            # of measures with numbers at their ends the first asks for all
            question = "" if described["title"] == last_title else described["title"]
            body.append((f"{name}{arrow}", [row[place] for row in cells], question))
            last_title = described["title"]
    return render(
        "compare.html",
        title="Runs compared",
        facts=facts,
        columns=["measure", *(row[0] for row in cells)],
        rows=body,
        runs=list(record["runs"].items()),
        missing=record["missing"],
    )
