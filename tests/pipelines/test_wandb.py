"""Offline W&B runs: one a phase, in one group, readable, continued when a phase is resumed."""

import csv
import re

import pytest
import yaml

from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers import forked
from tests.helpers.logged import scalars, tensorboard_kept
from tests.helpers.pipeline import tiny_config, write_config
from tests.helpers.wandb_file import records, run_of, wait_for_end


def test_offline_runs_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    phases = {name: tiny_config()["phases"][name] for name in ("dense", "evaluate")}
    config = write_config(tmp_path, phases=phases, wandb={"mode": "auto", "project": "birds"})
    arguments = ["--config", config, "--run_dir", tmp_path / "run", "--trainer.log_every_n_steps", "1"]
    pipeline, _ = parse_pipeline([*map(str, arguments), "--phases.dense.max_epochs", "2"])
    Runner(pipeline).run()
    found = {}
    for path in (tmp_path / "run").rglob("*.wandb"):
        wait_for_end(path)
        run, settings, history = run_of(path)
        assert run.run_group == "tiny"
        assert run.project == "birds"
        assert settings["phase"] == run.job_type
        assert settings["seed"] == 0
        axes = [record.metric for record in records(path) if record.WhichOneof("record_type") == "metric"]
        assert ("*", "trainer/global_step") in [(axis.glob_name, axis.step_metric) for axis in axes]
        found[run.job_type] = (run, history)
    assert set(found) == {"dense", "evaluate"}
    run, history = found["dense"]
    assert run.display_name == "tiny-dense"
    assert run.run_id == (tmp_path / "run/dense/wandb_id").read_text()
    expected = {"val/accuracy", "val/diversity@1", "val/diversity@5", "train/loss", "trainer/global_step"}
    assert expected <= set().union(*history)
    logged = [row["val/accuracy"] for row in history if "val/accuracy" in row]
    assert logged == pytest.approx(accuracies(tmp_path))
    assert len(logged) == 2
    assert "test/dense/accuracy" in set().union(*found["evaluate"][1])


def test_a_killed_phase_resumes_in_its_own_run(tmp_path, monkeypatch):
    phases = {name: tiny_config()["phases"][name] for name in ("dense", "evaluate")}
    maps = {"class_path": "AttributionMaps", "init_args": {"methods": ["cam"], "images": 2}}
    phases["dense"]["callbacks"] += [{"class_path": "ClassFilters"}, maps]
    config = write_config(tmp_path, phases=phases, wandb={"mode": "auto", "project": "birds"})
    command = ["pipeline", "--config", config, "--run_dir", tmp_path / "run", "--loggers", "wandb,tensorboard,mlflow"]
    # WANDB_SERVICE: the helper process of an earlier test's runs, which would be taken for this one's
    for name, value in {"WANDB_MODE": "offline", "HOME": str(tmp_path), "WANDB_SERVICE": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HANDFUL_KILL", "Dense/1/2")
    assert forked.run(command, tmp_path / "run").status == -9
    monkeypatch.setenv("HANDFUL_KILL", "")
    done = forked.run(command, tmp_path / "run")
    assert done.status == 0, done.text
    assert "anonymous" not in done.text
    identity = (tmp_path / "run/dense/wandb_id").read_text()
    killed, resumed = (run_of(path) for path in sorted((tmp_path / "run/dense").rglob("*.wandb")))
    assert resumed[0].run_id == identity
    assert {row["val/accuracy"] for row in resumed[2] if "val/accuracy" in row} == set(accuracies(tmp_path)[1:])
    if killed[0] is not None:  # W&B writes in blocks: of a process that is killed, what filled none is lost
        assert killed[0].run_id == identity
        # what the killed process had told of the broken epoch, the other tells again, at the same steps
        first, second = ({row["trainer/global_step"]: row.get("train/loss") for row in r[2]} for r in (killed, resumed))
        assert all(second[step] == pytest.approx(first[step]) for step in first.keys() & second.keys())
    check_tensorboard(tmp_path / "run/dense")
    check_mlflow(tmp_path / "run")


def logged_by_csv(folder):
    """Steps and values of every measure."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "epoch")]
    return {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}


def check_tensorboard(dense):
    """One run of two files, in which every step is once, those of the broken epoch too."""
    assert len(list((dense / "tensorboard").glob("events.*"))) == 2
    kept, expected = scalars(dense / "tensorboard"), logged_by_csv(dense)
    for name in ("train/loss", "val/accuracy", "val/diversity@5", "filters/union"):
        assert kept[name] == [(step, pytest.approx(value, rel=1e-5)) for step, value in expected[name]], name
    at = [step for step, _ in expected["val/accuracy"]]
    shown = tensorboard_kept(dense)
    assert [one.step for one in shown["attribution/cam"]] == at
    assert [one.step for one in shown["class_filters"]] == at


def check_mlflow(run):
    """One run for the phase, in which every step is once."""
    experiment = next((run / "mlruns").glob("*/*/metrics")).parent.parent
    names = [yaml.safe_load(file.read_text())["run_name"] for file in experiment.glob("*/meta.yaml")]
    assert sorted(names) == ["tiny-dense", "tiny-evaluate", "tiny-summary"]
    folder = experiment / (run / "dense/mlflow_id").read_text()
    assert "status: 3" in (folder / "meta.yaml").read_text()  # finished
    expected = logged_by_csv(run / "dense")
    for name in ("train/loss", "val/accuracy", "filters/union"):
        lines = [line.split() for line in (folder / "metrics" / name).read_text().splitlines()]
        assert [(int(step), float(value)) for _, value, step in lines] == [
            (step, pytest.approx(value, rel=1e-5)) for step, value in expected[name]
        ], name
    assert len((folder / "metrics/val/diversity_at_5").read_text().splitlines()) == 3
    pictures = [re.split("[+%]", file.name)[2] for file in (folder / "artifacts/images").glob("*cam*.png")]
    at = [step for step, _ in expected["val/accuracy"]]
    assert sorted(map(int, pictures)) == at
    assert sorted(int(f.stem) for f in (folder / "artifacts/tables/class_filters").iterdir()) == at


def accuracies(folder):
    with (folder / "run/dense/metrics.csv").open() as file:
        return [float(row["val/accuracy"]) for row in csv.DictReader(file) if row["val/accuracy"]]


def test_logged_in_nowhere_means_offline_without_a_question(tmp_path, monkeypatch):
    from pipelines.config import WandbConfig
    from pipelines.loggers import _mode

    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert _mode(WandbConfig()) == "offline"
    assert _mode(WandbConfig(mode="disabled")) == "disabled"
    for asked, mode in (("dryrun", "offline"), ("online", "online"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", asked)
        assert _mode(WandbConfig()) == mode
    assert _mode(WandbConfig(mode="offline")) == "offline"  # the config goes first


def test_a_dashboard_that_cannot_be_had_is_no_reason_to_stop(tmp_path, monkeypatch):
    import wandb

    from pipelines.config import WandbConfig
    from pipelines.loggers import wandb_logger

    asked = []

    def refuse(**arguments):
        asked.append(arguments["mode"])
        raise wandb.errors.CommError("no")

    monkeypatch.setattr(wandb, "init", refuse)
    assert wandb_logger(WandbConfig(mode="online"), "run", "dense", tmp_path) is None
    assert asked == ["online", "offline"]
