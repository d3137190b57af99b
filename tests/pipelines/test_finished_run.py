"""Reading a run back: which phase holds a stage, and what is refused."""

import json
import shutil

import pytest
import yaml

from handful.atomic import DRAFT
from handful.errors import UserError
from pipelines.find_run import check_run_dir
from pipelines.finished_run import Run
from pipelines.phase_folder import made_from


@pytest.fixture
def run(tmp_path):
    phases = {name: {"module": {"class_path": name.title()}} for name in ("dense", "sparsify", "finetune", "evaluate")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"phases": phases}, sort_keys=False))
    for name in ("dense", "sparsify"):
        (tmp_path / name).mkdir()
        record = {"config": {}, "made_from": {}, "seconds": 1, "peak_memory_mib": 1}
        record["made_from"] = made_from(tmp_path, ["dense"] if name == "sparsify" else [])
        (tmp_path / name / "done.json").write_text(json.dumps(record))
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
    (run.folder / "other").mkdir()
    with pytest.raises(UserError, match="not the folder of a run"):
        Run(run.folder / "other")


def test_the_run_that_a_folder_means(run, tmp_path):
    inner = tmp_path / "runs" / "birds"
    shutil.copytree(run.folder, inner, ignore=shutil.ignore_patterns("runs"))
    assert Run(inner.parent).folder == inner
    assert (Run(inner / "dense").folder, Run(inner / "dense").phase_of()) == (inner, "dense")
    shutil.copytree(inner, inner.with_name("fish"))
    with pytest.raises(UserError, match=r"runs: holds 2 runs; give one of them: .*birds, .*fish"):
        Run(inner.parent)
    with pytest.raises(UserError, match="runs: holds runs but is not one itself"):
        check_run_dir(inner.parent)
    with pytest.raises(UserError, match=r"dense: the folder of a phase; give its run, --run_dir .*birds"):
        check_run_dir(inner / "dense", ["dense"])
    (tmp_path / "file").write_text("")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    for name, sentence in (("file", "is no folder"), ("dead", "is a link to nothing")):
        with pytest.raises(UserError, match=f"--run_dir .*{name}: is there and {sentence}; give another one"):
            check_run_dir(tmp_path / name)
    check_run_dir(inner)
    check_run_dir(tmp_path / "new")


@pytest.mark.parametrize("name", ["dense/robin.jpg", "config.yaml", "results.json", "sparsify"])
def test_files_that_are_none_of_a_run_are_never_replaced(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("one's own")
    with pytest.raises(UserError, match="is there already and was not written by a run"):
        check_run_dir(tmp_path, ["dense", "sparsify"])
    check_run_dir(tmp_path / "new", ["dense", "sparsify"])


def test_a_draft_that_a_killed_run_left_is_no_file_of_ones_own(tmp_path):
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / f"started.json{DRAFT}").write_text("{")
    check_run_dir(tmp_path, ["dense"])


def test_a_phase_whose_records_were_removed_is_still_one(run):
    (run.folder / "dense" / "done.json").unlink()
    check_run_dir(run.folder, ["dense", "sparsify", "finetune"])
    (run.folder / "dense" / "best.ckpt").unlink()
    check_run_dir(run.folder, ["dense", "sparsify", "finetune"])


def test_stages_of_the_config_go_first(run):
    stages = {"cut": "sparsify"}
    evaluate = {"module": {"class_path": "Evaluate", "init_args": {"stages": stages}}}
    config = run.config | {"phases": run.config["phases"] | {"evaluate": evaluate}}
    (run.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert Run(run.folder).phase_of("cut") == "sparsify"


def test_results(run):
    assert run.results == {}
    results = {"stages": {}, "seconds": {}, "peak_memory_mib": {}, "versions": {}, "data": {}}
    (run.folder / "results.json").write_text(json.dumps(results))
    assert run.results == results
