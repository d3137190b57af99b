"""A run in a notebook leaves the process, and what else is open in it, as it found them."""

import logging
import os
import random
import signal
import warnings

import mlflow
import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.data import warning_cache

from pipelines.cli import main, quietened
from pipelines.config import WandbConfig
from pipelines.loggers import finish_wandb, wandb_logger
from pipelines.mlflow_run import mlflow_run
from pipelines.parse import parse_pipeline
from pipelines.process_state import process_kept, torch_switches, warnings_kept
from pipelines.runner import Runner
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config, write_config
from tests.helpers.wandb_file import run_of, wait_for_end


def numpy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002  the one that the whole process has


def state():
    filters = {name: list(logging.getLogger(name).filters) for name in list(logging.Logger.manager.loggerDict)}
    return {
        "environment": {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
        "random": (random.getstate(), numpy_state(), torch.get_rng_state().tolist()),
        "interrupt": signal.getsignal(signal.SIGINT),
        "threads": torch.get_num_threads(),
        "kind": (torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic,
        ),
        "warnings": (len(warnings.filters), warnings.showwarning, warnings.formatwarning),
        "logging": {name: found for name, found in filters.items() if found and name.startswith("lightning")},
        "mlflow": mlflow.get_tracking_uri(),
    }  # fmt: skip


def test_a_run_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    phases = {"dense": tiny_config()["phases"]["dense"] | {"max_epochs": 1, "callbacks": []}}
    config = write_config(tmp_path, phases=phases)
    given = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--loggers", "mlflow,tensorboard"]
    given += ["--trainer.deterministic", "true", "--trainer.benchmark", "false"]
    before = state()
    runner = Runner(parse_pipeline(given)[0])
    assert state() == before
    runner.run()
    assert state() == before
    main(["test", "--run_dir", str(tmp_path / "run")])
    assert state() == before
    with pytest.raises(SystemExit):
        main(["test", "--run_dir", str(tmp_path / "nothing")])
    assert state() == before


def test_what_an_error_leaves_is_given_back_too():
    before = state()
    with pytest.raises(ValueError, match="x"), process_kept():  # noqa: PT012
        os.environ["PL_GLOBAL_SEED"] = "3"
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        seed_everything(3, verbose=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning leaves it after an interrupt
        raise ValueError("x")
    assert state() == before


def test_processes_of_a_run_stay_known(monkeypatch):
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever is set below
        monkeypatch.delenv(name)
    with process_kept():
        os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"] = "0", "2"
    assert (os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"]) == ("0", "2")


def test_a_wandb_run_of_the_users_stays_open(tmp_path):
    own = wandb.init(project="mine", dir=str(tmp_path), mode="offline")
    try:
        found = []
        for phase in ("dense", "finetune"):
            (tmp_path / phase).mkdir()
            logger = wandb_logger(WandbConfig(mode="offline"), "run", phase, tmp_path / phase)
            logger.log_metrics({"loss": 1.0}, 0)
            found.append(logger.experiment.id)
        finish_wandb()
        assert wandb.run is own
        own.log({"mine": 2.0})
    finally:
        own.finish()
    assert len({own.id, *found}) == 3
    histories = {}
    for file in tmp_path.rglob("*.wandb"):
        wait_for_end(file)
        run, _, history = run_of(file)
        histories[run.run_id] = {name for row in history for name in row if not name.startswith("_")}
    assert histories == {own.id: {"mine"}} | {key: {"loss", "trainer/global_step"} for key in found}


def test_the_address_that_mlflow_has_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    try:
        for chosen in (None, (tmp_path / "mine").as_uri()):
            mlflow.set_tracking_uri(chosen)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            expected = mlflow.get_tracking_uri()
            folder = tmp_path / f"{chosen is None}/dense"
            folder.mkdir(parents=True)
            assert mlflow_run("birds", "dense", folder, None).run_id
            assert mlflow.get_tracking_uri() == expected
    finally:
        mlflow.set_tracking_uri(None)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    assert mlflow.get_tracking_uri() == before


def test_one_parameter_that_mlflow_refuses_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dense").mkdir()
    logger = mlflow_run("birds", "dense", tmp_path / "dense", None)
    logger.log_hyperparams({"a:b*": 1, "": 2, "k" * 300: 3, "../up": 4, "nested": {"ü": 5}, "plain": 6})
    logger.log_metrics({"a:b": 1.0, "": 2.0, "k" * 300: 3.0, "../up": 4.0, "日": float("nan"), "plain": 6.0}, 0)
    data = logger.experiment.get_run(logger.run_id).data
    assert len(data.params) == len(data.metrics) == 6
    assert data.params["plain"] == "6"
    assert data.metrics["plain"] == 6.0


def test_where_the_newer_switches_of_precision_are_in_use():
    def work():
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
        with process_kept():
            torch.use_deterministic_algorithms(True, warn_only=True)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        os._exit(0)

    assert forked.wait([forked.fork(work)], 300) == [0]


@pytest.mark.parametrize("action", ["default", "once", "module"])
@pytest.mark.parametrize("block", [warnings_kept, quietened])
def test_a_second_run_warns_of_what_the_first_has_warned_of(action, block, capsys):
    def run():
        with block(), warnings_kept():  # a command that runs a pipeline
            for _ in range(2):
                warnings.warn("3 images were skipped", stacklevel=1)
                warning_cache.warn("Lightning's own")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        before = set(warning_cache)
        for _ in range(2):
            run()
        said = "".join(str(one.message) for one in caught) + capsys.readouterr().err
        assert set(warning_cache) == before
    assert said.count("3 images were skipped") == said.count("Lightning's own") == 2


def test_what_is_ignored_in_a_run_is_shown_after_it():
    """A place remembers for good what it has shown, until filters change: taking one out by hand is no change."""

    def warn():
        warnings.warn("Total length of `list` across ranks is zero.", stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warn()
        with quietened():
            warn()
        warn()
    assert len(caught) == 2


def test_every_switch_of_torch_is_given_back():
    def work():
        other = {
            "threads": lambda now: now + 1, "default type": lambda _: torch.float64,
            "default device": lambda _: torch.device("meta"), "deterministic algorithms": lambda _: (True, True),
            "precision of products": lambda _: "medium", "sharing between processes": lambda _: "file_system",
        }  # fmt: skip
        settable = [switch for switch in torch_switches(torch) if switch.set_to is not None]
        before = {switch.name: switch.get() for switch in settable}
        with process_kept():
            for switch in settable:
                switch.set_to(other.get(switch.name, lambda now: not now)(switch.get()))
            changed = {switch.name for switch in settable if switch.get() != before[switch.name]}
        assert changed == set(before)
        assert {switch.name: switch.get() for switch in settable} == before
        os._exit(0)

    assert forked.wait([forked.fork(work)], 300) == [0]
