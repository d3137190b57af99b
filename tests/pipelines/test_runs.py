"""Reading a run back: which phase holds a stage, and what is refused."""

import json

import pytest
import yaml

from handful.errors import UserError
from pipelines.runs import Run


@pytest.fixture
def run(tmp_path):
    phases = {name: {"module": {"class_path": name.title()}} for name in ("dense", "sparsify", "finetune", "evaluate")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"phases": phases}, sort_keys=False))
    for name in ("dense", "sparsify"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done.json").write_text("{}")
        (tmp_path / name / "best.ckpt").write_bytes(b"")
    return Run(tmp_path)


def test_stages_are_found_in_their_phases(run):
    assert run.phases == ["dense", "sparsify"]
    assert run.phase_of("sparse") == "sparsify"
    assert run.phase_of("dense") == "dense"
    assert run.phase_of() == "sparsify"


def test_what_is_not_finished_is_refused(run):
    with pytest.raises(UserError, match="no finished stage 'finetuned'; there are dense, sparsify"):
        run.phase_of("finetuned")
    with pytest.raises(UserError, match="not the folder of a run"):
        Run(run.folder / "dense")


def test_stages_of_the_config_go_first(run):
    stages = {"cut": "sparsify"}
    evaluate = {"module": {"class_path": "Evaluate", "init_args": {"stages": stages}}}
    config = run.config | {"phases": run.config["phases"] | {"evaluate": evaluate}}
    (run.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert Run(run.folder).phase_of("cut") == "sparsify"


def test_results(run):
    assert run.results == {}
    (run.folder / "results.json").write_text(json.dumps({"stages": {}}))
    assert run.results == {"stages": {}}
