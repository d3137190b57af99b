"""A saved W&B workspace: every panel is of something that the run logged, and nothing is sent without a login."""

import json

import pytest

from handful.errors import UserError
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from pipelines.workspace import build_workspace, workspace
from tests.helpers.pipeline import tiny_config, write_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    phases = tiny_config()["phases"]
    maps = {"class_path": "AttributionMaps", "init_args": {"methods": ["cam"], "images": 2}}
    phases["dense"] |= {"callbacks": [{"class_path": "Diversity"}, {"class_path": "ClassFilters"}, maps]}
    phases["dense"]["max_epochs"] = 1
    del phases["finetune"]
    config = write_config(folder, phases=phases, wandb={"mode": "disabled", "project": "birds"})
    Runner(parse_pipeline(["--config", str(config), "--run_dir", str(folder / "run")])[0]).run()
    return folder / "run"


def test_the_panels_are_of_what_was_logged(run):
    built = build_workspace(Run(run), "me", "birds", "Handful")
    assert (built.entity, built.project) == ("me", "birds")
    panels = {section.name: section.panels for section in built.sections}
    assert list(panels) == ["Stages", "Where it looks", "Diversity and class filters", "Training",
                            "Regularisation path"]  # fmt: skip
    bars = [metric for panel in panels["Stages"][:4] for metric in panel.metrics]
    assert {"dense/accuracy", "sparse/accuracy", "sparse/n_features", "dense/diversity@5"} <= set(map(str, bars))
    assert [panel.media_keys for panel in panels["Where it looks"]] == [["attribution/cam"]]
    lines = [str(y) for name in list(panels)[2:] for panel in panels[name] for y in getattr(panel, "y", [])]
    assert {"val/diversity@5", "filters/union", "train/loss", "val/accuracy", "path/train_accuracy"} <= set(lines)
    assert len(lines) == len(set(lines))


def test_a_dry_run_writes_what_would_be_saved(run):
    file = workspace(str(run), dry_run=True)
    text = file.read_text()
    for key in ("attribution/cam", "val/diversity@5", "path/density", "dense/accuracy", "class_filters", "birds"):
        assert key in text, key
    json.loads(text)


def test_without_a_login_nothing_is_sent(run, monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="nobody is logged in"):
        workspace(str(run))
