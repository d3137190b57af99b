"""Real loggers of a whole pipeline, read back: W&B, TensorBoard and MLflow, phase by phase and the summary run."""

import csv
import json

import pytest

import pipelines.report
import pipelines.summary_run
from handful.errors import UserError
from handful.report.content import Content
from pipelines.cli import main
from pipelines.config import Pipeline, WandbConfig
from pipelines.finished_run import Run
from pipelines.more_loggers import logger_names
from pipelines.parse import parse_pipeline
from pipelines.summary_run import log_summary
from tests.helpers.logged import scalars, tensorboard_kept, wandb_kept
from tests.helpers.pipeline import tiny_config, write_config
from tests.helpers.wandb_file import records, run_of, wait_for_end

CALLBACKS = [
    {"class_path": "Diversity"},
    {"class_path": "ClassFilters", "init_args": {"k2": 2}},
    {
        "class_path": "AttributionMaps",
        "init_args": {
            "methods": ["cam", "integrated_gradients"], "images": 4, "options": {"integrated_gradients": {"steps": 2}}
        },
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboards")
    phases = tiny_config()["phases"]
    phases["dense"] |= {"callbacks": CALLBACKS, "max_epochs": 2}
    del phases["finetune"]
    config = write_config(folder, phases=phases, wandb={"mode": "offline"}, loggers="wandb,tensorboard,mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.setenv("HOME", str(folder))
        main(["pipeline", "--config", str(config), "--run_dir", str(folder / "run")])
    return folder / "run"


def history(folder):
    (path,) = folder.rglob("*.wandb")
    wait_for_end(path)
    return run_of(path)


def test_maps_and_filters_of_every_epoch_are_in_wandb_and_tensorboard(run):
    for kept in (wandb_kept(run / "dense"), tensorboard_kept(run / "dense")):
        for name in ("attribution/cam", "attribution/integrated_gradients", "class_filters"):
            assert len(kept[name]) == 2, name
            assert kept[name][0].step < kept[name][1].step


def test_they_are_in_mlflow_too(run):
    (experiment,) = (file for file in (run / "mlruns").iterdir() if file.name.isdecimal() and file.name != "0")
    identity = (run / "dense/mlflow_id").read_text()
    folder = experiment / identity
    assert "status: 3" in (folder / "meta.yaml").read_text()  # finished
    assert (folder / "metrics/val/accuracy").read_text().count("\n") == 2
    assert len(list((folder / "artifacts/images").glob("*cam*.png"))) >= 2
    assert len(list((folder / "artifacts/tables/class_filters").iterdir())) == 2
    assert (folder / "params/seed").read_text() == "0"


def test_the_sparse_phase_logs_its_path_point_by_point(run):
    with (run / "sparsify/path.csv").open() as file:
        path = list(csv.DictReader(file))
    rows = [row for row in history(run / "sparsify")[2] if "path/density" in row]
    assert [row["trainer/global_step"] for row in rows] == list(range(len(path)))
    assert [row["path/density"] for row in rows] == pytest.approx([float(row["density"]) for row in path])
    assert "path/train_accuracy" in rows[0]


def test_the_summary_run_has_stages_weights_path_confusion_examples_report_and_model(run):
    record, _, _ = history(run / "summary")
    assert (record.job_type, record.display_name, record.run_group) == ("summary", "tiny-summary", "tiny")
    (path,) = (run / "summary").rglob("*.wandb")
    found = {}
    summary = {}
    artifacts = []
    for one in records(path):
        kind = one.WhichOneof("record_type")
        if kind == "history":
            found |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in one.history.item}
        elif kind == "summary":
            summary |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in one.summary.update}
        elif kind == "artifact":
            artifacts.append((one.artifact.type, one.artifact.name))
    for name in ("stages", "weights_table", "confusion", "examples", "regularisation_path"):
        assert found[f"{name}/_type"] == "table-file", name
    for name in ("weights", "confusion_matrix"):
        assert found[f"{name}/_type"] == "image-file", name
    stages = json.loads((run / "results.json").read_text())["stages"]
    assert summary["sparse/accuracy"] == stages["sparse"]["accuracy"]
    assert {("report", "tiny-report"), ("model", "tiny-model")} <= set(artifacts)
    table = next(file for file in path.parent.rglob("examples_*.table.json"))
    assert json.loads(table.read_text())["columns"][:3] == ["image", "truth", "predicted"]
    weights = json.loads(next(path.parent.rglob("weights_table_*.table.json")).read_text())
    assert len(weights["data"]) == 3


SHOWN = {"stages", "confusion", "weights_table", "regularisation_path", "examples"}


def test_tensorboard_has_every_measure_and_the_summary(run):
    with (run / "dense/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = scalars(run / "dense/tensorboard")
    for name in ("val/accuracy", "val/diversity@5", "filters/union", "train/loss"):
        assert kept[name] == [(int(row["step"]), pytest.approx(float(row[name]))) for row in rows if row[name]], name
    path = scalars(run / "sparsify/tensorboard")
    assert [step for step, _ in path["path/density"]] == list(range(len(path["path/density"])))
    summary = tensorboard_kept(run / "summary")
    assert set(summary) >= SHOWN | {"weights", "confusion_matrix"}
    stages = json.loads((run / "results.json").read_text())["stages"]
    assert scalars(run / "summary")["sparse/accuracy"] == [(0, pytest.approx(stages["sparse"]["accuracy"]))]


def test_mlflow_has_the_summary(run):
    folder = next((run / "mlruns").glob(f"*/{(run / 'summary/mlflow_id').read_text()}"))
    files = {file.name for file in (folder / "artifacts").iterdir()}
    assert files >= {f"{name}.csv" for name in SHOWN} | {"weights.png", "confusion_matrix.png", "examples.png"}
    assert (folder / "artifacts/report/index.html").is_file()
    assert (folder / "artifacts/model/best.ckpt").read_bytes() == (run / "sparsify/best.ckpt").read_bytes()
    stages = json.loads((run / "results.json").read_text())["stages"]
    _, value, step = (folder / "metrics/sparse/accuracy").read_text().split()
    assert (float(value), step) == (stages["sparse"]["accuracy"], "0")


def test_a_summary_that_is_logged_again_is_there_once(run):
    shown = run_summary_again(run)
    assert [one.step for one in shown["weights"]] == [0]
    folder = next((run / "mlruns").glob(f"*/{(run / 'summary/mlflow_id').read_text()}"))
    assert (folder / "metrics/sparse/accuracy").read_text().count("\n") == 1


def run_summary_again(run):
    given = ["--config", str(run / "config.yaml"), "--run_dir", str(run), "--loggers", "tensorboard,mlflow"]
    pipeline, _ = parse_pipeline(given)
    log_summary(pipeline, run, pipelines.report.content_of(Run(run)))
    return tensorboard_kept(run / "summary")


def test_names_of_loggers_are_checked():
    assert logger_names("csv,tensorboard") == ["csv", "tensorboard"]
    with pytest.raises(UserError, match=r"--loggers: there is no logger 'tensorbord'; did you mean 'tensorboard'"):
        logger_names("wandb,tensorbord")


def test_without_a_dashboard_there_is_no_folder_of_one(tmp_path):
    pipeline, content = Pipeline(phases={}, data={}, wandb=WandbConfig(mode="disabled")), Content("tiny", tmp_path, {})
    log_summary(pipeline, tmp_path, content)
    assert list(tmp_path.iterdir()) == []


def test_a_summary_that_fails_is_a_warning(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no ink")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(pipelines.summary_run, "_to_wandb", broken)
    with pytest.warns(UserWarning, match="the summary run: RuntimeError: no ink"):
        log_summary(
            Pipeline(phases={}, data={}, wandb=WandbConfig(mode="offline")), tmp_path, Content("tiny", tmp_path, {})
        )
