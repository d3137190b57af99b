"""`python train.py workspace`: a saved W&B workspace whose panels show what a run logged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from handful.atomic import write_json
from handful.errors import UserError
from handful.report.csv_file import read_csv
from pipelines.finished_run import Run
from pipelines.phases.dashboards import SHOWN as SHOWN_BY_PHASE
from pipelines.records import read_json
from pipelines.summary_content import MEASURES
from pipelines.summary_run import SHOWN, SUMMARY

#: The axis of a phase's measures.
_STEP = "trainer/global_step"

#: Tables and pictures of a summary run that get panels, in their order.
_TABLES = ("stages", "examples", "confusion", "weights_table")
_PICTURES = ("weights", "confusion_matrix")


def workspace(
    run_dir: str,
    entity: str | None = None,
    project: str | None = None,
    name: str = "Handful",
    dry_run: bool = False,
) -> Path:
    """Save a workspace to W&B: stages, weights, maps with their epochs, filters, training and the path.

    Its panels show every run of the project that logs the measures of this one. W&B keeps workspaces on its server:
    this needs a login and the network, and the package wandb-workspaces.

    Args:
        run_dir: folder of a run, whose measures get panels.
        entity: user or team that owns the project; the run's, or that of the login, if not given.
        project: of the runs; the run's if not given.
        name: of the workspace.
        dry_run: write RUN_DIR/workspace.json alone and send nothing.

    Returns:
        The file of what was saved, RUN_DIR/workspace.json.

    Raises:
        UserError: no such run, no package, nobody is logged in, or W&B refuses it.
    """
    run = Run(run_dir)
    given = run.config.get("wandb") or {}
    project = project or str(given.get("project") or "handful")
    entity = entity or given.get("entity") or ("ENTITY" if dry_run else _login())
    built = build_workspace(run, str(entity), project, name)
    file = run.folder / "workspace.json"
    write_json(file, json.loads(built._to_model().model_dump_json(by_alias=True, exclude_none=True)))
    if not dry_run:
        try:
            built.save()
        except Exception as error:  # no network, no leave: as many kinds as W&B has
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"workspace: {type(error).__name__}: {reason}; {file} is ready") from error
        print(f"  {built.url}", flush=True)
    return file


def _login() -> str:
    """The owner of the login's projects.

    Raises:
        UserError: nobody is logged in.
    """
    import wandb

    try:
        found = wandb.Api().default_entity if wandb.login(prompt=False) else None
    except Exception as error:  # no network, a key that is refused: as many kinds as W&B has
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"workspace: W&B cannot be asked who is logged in ({reason}); --dry_run true writes the file "
                        "alone") from error  # fmt: skip
    if not found:
        raise UserError("workspace: W&B keeps workspaces on its server, and nobody is logged in: `wandb login`, or "
                        "--dry_run true to write the file alone")  # fmt: skip
    return str(found)


def build_workspace(run: Run, entity: str, project: str, name: str) -> Any:
    """The workspace of a run's measures; nothing is sent.

    Args:
        run: a run, finished or not.
        entity: owner of the project.
        project: of the runs.
        name: of the workspace.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2.interface as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(f"workspace: pip install 'wandb-workspaces>=0.4,<0.5' ({error})") from error

    logged = _logged(run)

    def lines(names: Sequence[str], x: str = _STEP) -> list[Any]:
        return [wr.LinePlot(title=one, x=x, y=[one]) for one in names if one in logged]

    def beginning(*starts: str) -> list[str]:
        return sorted(one for one in logged if one.startswith(starts))

    tables, media = _shown(run)
    once, own_tables, own_pictures = ([one for one in _of_phases(run, kind) if one not in logged] for kind in
                                      ("measures", "tables", "pictures"))  # fmt: skip
    pictures = [wr.MediaBrowser(title="weights and confusion", media_keys=media, num_columns=2)] if media else []
    bars = [wr.BarPlot(title=one, metrics=[*metrics], orientation="v") for one, metrics in _compared(run).items()]
    maps = [
        wr.MediaBrowser(title=key, media_keys=[key], gallery_axis="step", num_columns=1) for key in _pictures(run)
    ]
    seen = {"train/loss", "val/accuracy", "val/loss", *beginning("val/diversity", "train/diversity@", "filters/")}
    sections: dict[str, list[Any]] = {
        "Stages": [*bars, *pictures, *(wr.WeavePanelSummaryTable(table_name=one) for one in tables)],
        "Where it looks": maps,
        "Diversity and class filters": [
            *lines(beginning("val/diversity@", "train/diversity@", "filters/")),
            *([wr.WeavePanelSummaryTable(table_name="class_filters")] if _has(run, "class_filters") else []),
        ],
        "Phases that train nothing": [
            *(wr.BarPlot(title=one, metrics=[one], orientation="v") for one in once),
            *([wr.MediaBrowser(title="pictures", media_keys=own_pictures, num_columns=2)] if own_pictures else []),
            *(wr.WeavePanelSummaryTable(table_name=one) for one in own_tables if not _has(run, one)),
        ],
        "Training": [
            *lines(["train/loss", "val/accuracy", "val/loss"]),
            *lines([one for one in beginning("train/", "val/") if one not in seen]),
        ],
        "Regularisation path": lines(
            [one for one in beginning("path/") if one not in ("path/density", "path/index")], x="path/density"
        ),
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections.items() if panels],
        settings=ws.WorkspaceSettings(x_axis=_STEP),
    )


