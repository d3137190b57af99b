"""The bar of a phase."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar

from pipelines.progress import PhaseProgressBar, with_progress_bar


def test_a_bar_of_ones_own_is_kept_and_none_is_added_where_none_is_wanted():
    own = [TQDMProgressBar()]
    assert with_progress_bar(own, True) == own
    assert with_progress_bar([], False) == []
    assert [type(c) for c in with_progress_bar([], True)] == [PhaseProgressBar]


def test_the_bar_names_the_stage_and_leaves_the_runs_id_out(tmp_path):
    bar = PhaseProgressBar()
    module = pl.LightningModule()
    logger = pl.loggers.CSVLogger(tmp_path, version="abcdef")
    trainer = pl.Trainer(callbacks=[bar], logger=logger, accelerator="cpu", enable_checkpointing=False)
    trainer.strategy.connect(module)
    bar._trainer = trainer
    assert bar.test_description == "Testing"
    module.stage = "sparse"
    assert bar.test_description == "Testing sparse"
    assert "v_num" not in bar.get_metrics(trainer, module)
