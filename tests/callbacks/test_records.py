"""Pictures and tables reach the phase's folder and real loggers; one that fails costs the others nothing."""

import html
import shutil
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from torch import nn

from callbacks.mlflow_names import mlflow_name
from callbacks.records import log_image, log_table, record_name, send_image, step_of
from handful.report.csv_file import read_csv
from pipelines.config import WandbConfig
from pipelines.loggers import finish_wandb, guard, wandb_logger
from pipelines.more_loggers import more_loggers
from tests.helpers.full_disk import with_full_disk
from tests.helpers.logged import tensorboard_kept, wandb_kept

HOSTILE = ["=cmd|' /C calc'!A0", "\x1b[31mred\x1b[0m", "a\nb\tc", "\u202egnp.exe", "<script>", "$x_1^2$", "a|b"]


def picture(number):
    return Image.fromarray(np.full((4, 6, 3), 40 * number, np.uint8))


class Logs(pl.Callback):
    """Logs pictures and a table after every epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        epoch = trainer.current_epoch
        log_image(trainer, "maps/cam", picture(epoch), caption=HOSTILE[1])
        log_image(trainer, "maps/second", picture(epoch + 3))
        log_table(trainer, "filters", ["class", "filter", "overlap"], [(name, epoch, "") for name in HOSTILE])


class Module(pl.LightningModule):
    """Three steps an epoch of nothing."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, logger, *callbacks, epochs=2, devices=1, **arguments):
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, max_epochs=epochs, logger=logger, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, log_every_n_steps=1,
        callbacks=[*callbacks, Logs()], **arguments,
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.ones(3 * devices, 1)))
    return trainer


@pytest.fixture
def dashboard(tmp_path):
    """A real offline W&B run."""
    yield wandb_logger(WandbConfig(mode="offline"), "run", "dense", tmp_path)
    finish_wandb()


def kept_by_wandb(tmp_path):
    finish_wandb()
    return wandb_kept(tmp_path)


def check_folder(folder):
    for epoch in range(2):
        for name, grey in (("cam", 40 * epoch), ("second", 40 * (epoch + 3))):
            with Image.open(folder / f"maps/{name}/epoch_{epoch:03d}.png") as image:
                assert image.getpixel((0, 0)) == (grey,) * 3
        rows = read_csv(folder / f"filters/epoch_{epoch:03d}.csv")
        assert [row["class"] for row in rows] == HOSTILE
        assert {row["filter"] for row in rows} == {str(epoch)}


def check_pictures(kept):
    for name, first in (("maps/cam", 0), ("maps/second", 3)):
        assert [one.step for one in kept[name]] == [2, 5]
        assert [one.content.getpixel((0, 0))[0] for one in kept[name]] == [40 * first, 40 * (first + 1)]


def test_every_logger_keeps_every_picture_and_table_at_its_step(tmp_path, dashboard):
    loggers = [dashboard, TensorBoardLogger(tmp_path, "board"), CSVLogger(tmp_path, "csv")]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*was skipped.*")
        fit(tmp_path, loggers)
    check_folder(tmp_path)
    from_wandb, from_board = kept_by_wandb(tmp_path), tensorboard_kept(tmp_path / "board")
    check_pictures(from_wandb)
    check_pictures(from_board)
    assert [one.caption for one in from_wandb["maps/cam"]] == ["\\x1b[31mred\\x1b[0m"] * 2
    shown = [name.replace("\x1b", "\\x1b").replace("\n", "\\n").replace("\t", "\\t") for name in HOSTILE]
    shown[3] = "\\u202egnp.exe"
    for epoch, table in enumerate(from_wandb["filters"]):
        assert [row[:2] for row in table.content["data"]] == [[name, epoch] for name in shown]
    for text in (one.content for one in from_board["filters"]):
        assert "<" not in text
        lines = [html.unescape(line) for line in text.splitlines()]
        assert lines[0] == "| class | filter | overlap |"
        assert all(name in line for name, line in zip(shown, lines[2:], strict=True))
    assert "loss" in (next((tmp_path / "csv").rglob("metrics.csv"))).read_text()


ODD_NAMES = ["ünï", "日本", "a:b", "nl\nx", "quo'te\"", "a\\b", "=cmd", "100%", "caf\udce9", "x" * 300, "val/a@b"]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"]
ODD_CELLS = [
    [1, "text"], [None, "text"], [True, None], [1, 2.5], [float("nan"), 1.0], [float("-inf"), ""],
    [np.float32(1), np.int64(2)], [torch.tensor(1.0), torch.tensor([1, 2])], [{"a": 1}, {"b": 2}], [[1], [2, 3]],
    [Path("=a"), b"b"], [np.ones((2, 2)), np.ones((2, 2))], [1j, 2], [2**63, 1],
]  # fmt: skip


