"""Real offline W&B and TensorBoard runs of every kind of pipeline, read back: what each phase shows, with its steps."""

import csv
import json

import pytest

from pipelines.cli import main
from pipelines.finished_run import Run
from pipelines.workspace import build_workspace
from tests.helpers.logged import scalars, tensorboard_kept, wandb_kept
from tests.helpers.pipeline import tiny_config, write_config
from tests.helpers.wandb_file import run_of, summary_of, wait_for_end

WATCHED = [
    {"class_path": "Diversity", "init_args": {"k": 2}},
    {"class_path": "ClassFilters", "init_args": {"k1": 2, "k2": 2, "noise_test": False}},
    {"class_path": "AttributionMaps", "init_args": {"methods": ["cam"], "images": 2}},
]
SUMMARY = {"stages", "confusion", "confusion_matrix", "examples"}
SPARSE = SUMMARY | {"weights", "weights_table"}


def dense():
    return tiny_config()["phases"]["dense"] | {"max_epochs": 2, "callbacks": WATCHED}


def finetune(source):
    module = {"class_path": "Finetune", "init_args": {"source": source}}
    return {"module": module, "max_epochs": 1, "callbacks": WATCHED}


def evaluate(**stages):
    return {"module": {"class_path": "Evaluate", "init_args": {"stages": stages}}}


def qpm(relu):
    chosen = {"n_features": 4, "features_per_class": 2, "restarts": 2, "bound_seconds": 0.5, "relu": relu}
    return {"phases": {
        "dense": dense(), "assign": {"module": {"class_path": "Assign", "init_args": chosen}},
        "finetune": finetune("assign"), "evaluate": evaluate(dense="dense", binary="assign", finetuned="finetune"),
    }}  # fmt: skip


def qsenn():
    chosen = {"n_features": 5, "features_per_class": 2, "cut": "ternary", "source": "dense"}
    return {
        "phases": {
            "dense": dense(), "sparsify": {"module": {"class_path": "Sparsify", "init_args": chosen}},
            "finetune": finetune("sparsify"), "evaluate": evaluate(dense="dense", finetuned="finetune-2"),
        },
        "rounds": {"phases": ["sparsify", "finetune"], "times": 2},
    }  # fmt: skip


def filters():
    found = {"k1": 3, "k2": 2, "grid_k1": [1, 3], "grid_k2": [1, 2], "images_per_filter": 0}
    return {"phases": {
        "dense": dense(), "filters": {"module": {"class_path": "FindFilters", "init_args": found}},
        "decompose": {"module": {"class_path": "Decompose"}, "max_epochs": 0},
        "evaluate": evaluate(dense="dense", decomposed="decompose"),
    }}  # fmt: skip


def plugin():
    small = {"units": 8, "hidden": 8, "bank_size": 16, "places": 8, "components": 2, "samples": 2}
    given = {"source": "dense", "local_layer": "backbone.layer1", "statistics_images": 8, "image_size": 24, **small}
    module = {"class_path": "InfoMaxPlugin", "init_args": given}
    maps = {"class_path": "AttributionMaps", "init_args": {"methods": ["general", "sufficient"], "images": 2}}
    return {"phases": {"dense": dense(), "plugin": {"module": module, "max_epochs": 2, "callbacks": [maps]}}}


PIPELINES = {
    "qpm": lambda: qpm(False), "chiqpm": lambda: qpm(True), "qsenn": qsenn, "filters": filters, "plugin": plugin
}  # fmt: skip


