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
    """Trained on two by the real launcher; the same weights then evaluated and made sparse on one."""
    config, _ = unbroken
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    done = run_train("pipeline", "--config", config, "--run_dir", tmp_path / "two", *two)
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    again = ("pipeline", "--config", config, "--run_dir", tmp_path / "one", "--start_at")
    assert run_train(*again, "evaluate").returncode == 0
    assert stages(tmp_path / "one") == stages(tmp_path / "two")
    done = run_train(*again, "sparsify", "--phases.finetune.max_epochs", "0")
    assert done.returncode == 0, done.stderr
    for stage in ("dense", "sparse"):
        assert stages(tmp_path / "one")[stage] == stages(tmp_path / "two")[stage]
    one, two = (json.loads((tmp_path / n / "sparsify/selection.json").read_text())["features"] for n in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(("phase", "stage"), [("finetune", "finetuned"), ("sparsify", "sparse")])
def test_a_folder_handed_over_tests_the_same(unbroken, tmp_path, phase, stage):
    _, whole = unbroken
    shutil.copytree(whole, tmp_path / "handed")
    done = run_train("test", "--run_dir", tmp_path / "handed", "--phase", phase)
    assert done.returncode == 0, done.stderr
    told = float(re.search(r"test/accuracy\D+([\d.]+)", done.stdout).group(1))
    assert told == pytest.approx(stages(whole)[stage]["accuracy"], abs=0.005)  # two digits are printed
