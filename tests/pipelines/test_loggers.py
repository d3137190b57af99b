"""The loggers of a phase: what a resumed phase keeps, and what ranks other than zero leave alone."""

import csv

import pytest

import pipelines.loggers
from pipelines.loggers import csv_logger, wandb_logger
from pipelines.phases import WandbConfig


def steps(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [row["step"] for row in csv.DictReader(file)]


@pytest.fixture
def begun(tmp_path):
    """Three rows of a phase; a checkpoint at two steps knows those of steps 0 and 1."""
    folder = tmp_path / "dense"
    logger = csv_logger(folder, None)
    for step in range(3):
        logger.log_metrics({"loss": step / 4, "epoch": 0}, step)
    logger.save()
    return folder


def test_a_resumed_phase_keeps_the_rows_before_its_step(begun):
    before = (begun / "metrics.csv").read_text()
    logger = csv_logger(begun, 2)
    logger.log_metrics({"loss": 2 / 4, "epoch": 0}, 2)
    logger.save()
    assert (begun / "metrics.csv").read_text() == before  # whole numbers stay whole


def test_a_phase_that_begins_again_keeps_no_rows(begun):
    logger = csv_logger(begun, None)
    logger.log_metrics({"loss": 1.0}, 7)
    logger.save()
    assert steps(begun) == ["7"]


def test_other_ranks_touch_nothing(begun, monkeypatch):
    monkeypatch.setattr(pipelines.loggers, "global_rank", lambda: 1)
    csv_logger(begun, None)
    assert steps(begun) == ["0", "1", "2"]
    assert wandb_logger(WandbConfig(mode="offline"), "run", "dense", begun) is None
    assert not (begun / "wandb_id").exists()


def test_a_resumed_phase_asks_for_the_run_it_began(tmp_path, monkeypatch):
    asked = []

    def begin(*arguments):
        asked.append(arguments[-2:])

    monkeypatch.setattr(pipelines.loggers, "_logger", begin)
    for phase in ("dense", "dense", "finetune"):
        (tmp_path / phase).mkdir(exist_ok=True)
        wandb_logger(WandbConfig(mode="offline"), "run", phase, tmp_path / phase)
    (first, mode), (again, _), (other, _) = asked
    assert mode == "offline"
    assert first == again != other
    assert first == (tmp_path / "dense/wandb_id").read_text()
    assert wandb_logger(WandbConfig(mode="disabled"), "run", "dense", tmp_path / "dense") is None
    assert len(asked) == 3
