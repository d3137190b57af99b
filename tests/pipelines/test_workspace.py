"""A saved W&B workspace: every panel is of something that the run logged, and nothing is sent without a login."""

import json
import shutil

import pytest

from handful.errors import UserError
from pipelines.cli import main
from pipelines.finished_run import Run
from pipelines.phase_folder import PhaseFolder
from pipelines.workspace import build_workspace, workspace
from tests.helpers.finished_run import write_run
from tests.helpers.pipeline import tiny_config, write_config
from tests.helpers.wandb_file import run_of, summary_of, wait_for_end

internal = pytest.importorskip("wandb_workspaces.workspaces.internal")
from wandb_workspaces.workspaces import Workspace  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    phases = tiny_config()["phases"]
    maps = {"class_path": "AttributionMaps", "init_args": {"methods": ["cam"], "images": 2}}
    phases["dense"] |= {"callbacks": [{"class_path": "Diversity"}, {"class_path": "ClassFilters"}, maps]}
    phases["dense"]["max_epochs"] = 1
    del phases["finetune"]
    grid = {"k1": 3, "k2": 2, "grid_k1": [1, 3], "grid_k2": [1, 2], "drawn_classes": 0}
    phases["filters"] = {"module": {"class_path": "FindFilters", "init_args": grid}}
    config = write_config(folder, phases=phases, wandb={"mode": "offline", "project": "birds"})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.setenv("HOME", str(folder))
        main(["pipeline", "--config", str(config), "--run_dir", str(folder / "run")])
    return folder / "run"


def keys_of(run):
    """What the offline runs of all phases and of the summary logged: history and summary."""
    found = set()
    for file in run.rglob("*.wandb"):
        wait_for_end(file)
        found |= {key.removesuffix("/_type") for row in run_of(file)[2] for key in row} | set(summary_of(file))
    return found


def asked_for(panel):
    """The keys that a panel shows."""
    if hasattr(panel, "table_name"):
        return [panel.table_name]
    keys = [*getattr(panel, "media_keys", []), *getattr(panel, "metrics", []), *(getattr(panel, "y", None) or [])]
    return [str(getattr(key, "name", key)) for key in [*keys, *([panel.x] if getattr(panel, "x", None) else [])]]


def test_the_panels_are_of_what_was_logged(run):
    built = build_workspace(Run(run), "me", "birds", "Handful")
    assert (built.entity, built.project) == ("me", "birds")
    panels = {section.name: section.panels for section in built.sections}
    assert list(panels) == ["Stages", "Where it looks", "Diversity and class filters",
                            "Phases that train nothing", "Training", "Regularisation path"]  # fmt: skip
    bars = [metric for panel in panels["Stages"][:4] for metric in panel.metrics]
    assert {"dense/accuracy", "sparse/accuracy", "sparse/n_features", "dense/diversity@5"} <= set(map(str, bars))
    assert [panel.media_keys for panel in panels["Where it looks"]] == [["attribution/cam"]]
    lines = [str(y) for name in list(panels)[2:] for panel in panels[name] for y in getattr(panel, "y", [])]
    assert {"val/diversity@5", "filters/union", "train/loss", "val/accuracy", "path/train_accuracy"} <= set(lines)
    assert len(lines) == len(set(lines))


def test_every_panel_shows_what_the_run_logged_and_nothing_else(run):
    logged = keys_of(run)
    sections = build_workspace(Run(run), "me", "birds", "Handful").sections
    wanted = {key for section in sections for panel in section.panels for key in asked_for(panel)}
    assert {"weights_table", "confusion_matrix", "path/density", "trainer/global_step", "class_filters"} <= wanted
    assert {"filters/clean", "filters/noise_on_filters", "grid", "accuracy_grid"} <= wanted
    assert wanted - logged == set()


def test_wandbs_own_scheme_takes_it_and_gives_it_back(run):
    built = build_workspace(Run(run), "me", "birds", "Handful")
    text = built._to_model().model_dump_json(by_alias=True, exclude_none=True)
    view = internal.View.model_validate(json.loads(text))
    again = Workspace._from_model(view)
    assert [(section.name, len(section.panels)) for section in again.sections] == [
        (section.name, len(section.panels)) for section in built.sections
    ]
    kinds = [type(panel).__name__ for section in again.sections for panel in section.panels]
    assert not [kind for kind in kinds if kind.startswith("Unknown")]
    assert again.settings.x_axis in ("trainer/global_step", built.settings.x_axis)


def test_measures_that_a_stage_lacks_and_pictures_that_were_not_logged_have_no_panel(tmp_path):
    run = write_run(tmp_path)
    row = {"accuracy": 88.1, "diversity@5": None, "kept_share": 0.7}
    (run / "results.json").write_text(json.dumps({"stages": {"plugin": row, "dense": {"accuracy": 90.0}}}))
    (run / "summary").mkdir()
    shown = {"tables": ["stages", "examples"], "pictures": ["confusion_matrix"]}
    (run / "summary/shown.json").write_text(json.dumps(shown))
    (run / "finetune/path.csv").write_text("density,gap,val_accuracy\n1,,50\n2,,60\n")
    panels = {s.name: s.panels for s in build_workspace(Run(run), "me", "birds", "Handful").sections}
    wanted = [asked_for(panel) for panel in panels["Stages"]]
    assert wanted == [
        ["plugin/accuracy", "dense/accuracy"], ["plugin/kept_share"], ["confusion_matrix"], ["stages"], ["examples"]
    ]  # fmt: skip
    assert [asked_for(panel) for panel in panels["Regularisation path"]] == [["path/val_accuracy", "path/density"]]


def test_a_dry_run_writes_what_would_be_saved(run):
    file = workspace(str(run), dry_run=True)
    text = file.read_text()
    for key in ("attribution/cam", "val/diversity@5", "path/density", "dense/accuracy", "class_filters", "birds"):
        assert key in text, key
    json.loads(text)


@pytest.mark.parametrize("content", ["{", "[]", '{"measures": 5}', None])
def test_names_of_a_phase_that_are_damaged_cost_their_panels_and_no_more(run, content, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run/filters/shown.json"
    file.unlink() if content is None else file.write_text(content)
    sections = [section.name for section in build_workspace(Run(tmp_path / "run"), "me", "b", "H").sections]
    assert "Training" in sections
    PhaseFolder(tmp_path / "run/filters").verify()


def test_without_a_login_nothing_is_sent(run, monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="nobody is logged in"):
        workspace(str(run))
