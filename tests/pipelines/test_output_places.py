"""Callbacks and profilers write into the run's folder, and leave alone what phases keep."""

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.profilers import SimpleProfiler

from handful.errors import UserError
from pipelines.cli import main
from pipelines.output_places import check_places
from tests.helpers.pipeline import tiny_config, write_config

OUTSIDE = "lies outside the run's folder .*; take a folder in it, such as .*dense/extra"


@pytest.mark.parametrize(
    ("writer", "said"),
    [
        (lambda run: OnExceptionCheckpoint("/tmp"), f"phases.dense: OnExceptionCheckpoint: dirpath /tmp .*{OUTSIDE}"),
        (lambda run: OnExceptionCheckpoint("."), OUTSIDE),
        (lambda run: OnExceptionCheckpoint(run / "dense", "../../../x"), OUTSIDE),
        (lambda run: OnExceptionCheckpoint(run / "dense", "/etc/x"), OUTSIDE),
        (lambda run: OnExceptionCheckpoint(run / ".." / "other" / "dense", "best"), OUTSIDE),
        (lambda run: OnExceptionCheckpoint("~"), OUTSIDE),
        (lambda run: OnExceptionCheckpoint(run / "dense", "last"), "a phase keeps last.ckpt and best.ckpt itself"),
        (lambda run: OnExceptionCheckpoint(run / "finetune", "best"), "a phase keeps"),
        (lambda run: ModelCheckpoint("/tmp/checkpoints"), f"ModelCheckpoint: .*{OUTSIDE}"),
        (lambda run: ModelCheckpoint(filename="../../../x"), OUTSIDE),
        (lambda run: SimpleProfiler("/tmp"), f"SimpleProfiler: .*{OUTSIDE}"),
        (lambda run: {"class_path": "lightning.SimpleProfiler", "init_args": {"dirpath": "/tmp"}}, OUTSIDE),
    ],
)
def test_outside_is_refused(tmp_path, writer, said):
    run = tmp_path / "a" / "run"
    with pytest.raises(UserError, match=said):
        check_places("phases.dense", run / "dense", [writer(run)])


def test_a_link_that_leads_outside_is_outside(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to("/tmp")
    with pytest.raises(UserError, match="outside"):
        check_places("phases.dense", tmp_path / "run/dense", [OnExceptionCheckpoint(tmp_path / "run/link")])


def test_inside_is_fine(tmp_path):
    folder = tmp_path / "run" / "dense"
    given = [OnExceptionCheckpoint(folder / "extra"), ModelCheckpoint(monitor="x"), SimpleProfiler(), None, "simple"]
    given += [OnExceptionCheckpoint(tmp_path / "run", "crash"), ModelCheckpoint(folder, "{epoch}")]
    check_places("phases.dense", folder, given)


def test_a_config_that_would_remove_a_file_is_refused_before_anything_runs(tmp_path, capsys):
    precious = tmp_path / "precious.ckpt"
    precious.write_text("mine")
    dense = tiny_config()["phases"]["dense"]
    place = {"dirpath": str(tmp_path), "filename": "precious"}
    dense["callbacks"] = [{"class_path": "OnExceptionCheckpoint", "init_args": place}]
    config = write_config(tmp_path, phases={"dense": dense})
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "--config", str(config), "--run_dir", str(tmp_path / "runs/a")])
    assert ended.value.code == 2
    assert "OnExceptionCheckpoint: dirpath" in capsys.readouterr().err
    assert precious.read_text() == "mine"
    assert not (tmp_path / "runs").exists()
