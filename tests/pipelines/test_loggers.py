"""The loggers of a phase: what a resumed phase keeps, and what ranks other than zero leave alone."""

import csv
import resource
import warnings

import lightning.pytorch as pl
import pytest

import pipelines.loggers
from pipelines.config import WandbConfig
from pipelines.loggers import csv_logger, finish_wandb, wandb_logger
from pipelines.more_loggers import more_loggers
from tests.callbacks.test_records import fit
from tests.helpers.full_disk import fill, small_disk, with_full_disk
from tests.helpers.logged import scalars, tensorboard_kept, wandb_kept


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


def test_a_resumed_phase_continues_its_run_and_another_phase_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = []
    for phase in ("dense", "dense", "finetune"):
        (tmp_path / phase).mkdir(exist_ok=True)
        logger = wandb_logger(WandbConfig(mode="offline"), "run", phase, tmp_path / phase)
        found.append((logger.experiment.id, logger.experiment.name, logger.experiment.group))
    finish_wandb()
    (first, *_), (again, *_), (other, *_) = found
    assert first == again != other
    assert [name for _, name, _ in found] == ["run-dense", "run-dense", "run-finetune"]
    assert {group for _, _, group in found} == {"run"}
    assert first == (tmp_path / "dense/wandb_id").read_text()
    assert wandb_logger(WandbConfig(mode="disabled"), "run", "dense", tmp_path / "dense") is None


def test_a_phase_folder_that_wandb_cannot_write_to_costs_the_dashboard_alone(tmp_path):
    (tmp_path / "dense").write_text("a file")
    with pytest.warns(UserWarning, match="this phase is not logged to W&B"):
        assert wandb_logger(WandbConfig(mode="offline"), "run", "dense", tmp_path / "dense") is None


def test_rows_that_were_cut_short_are_dropped_and_the_others_kept(begun):
    with (begun / "metrics.csv").open("a") as file:
        file.write("0,0.")
    logger = csv_logger(begun, 3)
    logger.log_metrics({"loss": 1.0, "epoch": 1, "val/accuracy": 50.0}, 3)
    logger.save()
    assert steps(begun) == ["0", "1", "2", "3"]


def test_rows_of_a_resumed_phase_are_on_disk_from_its_start(begun):
    csv_logger(begun, 2)  # killed here
    assert steps(begun) == ["0", "1"]


def test_a_full_disk_costs_the_measures_that_find_no_room_and_nothing_else(begun):
    logger = csv_logger(begun, 3)
    before = (begun / "metrics.csv").read_text()

    def log():
        logger.log_metrics({"loss": 1.0, "epoch": 1, "val/accuracy": 50.0}, 3)
        with pytest.warns(UserWarning, match="File too large"):
            logger.save()

    with_full_disk(log, len(before))
    assert (begun / "metrics.csv").read_text() == before


def test_rows_that_a_full_disk_cuts_short_are_written_whole_when_there_is_room(begun):
    logger = csv_logger(begun, 3)
    before = (begun / "metrics.csv").read_text()

    def log():
        for step in (3, 4):
            logger.log_metrics({"loss": step / 4, "epoch": 1}, step)
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")
                logger.save()
            assert (begun / "metrics.csv").read_text() == before
        logger.log_metrics({"loss": 1.25, "epoch": 1, "val/accuracy": 50.0}, 5)
        logger.save()
        assert (begun / "metrics.csv").read_text() == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        logger.save()

    with_full_disk(log, len(before) + 5)
    assert steps(begun) == ["0", "1", "2", "3", "4", "5"]
    with (begun / "metrics.csv").open(newline="") as file:
        assert [row["val/accuracy"] for row in csv.DictReader(file)][3:] == ["", "", "50.0"]


class FullForAWhile(pl.Callback):
    """The disk is full in the second of three epochs."""

    def __init__(self, disk):
        self.disk = disk

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.ballast = fill(self.disk)
        if trainer.current_epoch == 2:
            self.ballast.unlink()


def test_a_disk_that_is_full_for_a_while_costs_what_is_logged_meanwhile_and_is_said_once(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with small_disk(tmp_path / "disk", 8) as disk:
        folder = disk / "dense"
        folder.mkdir()
        loggers = [csv_logger(folder, None), *more_loggers(["tensorboard", "mlflow"], "run", "dense", folder, None, {})]
        loggers.append(wandb_logger(WandbConfig(mode="offline"), "run", "dense", folder))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(tmp_path, loggers, FullForAWhile(disk), epochs=3)
            finish_wandb()
        said = sorted(str(one.message) for one in caught if "was skipped" in str(one.message))
        assert len(said) == 3, said  # rows of the table are short enough for the rest of a block
        for name, sentence in zip(("MLflowRun", "TensorBoardLogger", "WandbLogger"), said, strict=True):
            assert sentence.startswith(f"{name}: what ")
            assert "No space left on device" in sentence
        assert "Traceback" not in capfd.readouterr().err  # of TensorBoard's thread
        assert steps(folder) == [str(step) for step in range(9)]
        assert {step for step, _ in scalars(folder)["loss"]} == {0, 1, 2, 6, 7, 8}
        mlflow = loggers[2]
        assert [m.step for m in mlflow.experiment.get_metric_history(mlflow.run_id, "loss")] == [0, 1, 2, 6, 7, 8]
        for kept in (wandb_kept(folder), tensorboard_kept(folder)):
            assert [one.step for one in kept["maps/cam"]] == [2, 8]
    assert (tmp_path / "maps/cam/epoch_001.png").is_file()  # of the phase, elsewhere
