"""A run of the version before phases were recipes is still read, explained, reported and taken as finished.

`tests/data/earlier_run.zip` is the tiny pipeline of `tests/helpers/pipeline.py`, without callbacks, as that version
wrote it; the states of its optimizers were left out.
"""

import json
import zipfile

import pytest
import yaml

import handful
from handful.errors import UserError
from pipelines.cli import main
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.permitted_classes import permitted
from pipelines.plan import Plan, Step
from pipelines.renamed_classes import RENAMED, renamed, with_present_names
from tests.helpers.pipeline import ROOT


@pytest.fixture
def run(tmp_path):
    with zipfile.ZipFile(ROOT / "tests" / "data" / "earlier_run.zip") as archive:
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


def test_every_stage_is_tested_with_the_numbers_of_before(run, capsys):
    rows = json.loads((run / "results.json").read_text())["stages"]
    for stage, phase in (("dense", "dense"), ("sparse", "sparsify"), ("finetuned", "finetune")):
        main(["test", "--run_dir", str(run), "--phase", phase, "--trainer.enable_progress_bar", "false"])
        told = capsys.readouterr().out
        assert f"test/accuracy{rows[stage]['accuracy']:.2f}" in told.replace(" ", ""), told


def test_it_is_loaded_explained_and_reported(run, tmp_path):
    model = handful.load(run)
    assert model.head.n_features == json.loads((run / "results.json").read_text())["stages"]["finetuned"]["n_features"]
    assert Run(run).load("sparse").model.head.features_per_class <= 2
    main(["report", "--run_dir", str(run)])
    assert (run / "report" / "index.html").is_file()
    from PIL import Image

    Image.new("RGB", (24, 24), "red").save(tmp_path / "bird.png")
    main(["explain", "--run_dir", str(run), "--images", str(tmp_path / "bird.png")])
    assert (run / "explain" / "index.html").is_file()
    main(["tradeoff", "--run_dir", str(run), "--n_features", "4", "--features_per_class", "1"])
    assert (run / "tradeoff" / "tradeoff.json").is_file()


def test_its_phases_count_as_finished(run):
    pipeline, _ = parse_pipeline(["--config", str(run / "config.yaml"), "--run_dir", str(run)])
    record = json.loads((run / "dense" / "done.json").read_text())
    # the code that draws the toy birds is part of what the images are known by, and may have changed
    plan = Plan(pipeline, run, set(), lambda phase: record["config"]["content of the images"])
    assert set(plan.steps().values()) == {Step.SKIP}


def test_an_argument_that_the_version_did_not_have_counts_where_it_is_given(run):
    frozen = "--phases.dense.module.train_backbone=false"
    pipeline, _ = parse_pipeline(["--config", str(run / "config.yaml"), "--run_dir", str(run), frozen])
    record = json.loads((run / "dense" / "done.json").read_text())
    plan = Plan(pipeline, run, set(), lambda phase: record["config"]["content of the images"])
    with pytest.raises(UserError, match="dense: finished with another module"):
        plan.steps()


def test_earlier_names_have_present_ones():
    config = yaml.safe_load("phases: {a: {module: {class_path: lightning_modules.Sparsify}}}")
    assert with_present_names(config)["phases"]["a"]["module"]["class_path"] == "pipelines.phases.Sparsify"
    assert renamed("class_path: lightning_modules.Sparsify\n") == "class_path: pipelines.phases.Sparsify\n"
    assert renamed("x: my.lightning_modules.Sparsify2") == "x: my.lightning_modules.Sparsify2"
    for path in RENAMED.values():
        assert permitted(path), path