def _folders(run: Run) -> list[Path]:
    return [run.folder / phase for phase in run.config["phases"] if (run.folder / phase).is_dir()]


def _compared(run: Run) -> dict[str, list[str]]:
    """Measure → its names in the summary run, one per stage that has a number of it."""
    stages = run.results.get("stages") or {}
    if not stages:  # not finished: what any pipeline measures
        return {"accuracy": [f"{stage}/accuracy" for stage in run.stages]} if run.stages else {}
    found = {
        measure: [f"{stage}/{measure}" for stage, row in stages.items() if isinstance(row.get(measure), int | float)]
        for measure in MEASURES
    }
    return {measure: names for measure, names in found.items() if names}


def _shown(run: Run) -> tuple[list[str], list[str]]:
    """Tables and pictures of the run's summary; where none was logged, those of a sparse classifier."""
    file = run.folder / SUMMARY / SHOWN
    if not file.is_file():
        return list(_TABLES), list(_PICTURES)
    kept = read_json(file, "it is written again with the run's summary; without it every panel is there")
    tables, pictures = (kept.get(part, []) if isinstance(kept, dict) else [] for part in ("tables", "pictures"))
    return [one for one in _TABLES if one in tables], [one for one in _PICTURES if one in pictures]


def _logged(run: Run) -> set[str]:
    """Names of the measures that the run's phases logged."""
    found: set[str] = set()
    for folder in _folders(run):
        for file, before in ((folder / "metrics.csv", ""), (folder / "path.csv", "path/")):
            rows = read_csv(file) if file.is_file() else []
            found |= {f"{before}{name}" for row in rows for name, value in row.items() if value}
    return found - {"epoch", "step"}


def _of_phases(run: Run, kind: str) -> list[str]:
    """Names of what phases that train nothing logged once: measures, tables or pictures; not the path's points."""
    found: list[str] = []
    for folder in _folders(run):
        try:
            kept = read_json(folder / SHOWN_BY_PHASE, "its panels are left out")
        except UserError as error:
            rank_zero_warn(str(error))
            continue
        names = kept.get(kind) if isinstance(kept, dict) else None
        if isinstance(names, list):
            found += [one for one in names if isinstance(one, str) and not one.startswith("path/")]
    return list(dict.fromkeys(found))


def _pictures(run: Run) -> list[str]:
    """Names of the pictures that were drawn by epoch, under which loggers have them."""
    found = (file for folder in _folders(run) for file in folder.glob("attribution/*/epoch_*.png"))
    return sorted({f"attribution/{file.parent.name}" for file in found})


def _has(run: Run, name: str) -> bool:
    return any((folder / name).is_dir() for folder in _folders(run))
