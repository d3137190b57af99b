"""Loggers that cannot be built are refused before anything of an earlier run is touched."""

import os
import sys

import pytest

from handful.errors import UserError
from pipelines.mlflow_run import mlflow_run
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of one phase."""
    folder = tmp_path_factory.mktemp("finished")
    phases = {"dense": {**tiny_config()["phases"]["dense"], "max_epochs": 1, "callbacks": []}}
    config = write_config(folder, phases=phases)
    Runner(parse_pipeline(["--config", str(config), "--run_dir", str(folder / "run")])[0]).run()
    return folder


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(finished, *options):
    """The sentence that ends a run from the beginning; the finished one stays as it is."""
    before = content(finished / "run")
    arguments = ["--config", str(finished / "tiny.yaml"), "--run_dir", str(finished / "run"), *options]
    with pytest.raises(UserError) as caught:
        Runner(parse_pipeline(arguments)[0], start_at="dense").run()
    assert content(finished / "run") == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("tensorboard", "torch.utils.tensorboard", "tensorboard"), ("mlflow", "mlflow", "mlflow-skinny"),
     ("wandb", "wandb", "wandb")],
)  # fmt: skip
def test_a_missing_package(finished, monkeypatch, name, module, package):
    for loaded in [one for one in sys.modules if one == module or one.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # as Python has it for a package that is not there
    said = refused(finished, "--loggers", name, "--wandb.mode", "offline")
    assert said.startswith(f"--loggers {name}: pip install {package}, or leave it out")


def test_an_mlflow_server_that_is_none(finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://runs")
    assert refused(finished, "--loggers", "mlflow").startswith("--loggers mlflow: nowhere://runs (MLFLOW_TRACKING_URI)")


def test_an_mlflow_server_that_does_not_answer(finished, monkeypatch, free_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    assert "cannot be used" in refused(finished, "--loggers", "mlflow")


def test_names_that_wandb_does_not_take(finished, monkeypatch):
    said = refused(finished, "--wandb.mode", "offline", "--wandb.project", "birds/mine")
    assert said.startswith("wandb.project, wandb.entity: Invalid project name 'birds/mine'")
    monkeypatch.setenv("WANDB_MODE", "offlin")
    said = refused(finished, "--wandb.mode", "auto")
    assert said.startswith("WANDB_MODE: 'offlin' is none of")
    assert "did you mean 'offline'" in said


@pytest.mark.parametrize("options", [["--trainer.barebones", "true"], ["--trainer.enable_checkpointing", "false"]])
def test_a_trainer_that_refuses_our_callbacks_and_loggers(finished, options):
    assert refused(finished, *options).startswith("phases.dense: the Trainer refuses its arguments")


def test_what_can_be_built_is_not_refused_and_leaves_nothing(finished, monkeypatch):
    monkeypatch.chdir(finished)
    before = content(finished)
    arguments = ["--config", str(finished / "tiny.yaml"), "--run_dir", str(finished / "other")]
    runner = Runner(parse_pipeline([*arguments, "--loggers", "wandb,tensorboard,mlflow"])[0])
    runner._check(runner._shared(runner._data({})))
    assert content(finished) == before


def test_runs_of_one_process_each_have_their_own_mlflow_files(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in "ab":
        (tmp_path / name / "dense").mkdir(parents=True)
        logger = mlflow_run("birds", "dense", tmp_path / name / "dense", None)
        assert list((tmp_path / name / "mlruns").glob(f"*/{logger.run_id}/meta.yaml"))
        assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "given").as_uri())
    (tmp_path / "c/dense").mkdir(parents=True)
    logger = mlflow_run("birds", "dense", tmp_path / "c/dense", None)
    assert list((tmp_path / "given").glob(f"*/{logger.run_id}/meta.yaml"))
    assert os.environ["MLFLOW_TRACKING_URI"] == (tmp_path / "given").as_uri()