def test_odd_names_modes_and_cells_reach_every_logger(tmp_path, dashboard, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dense").mkdir()
    (mlflow,) = more_loggers(["mlflow"], "run", "dense", tmp_path / "dense", None, {})
    trainer = fit(tmp_path, [dashboard, TensorBoardLogger(tmp_path, "board"), mlflow], epochs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*was skipped.*")
        for name in ODD_NAMES:
            assert log_image(trainer, name, picture(1), caption="=x\x1b").is_relative_to(tmp_path)
            assert log_table(trainer, f"t/{name}", ["a"], [(name,)]).is_relative_to(tmp_path)
        for mode in MODES:
            assert log_image(trainer, f"mode/{mode}", Image.new(mode, (5, 4))) is not None
        for number, cells in enumerate(ODD_CELLS):
            assert log_table(trainer, f"cells/{number}", ["cell"], [(cell,) for cell in cells]) is not None
        for logger in trainer.loggers:
            logger.finalize("success")
    assert "'=a" in (tmp_path / "cells/10/epoch_001.csv").read_text()
    expected = {*map(record_name, ODD_NAMES), *(f"mode/{mode}" for mode in MODES)}
    expected |= {f"cells/{number}" for number in range(len(ODD_CELLS))}
    for kept in (kept_by_wandb(tmp_path), tensorboard_kept(tmp_path / "board")):
        assert not expected - set(kept)
    listed = mlflow.experiment.list_artifacts
    pictures = {Path(file.path).name.partition("+")[0].partition("%")[0] for file in listed(mlflow.run_id, "images")}
    assert {mlflow_name(name).replace("/", "~") for name in expected if "cells" not in name} <= pictures
    before = len(listed(mlflow.run_id, "images"))
    send_image(mlflow, step_of(trainer), "mode/RGB", picture(1))  # as a resumed phase does
    assert len(listed(mlflow.run_id, "images")) == before
    assert len(listed(mlflow.run_id, "tables/cells")) == len(ODD_CELLS)


@pytest.mark.parametrize("name", ["../../up", "/tmp/up", "..", "", "/", "a/../../up", "./a", "a//b/", ". /x"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    folder = tmp_path / "run/dense"
    trainer = fit(folder, False, epochs=1)
    saved = log_image(trainer, name, picture(0))
    assert saved.is_file()
    assert saved.resolve().is_relative_to(folder)
    assert log_table(trainer, name, ["a"], [(1,)]).resolve().is_relative_to(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("logger", [False, None, []])
def test_without_a_logger_the_folder_has_everything(tmp_path, logger, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(tmp_path, logger)
    check_folder(tmp_path)


def test_a_logger_that_cannot_write_costs_the_others_nothing(tmp_path, dashboard):
    (tmp_path / "blocked").write_text("a file where TensorBoard and CSV want a folder")
    broken = [TensorBoardLogger(tmp_path / "blocked"), CSVLogger(tmp_path / "blocked")]
    loggers = [*broken, dashboard, TensorBoardLogger(tmp_path, "board")]
    guard([*broken, loggers[-1]])
    with pytest.warns(UserWarning, match="was skipped") as caught:
        fit(tmp_path, loggers)
    said = [str(one.message) for one in caught if "was skipped" in str(one.message)]
    assert len(said) == len(set(said)) <= 4  # once per logger and reason, though it failed at every step
    assert any("blocked" in one for one in said)
    check_folder(tmp_path)
    check_pictures(kept_by_wandb(tmp_path))
    check_pictures(tensorboard_kept(tmp_path / "board"))


class Removes(pl.Callback):
    """Somebody deletes the W&B folder while the training runs."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            shutil.rmtree(trainer.default_root_dir + "/wandb")


def test_a_wandb_folder_that_is_deleted_costs_nobody_else_anything(tmp_path, dashboard):
    loggers = [dashboard, TensorBoardLogger(tmp_path, "board")]
    guard(loggers[1:])
    fit(tmp_path, loggers, Removes())
    check_folder(tmp_path)
    check_pictures(tensorboard_kept(tmp_path / "board"))


def test_a_full_disk_costs_the_picture_and_leaves_no_half_of_it(tmp_path):
    trainer = fit(tmp_path, False, epochs=1)

    def log():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number in range(3):
                assert log_image(trainer, f"full/{number}", picture(number)) is None
                assert log_table(trainer, f"full/{number}", ["class"], [("a long name of a class",)]) is None
        assert len(caught) == 1  # for one reason, once
        assert "File too large" in str(caught[0].message)

    with_full_disk(log)
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_a_picture_that_is_written_already_is_handed_on_as_it_is(tmp_path):
    path = tmp_path / "drawn.png"
    picture(2).save(path)
    trainer = fit(tmp_path, [TensorBoardLogger(tmp_path, "board")])
    assert log_image(trainer, "drawn", path) == path
    trainer.logger.finalize("success")
    (kept,) = tensorboard_kept(tmp_path / "board")["drawn"]
    assert kept.content.getpixel((0, 0)) == (80, 80, 80)


class Ranks(pl.Callback):
    """What each process gets back."""

    def on_train_end(self, trainer, pl_module):
        written = [log_image(trainer, "more", picture(0)), log_table(trainer, "more", ["class"], [("wren",)])]
        file = Path(trainer.default_root_dir) / f"rank_{trainer.global_rank}"
        file.write_text(" ".join(str(path is not None) for path in written))


def test_other_ranks_write_nothing(tmp_path):
    fit(tmp_path, [CSVLogger(tmp_path, "csv")], Ranks(), devices=2, strategy="ddp_fork")
    check_folder(tmp_path)
    assert [path.read_text() for path in sorted(tmp_path.glob("rank_*"))] == ["True True", "False False"]
