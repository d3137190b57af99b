"""What `predict` writes: a row an image in the data set's order, on one process and on two."""

import csv

import lightning.pytorch as pl
import pytest
import torch

from callbacks.predictions import WritePredictions
from pipelines.cli import main
from pipelines.finished_run import Run
from tests.datamodules.fakes import Numbered
from tests.helpers.pipeline import tiny_config, write_config


class Counting(pl.LightningModule):
    """Says what number an image has."""

    def predict_step(self, batch, batch_idx):
        number = (batch[0][:, 0, 0, 0] * 255).round() / 16
        return torch.stack([number, 1 - number], dim=1)


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_are_in_the_order_of_the_data_set(tmp_path, processes):
    strategy = {"strategy": "ddp_fork"} if processes > 1 else {}
    trainer = pl.Trainer(
        accelerator="cpu", devices=processes, **strategy, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, default_root_dir=tmp_path, callbacks=[WritePredictions()],
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.predict(Counting(), datamodule=Numbered(), return_predictions=False)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(i) for i in range(11)]
    assert [float(row["even"]) for row in rows] == pytest.approx([i / 16 for i in range(11)], abs=1e-5)
    assert [row["predicted"] for row in rows if row["image"] != "8"] == ["odd"] * 8 + ["even"] * 2
    assert all(row["probability"] == max(row["even"], row["odd"]) for row in rows)
    assert [row["true"] for row in rows] == ["even", "odd"] * 5 + ["even"]


def test_predict_of_a_run_writes_into_its_phase(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    config = write_config(tmp_path, phases={"dense": tiny_config()["phases"]["dense"]})
    main(["pipeline", "--config", str(config), "--run_dir", str(tmp_path / "run"), "--phases.dense.max_epochs", "1"])
    monkeypatch.chdir(tmp_path)
    main(["predict", "--run_dir", str(tmp_path / "run")])
    with (tmp_path / "run/dense/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert sum(float(rows[0][name]) for name in list(rows[0])[5:]) == pytest.approx(1, abs=1e-4)
    truth = Run(tmp_path / "run").datamodule().test_dataset
    names = Run(tmp_path / "run").datamodule().class_names
    assert [row["true"] for row in rows] == [names[label] for label in truth.labels.tolist()]
    assert all(row["correct"] == ("yes" if row["predicted"] == row["true"] else "no") for row in rows)
    right = 100 * sum(row["correct"] == "yes" for row in rows) / 15
    assert f"accuracy {right:.2f} % on 15 images" in caplog.text
    assert not (tmp_path / "lightning_logs").exists()
