"""Killed runs resume to the same bits; two processes write the numbers of one; a handed-over folder tests the same."""

import json
import re
import shutil

import pytest
import torch

from tests.helpers.pipeline import run_train, write_config


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def stages(run):
    return json.loads((run / "results.json").read_text())["stages"]


def metrics(phase):
    return (phase / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    config = write_config(folder)
    done = run_train("pipeline", "--config", config, "--run_dir", folder / "run")
    assert done.returncode == 0, done.stderr
    return config, folder / "run"


def test_killed_twice_resumes_to_the_same_bits(unbroken, tmp_path):
    config, whole = unbroken
    command = ("pipeline", "--config", config, "--run_dir", tmp_path / "run")
    killed = run_train(*command, HANDFUL_KILL="Dense/1/2")
    assert killed.returncode == -9
    killed = run_train(*command, HANDFUL_KILL="Finetune/2/1")
    assert killed.returncode == -9
    finished = run_train(*command)
    assert finished.returncode == 0, finished.stderr
    for phase in ("dense", "finetune"):
        for file in ("last.ckpt", "best.ckpt"):
            expected, found = weights(whole / phase / file), weights(tmp_path / "run" / phase / file)
            assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert stages(tmp_path / "run") == stages(whole)
    # the rows of a broken epoch are not told twice
    assert metrics(tmp_path / "run/dense") == metrics(whole / "dense")


def test_two_processes_write_the_numbers_of_one(unbroken, tmp_path):
    """Same weights (dense and finetuned are taken from the run on one), numbers that two does not divide."""
    config, whole = unbroken
    shutil.copytree(whole, tmp_path / "run")
    done = run_train(
        "pipeline", "--config", config, "--run_dir", tmp_path / "run", "--start_at", "sparsify",
        "--trainer.devices", "2", "--trainer.strategy", "ddp", "--phases.finetune.max_epochs", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    single = tmp_path / "single"
    shutil.copytree(whole, single)
    alone = run_train(
        "pipeline", "--config", config, "--run_dir", single, "--start_at", "sparsify",
        "--phases.finetune.max_epochs", "0",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert stages(single) == stages(tmp_path / "run")
    a, b = (json.loads((f / "sparsify/selection.json").read_text()) for f in (single, tmp_path / "run"))
    assert a["features"] == b["features"]


def test_a_folder_handed_over_tests_the_same(unbroken, tmp_path):
    _, whole = unbroken
    shutil.copytree(whole, tmp_path / "handed")
    done = run_train("test", "--run_dir", tmp_path / "handed")
    assert done.returncode == 0, done.stderr
    told = float(re.search(r"test/accuracy\D+([\d.]+)", done.stdout).group(1))
    assert told == pytest.approx(stages(whole)["finetuned"]["accuracy"], abs=1e-3)
