"""The loggers of a phase: CSV always, Weights & Biases where it is wanted."""

import csv
import os
import secrets
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from pipelines.phases import WandbConfig
from pipelines.ranks import global_rank


def csv_logger(folder: Path, resumed_step: int | None) -> CSVLogger:
    """`metrics.csv` in the phase's folder; a resumed phase keeps the rows up to the step it resumes from."""
    if global_rank() != 0:
        return CSVLogger(folder.parent, name=folder.name, version="")
    file = folder / "metrics.csv"
    rows: list[dict[str, float]] = []
    if resumed_step is not None and file.is_file():
        with file.open(newline="") as stream:
            table = [{k: _number(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]
        rows = [row for row in table if row["step"] < resumed_step]
    file.unlink(missing_ok=True)
    logger = CSVLogger(folder.parent, name=folder.name, version="")
    if rows:
        logger.experiment.metrics.extend(rows)
    return logger


def _number(text: str) -> float:
    """A number as it was written: counts stay whole."""
    return int(text) if text.lstrip("-").isdigit() else float(text)


def wandb_logger(config: WandbConfig, run: str, phase: str, folder: Path) -> Logger | None:
    """One W&B run for the phase, in the group of the pipeline; a resumed phase continues its run.

    Online where somebody is logged in, otherwise offline, without a question.
    """
    mode = _mode(config)
    if mode == "disabled" or global_rank() != 0:
        return None
    identity = folder / "wandb_id"
    if not identity.is_file():
        identity.write_text(secrets.token_hex(4))
    if mode == "offline":
        rank_zero_info(f"W&B: offline; `wandb sync --append {folder / 'wandb'}/offline-run-*` uploads the run")
    for attempt, otherwise in ((mode, "offline instead"), ("offline", "this phase goes without")):
        try:
            return _logger(config, run, phase, folder, identity.read_text(), attempt)
        except Exception as error:  # no network, a key that is refused: the dashboard is never worth a run
            rank_zero_info(f"W&B: {type(error).__name__}; {otherwise}")
    return None


def _logger(config: WandbConfig, run: str, phase: str, folder: Path, identity: str, mode: str) -> WandbLogger:
    """The logger of a run that is begun here: Lightning would pass on an option that wandb warns of."""
    import wandb

    begun = wandb.init(
        name=f"{run}-{phase}",
        project=config.project,
        entity=config.entity,
        group=run,
        job_type=phase,
        dir=folder,
        id=identity,
        resume="allow",
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True, console="off"),
    )
    begun.define_metric("trainer/global_step")
    begun.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=begun, project=config.project, save_dir=folder, id=identity)


def _mode(config: WandbConfig) -> str:
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return {"dryrun": "offline"}.get(os.environ["WANDB_MODE"], os.environ["WANDB_MODE"])
    import wandb

    try:
        return "online" if wandb.login(prompt=False) else "offline"
    except Exception:  # no network, a broken key file: the dashboard is never worth a run
        return "offline"


def finish_wandb() -> None:
    """Close the W&B run of a phase, so that the next phase gets one of its own."""
    import sys

    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()
