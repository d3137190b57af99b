"""One of two processes is killed: the other ends soon and says what to do; `python -m tests.soak.lost` tries all."""

import re

import pytest
import yaml

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


def test_a_killed_run_resumes_to_the_digits_of_the_uninterrupted_one(tmp_path):
    config, run, whole = write(tmp_path, "sldd"), tmp_path / "run", tmp_path / "whole"
    check(lose(config, run, "sparsify", 1), 1)
    finish(config, run)
    finish(config, whole)
    assert difference(content(whole), content(run)) == ""


@pytest.mark.parametrize(("name", "phase", "rank"), [("plugin", "plugin", 1), ("filters", "filters", 0)])
def test_the_other_process_ends(name, phase, rank, tmp_path):
    check(lose(write(tmp_path, name), tmp_path / "run", phase, rank), rank)
