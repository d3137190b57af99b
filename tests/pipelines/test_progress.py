"""The bar of a phase."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch.utils.data import DataLoader, TensorDataset

from handful import progress
from pipelines.progress import PhaseProgressBar, with_progress_bar
from tests.helpers.terminal import code_on_terminal, screen


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val/accuracy", 50.0, prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader():
    return DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=2)


def trainer(**options):
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=[PhaseProgressBar()], **options,
    )  # fmt: skip


def test_a_bar_of_ones_own_is_kept_and_none_is_added_where_none_is_wanted():
    own = [TQDMProgressBar()]
    assert with_progress_bar(own, True) == own
    assert with_progress_bar([], False) == []
    assert [type(c) for c in with_progress_bar([], True)] == [PhaseProgressBar]


def test_in_a_file_there_is_one_line_per_loop(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.0)
    own = trainer(max_epochs=3)
    own.fit(Line(), loader(), loader())
    module = Line()
    module.stage = "sparse"
    own.test(module, loader(), verbose=False)
    module.doing = "gathering features"
    own.validate(module, loader(), verbose=False)
    lines = [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines() if "batches" in line]
    assert lines == ["training: 12 batches", "testing sparse: 4 batches", "gathering features: 4 batches"]


@pytest.mark.parametrize("options", [{"max_epochs": -1, "max_steps": 5}, {"max_epochs": 2, "limit_train_batches": 3}])
def test_steps_are_counted_where_there_are_no_epochs(options, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.0)
    trainer(**options).fit(Line(), loader())
    count = 5 if "max_steps" in options else 6
    assert f"training: {count} batches in" in capsys.readouterr().err


SLOW = """
import time, warnings
warnings.simplefilter("ignore")
from handful import progress
progress.DELAY = 0.05
from pipelines.cli import quietened
from tests.pipelines.test_progress import Line, loader, trainer
quiet = quietened()
quiet.__enter__()
class Slow(Line):
    def training_step(self, batch, index):
        time.sleep(0.06)
        if self.current_epoch == 1 and self.fails:
            raise ValueError("wrong")
        return super().training_step(batch, index)
Slow.fails = False
trainer(max_epochs=3).fit(Slow(), loader(), loader())
print("end", flush=True)
Slow.fails = True
trainer(max_epochs=3).fit(Slow(), loader(), loader())
"""


@pytest.fixture(scope="module")
def on_screen():
    """What two trainings write on a terminal, of which the second fails, and the status."""
    status, written = code_on_terminal(SLOW)
    good, end, bad = written.partition("end\r\n")
    return status, good + end, bad


def test_on_a_terminal_one_bar_names_epoch_and_measures_and_goes(on_screen):
    written = on_screen[1]
    assert "epoch 2/3:" in written
    assert "/12 [" in written
    assert "val/accuracy=50" in written
    assert "v_num" not in written
    shown = screen(written)
    assert "end" in shown
    assert not any("%" in line or "12 [" in line for line in shown)


def test_an_error_in_training_wipes_the_bar(on_screen):
    status, _, written = on_screen
    assert status == 1
    assert "epoch 1/3:" in written
    shown = screen(written)
    assert (shown[0], shown[-2]) == ("Traceback (most recent call last):", "ValueError: wrong")
    assert not any("12 [" in line for line in shown)
