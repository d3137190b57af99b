"""Two processes: the numbers of one; of those of the launcher one is killed, the other ends soon and says what to do.

`python -m tests.soak.lost` kills either process in every pipeline.
"""

import json
import re
import shutil

import pytest
import yaml

import pipelines.cli  # noqa: F401  imported before processes are forked
from tests.helpers import forked
from tests.helpers.processes import finish, lose
from tests.soak.kills import configs, content, difference


def check(lost, rank):
    """Ended in time, with a status and one sentence that says how to go on; nothing of it runs on."""
    assert lost.left == [], lost.text
    assert lost.status == (2 if rank else -9)
    (sentence,) = lost.sentences
    assert re.search(f"process {rank} of this run was killed .*; give the same command again to resume", sentence)
    assert "Traceback" not in lost.text


def write(folder, name):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(configs()[name], sort_keys=False))
    return path


def stages(run):
    return json.loads((run / "results.json").read_text())["stages"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("two")
    config, run = write(folder, "sldd"), folder / "whole"
    ended = forked.run_ranks(["pipeline", "--config", config, "--run_dir", run], run)
    assert ended.status == 0, ended.text
    return config, run


def test_two_processes_write_the_numbers_of_one(whole, tmp_path):
    """Trained on two; the same weights then evaluated and made sparse on one."""
    config, two = whole
    one = tmp_path / "one"
    shutil.copytree(two, one)
    again = ["pipeline", "--config", config, "--run_dir", one, "--start_at"]
    for more in (["evaluate"], ["sparsify", "--phases.finetune.max_epochs", "0"]):
        ended = forked.run([*again, *more], one)
        assert ended.status == 0, ended.text
        for stage in ("dense", "sparse", "finetuned") if more == ["evaluate"] else ("dense", "sparse"):
            assert stages(one)[stage] == stages(two)[stage]
    chosen = [json.loads((run / "sparsify/selection.json").read_text())["features"] for run in (one, two)]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("phase", ["sparsify", "finetune"])
def test_killed_it_resumes_to_the_digits_of_the_uninterrupted_one(whole, phase, tmp_path):
    config, run = whole[0], tmp_path / "run"
    shutil.copytree(whole[1], run)  # the phases before are finished
    phases = ("sparsify", "finetune", "evaluate", "report")
    for name in phases[phases.index(phase) :]:
        shutil.rmtree(run / name)
    check(lose(config, run, phase, 1, forked=True), 1)
    finish(config, run, forked=True)
    assert difference(content(whole[1]), content(run)) == ""


def test_killed_in_a_phase_without_training_the_other_process_ends(tmp_path):
    """Started as a person starts it."""
    check(lose(write(tmp_path, "filters"), tmp_path / "run", "filters", 0), 0)
