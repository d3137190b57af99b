"""Killed runs resume to the same bits; a handed-over folder tests the same."""

import json
import re
import shutil

import pytest
import torch

from tests.helpers import forked

pytestmark = pytest.mark.usefixtures("without_report")


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def stages(run):
    return json.loads((run / "results.json").read_text())["stages"]


def metrics(phase):
    return (phase / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def unbroken(tiny_run):
    return tiny_run.parent / "tiny.yaml", tiny_run


def test_killed_twice_resumes_to_the_same_bits(unbroken, tmp_path, monkeypatch):
    config, whole = unbroken
    run = tmp_path / "run"
    for kill in ("Dense/1/2", "Finetune/2/1", ""):
        monkeypatch.setenv("HANDFUL_KILL", kill)
        ended = forked.run(["pipeline", "--config", config, "--run_dir", run], run)
        assert ended.status == (-9 if kill else 0), ended.text
    for phase in ("dense", "finetune"):
        for file in ("last.ckpt", "best.ckpt"):
            expected, found = weights(whole / phase / file), weights(tmp_path / "run" / phase / file)
            assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert stages(tmp_path / "run") == stages(whole)
    # the rows of a broken epoch are not told twice
    assert metrics(tmp_path / "run/dense") == metrics(whole / "dense")


@pytest.mark.parametrize(("phase", "stage"), [("finetune", "finetuned"), ("sparsify", "sparse")])
def test_a_folder_handed_over_tests_the_same(unbroken, tmp_path, phase, stage):
    _, whole = unbroken
    shutil.copytree(whole, tmp_path / "handed")
    done = forked.run(["test", "--run_dir", tmp_path / "handed", "--phase", phase], tmp_path / "handed")
    assert done.status == 0, done.text
    told = float(re.search(r"test/accuracy\D+([\d.]+)", done.text).group(1))
    assert told == pytest.approx(stages(whole)[stage]["accuracy"], abs=0.005)  # two digits are printed