@pytest.fixture(scope="module", params=PIPELINES)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    loggers = "wandb,tensorboard,mlflow" if request.param in ("qpm", "filters") else "wandb,tensorboard"
    config = write_config(
        folder, name=request.param, wandb={"mode": "offline"}, loggers=loggers, **PIPELINES[request.param]()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.setenv("HOME", str(folder))
        # what dashboards show is collected for the report, whose pages nobody reads here
        patch.setattr("pipelines.report.write_report", lambda content, place: place)
        main(["pipeline", "--config", str(config), "--run_dir", str(folder / "run")])
    return request.param, folder / "run"


def history(folder):
    (file,) = folder.rglob("*.wandb")
    wait_for_end(file)
    return run_of(file)[2]


def test_every_phase_and_the_summary_show_what_they_have_with_its_steps(finished):
    kind, run = finished
    phases = list(Run(run).config["phases"])
    for phase in phases:
        (record,) = (run_of(file)[0] for file in (run / phase).rglob("*.wandb"))
        assert (record.run_group, record.job_type) == (kind, phase)
        measures = scalars(run / phase / "tensorboard")
        measures.pop("hp_metric", None)  # TensorBoard's own
        for name, values in measures.items():
            kept = [(row["trainer/global_step"], row[name]) for row in history(run / phase) if name in row]
            wanted = [(step, pytest.approx(value, rel=1e-5, nan_ok=True)) for step, value in values]
            assert kept == wanted, (phase, name)
    for phase in (phase for phase in phases if phase == "dense" or phase.startswith("finetune")):
        epochs = 2 if phase == "dense" else 1
        with (run / phase / "metrics.csv").open() as file:
            steps = [int(row["step"]) for row in csv.DictReader(file) if row["val/diversity@2"]]
        assert len(steps) == epochs
        for kept in (wandb_kept(run / phase), tensorboard_kept(run / phase)):
            for name in ("attribution/cam", "class_filters"):
                assert [one.step for one in kept[name]] == steps, (phase, name)
    shown = set(wandb_kept(run / "summary"))
    assert shown >= (SPARSE if kind in ("qpm", "chiqpm", "qsenn") else SUMMARY), kind
    assert json.loads((run / "summary/shown.json").read_text())["tables"]


def test_what_only_one_kind_of_phase_has_is_there(finished):
    kind, run = finished
    if kind in ("qpm", "chiqpm"):
        (row,) = (row for row in history(run / "assign") if "assignment/value" in row)
        record = json.loads((run / "assign/assignment.json").read_text())
        assert row["assignment/value"] == pytest.approx(record["value"])
        (table,) = wandb_kept(run / "assign")["assignment_table"]
        assert [cells[1] for cells in table.content["data"]] == [
            ", ".join(map(str, features)) for features in record["classes"].values()
        ]
    elif kind == "qsenn":
        for phase in ("sparsify", "sparsify-2"):
            rows = [row for row in history(run / phase) if "path/density" in row]
            assert [row["trainer/global_step"] for row in rows] == list(range(len(rows)))
            assert len(rows) > 1
    elif kind == "filters":
        (row,) = (row for row in history(run / "filters") if "filters/union" in row)
        noise = json.loads((run / "filters/essentiality.json").read_text())
        assert row["filters/noise_on_filters"] == pytest.approx(noise["filters"])
        kept = wandb_kept(run / "filters")
        assert len(kept["grid"][0].content["data"]) == 4
        assert len(kept["class_filters"][0].content["data"]) == 3
        assert kept["accuracy_grid"]
        assert set(tensorboard_kept(run / "filters")) >= {"grid", "class_filters", "accuracy_grid"}
    else:
        for kept in (wandb_kept(run / "plugin"), tensorboard_kept(run / "plugin")):
            for name in ("attribution/general", "attribution/sufficient"):
                assert len({one.step for one in kept[name]}) >= 2, name
        assert len([row for row in history(run / "plugin") if "val/general_bits" in row]) == 2


def test_mlflow_has_the_choice_and_the_filters(finished):
    kind, run = finished
    if kind not in ("qpm", "filters"):
        return
    phase, measure, name = {"qpm": ("assign", "assignment/value", "assignment_table"),
                            "filters": ("filters", "filters/union", "class_filters")}[kind]  # fmt: skip
    (folder,) = run.glob(f"mlruns/*/{(run / phase / 'mlflow_id').read_text()}")
    assert (folder / "metrics" / measure).read_text().count("\n") == 1
    (table,) = (folder / "artifacts/tables" / name).iterdir()
    assert table.read_text().count("\n") == 1 + 3  # a heading, and the classes


def test_a_saved_workspace_asks_for_nothing_that_was_not_logged(finished):
    pytest.importorskip("wandb_workspaces")
    from tests.pipelines.test_workspace import asked_for, keys_of

    _, run = finished
    sections = build_workspace(Run(run), "me", "birds", "Handful").sections
    wanted = {key for section in sections for panel in section.panels for key in asked_for(panel)}
    assert wanted - keys_of(run) == set()
    (file,) = (run / "summary").rglob("*.wandb")
    stages = json.loads((run / "results.json").read_text())["stages"]
    assert {f"{stage}/accuracy" for stage in stages} <= set(summary_of(file))
