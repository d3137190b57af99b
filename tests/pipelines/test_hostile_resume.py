"""A run from elsewhere that is resumed, or whose phases are taken over, touches nothing outside its folder."""

import os
import shutil
from dataclasses import replace

import mlflow
import pytest
import torch
import yaml

from handful.errors import UserError
from pipelines.mlflow_run import mlflow_run
from pipelines.output_folder import output_folder
from pipelines.parse import parse_pipeline
from pipelines.phase_folder import PhaseFolder
from pipelines.runner import Runner
from pipelines.taken_phases import _copy
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config, write_config

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of one phase, killed in its second epoch, and its config."""
    folder = tmp_path_factory.mktemp("stopped")
    phase = tiny_config()["phases"]["dense"] | {"max_epochs": 2}
    phase["callbacks"] = [{"class_path": "tests.helpers.interrupt.KillAt"}]
    config = write_config(folder, phases={"dense": phase})
    os.environ["HANDFUL_KILL"] = "Dense/1/0"
    try:
        assert forked.run(["pipeline", "--config", config, "--run_dir", folder / "run"], folder / "run").status == -9
    finally:
        del os.environ["HANDFUL_KILL"]
    return folder


@pytest.fixture(scope="module")
def parsed(stopped):
    """Its config, read once."""
    return parse_pipeline(["--config", str(stopped / "tiny.yaml")])[0]


def test_a_checkpoint_that_names_files_to_be_removed(stopped, tmp_path):
    """Lightning removed what the state of `ModelCheckpoint` called the worst of the best, and folders as a whole."""
    run = tmp_path / "run"
    shutil.copytree(stopped / "run", run)
    victim = tmp_path / "precious"
    victim.mkdir()
    (victim / "file").touch()
    path = run / "dense/last.ckpt"
    content = torch.load(path, weights_only=True)
    found = [state for state in content["callbacks"].values() if "best_k_models" in state]
    assert len(found) == 2
    for state in found:
        worst = torch.tensor(1e9)
        named = f"{state['dirpath']}/../../precious"
        state.update(best_k_models={named: worst}, kth_best_model_path=named, kth_value=worst,
                     best_model_path=named, best_model_score=worst, last_model_path=named)  # fmt: skip
    torch.save(content, path)
    ended = forked.run(["pipeline", "--config", stopped / "tiny.yaml", "--run_dir", run], run)
    assert ended.status == 0, ended.text
    assert (victim / "file").exists()
    assert (run / "dense/best.ckpt").is_file()


def without(name):
    return lambda content: content.pop(name)


def with_value(*names, value):
    def change(content):
        for name in names[:-1]:
            content = content[name]
        content[names[-1]] = value

    return change


@pytest.mark.parametrize("change", [
    with_value("callbacks", value=[1, 2]), with_value("callbacks", value=None), without("callbacks"),
    lambda content: content["callbacks"].update(dict.fromkeys(content["callbacks"], 3)),
    without("optimizer_states"), with_value("optimizer_states", value="adam"), with_value("optimizer_states", value=[]),
    with_value("optimizer_states", value=[{"state": {}, "param_groups": []}]),
    with_value("optimizer_states", 0, "param_groups", value=7), with_value("optimizer_states", 0, value=None),
    without("lr_schedulers"), with_value("lr_schedulers", value=3), with_value("lr_schedulers", value=[None]),
    without("loops"), with_value("loops", value=None), with_value("loops", "fit_loop", value=[]),
    with_value("loops", "fit_loop", "epoch_progress", value=None),
    with_value("loops", "fit_loop", "epoch_progress", "current", "ready", value="three"),
    with_value("loops", "fit_loop", "epoch_progress", "current", value={}),
    with_value("loops", "fit_loop", "epoch_loop.batch_progress", "current", "completed", value=None),
    without("global_step"), with_value("global_step", value="many"), with_value("global_step", value=None),
    with_value("loops", "fit_loop", "epoch_progress", "current", "completed", value=-4),
    without("state_dict"), with_value("state_dict", value=[]),
    with_value("callbacks", value={}), with_value("lr_schedulers", value=[{}]), without("handful_resume"),
    with_value("handful_resume", value=[1]), with_value("handful_resume", value={"plateau": 3}),
    with_value("handful_resume", value={"plateau": ["x"]}), with_value("pytorch-lightning_version", value=3),
    with_value("pytorch-lightning_version", value="nine"), without("pytorch-lightning_version"),
    lambda content: content.clear(),
])  # fmt: skip
def test_entries_that_are_missing_or_of_another_kind(stopped, parsed, tmp_path, change, monkeypatch):
    """Lightning did without some of it in silence, as without the epochs that were done; other was a traceback."""
    monkeypatch.setattr(Runner, "_check", lambda *_: None)  # of the config, which the stopped run has passed
    run = tmp_path / "run"
    shutil.copytree(stopped / "run", run)
    path = run / "dense/last.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(UserError, match=r"last.ckpt: cannot be resumed from \(.*\); remove it to run the phase from"):
        Runner(replace(parsed, run_dir=str(run))).run()


def test_a_phase_that_is_a_link_to_somewhere_else(stopped, tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(stopped / "run", run)
    given = ["--config", str(stopped / "tiny.yaml"), "--run_dir", str(run)]
    outside.mkdir()
    (run / "dense/wandb").symlink_to(outside)
    with pytest.raises(UserError, match="wandb: a link that leads out of the run"):
        Runner(parse_pipeline(given)[0]).run()
    assert not list(outside.iterdir())
    (run / "dense/wandb").unlink()
    (run / "dense").rename(outside / "dense")
    (run / "dense").symlink_to(outside / "dense")
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    with pytest.raises(UserError, match=r"dense: a link that leads out of the run, to .*outside"):
        Runner(parse_pipeline(given)[0]).run()
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before


@pytest.mark.parametrize("name", ["report", "explain", "measures", "conformal", "export"])
def test_results_that_would_land_behind_a_link(tmp_path, name):
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=f"{name}: a link that leads out of the run"):
        output_folder(None, tmp_path / "run" / name)
    (tmp_path / "linked").symlink_to(tmp_path / "run")  # a run that is reached by a link is one's own affair
    assert output_folder(None, tmp_path / "linked/new") == tmp_path / "linked/new"
    assert output_folder(str(tmp_path / "run" / name), tmp_path / "run") == tmp_path / "run" / name


def test_phases_from_elsewhere_bring_no_files_from_behind_links(tmp_path):
    """Links were followed: secrets were copied, circles and devices filled the disk."""
    source, target = tmp_path / "source/dense", tmp_path / "run/dense"
    (source / "maps/cam").mkdir(parents=True)
    (source / "maps/cam/epoch_000.png").write_bytes(b"picture")
    (source / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "secret").write_text("key")
    links = {"a.txt": tmp_path / "secret", "maps/zero.png": "/dev/zero", "maps/circle": source, "all": tmp_path,
             "nothing": tmp_path / "gone", "started.json": tmp_path / "secret"}  # fmt: skip
    for name, place in links.items():
        (source / name).symlink_to(place)
    os.mkfifo(source / "maps/pipe")
    PhaseFolder(source).finish({}, {}, 1.0, 1.0)
    with pytest.warns(UserWarning, match="links, pipes and devices are not copied"):
        _copy(PhaseFolder(source), PhaseFolder(target))
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert found == ["best.ckpt", "done.json", "maps/cam/epoch_000.png"]


@pytest.mark.parametrize("place", ["file:///{outside}", "{outside}", "http://example.invalid/x", "s3://bucket/x",
                                   "file://{runs}/../../outside", "dbfs:/x"])  # fmt: skip
@pytest.mark.parametrize("of", ["run", "experiment"])
def test_mlflow_files_that_send_pictures_elsewhere(tmp_path, monkeypatch, place, of):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "run/dense"
    folder.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    logger = mlflow_run("tiny", "dense", folder, None)
    runs = tmp_path / "run/mlruns"
    file = next(runs.glob(f"*/{logger.run_id}/meta.yaml" if of == "run" else "[1-9]*/meta.yaml"))
    record, key = yaml.safe_load(file.read_text()), "artifact_uri" if of == "run" else "artifact_location"
    record[key] = place.format(outside=tmp_path / "outside", runs=runs)
    file.write_text(yaml.safe_dump(record))
    if of == "experiment":
        (folder / "mlflow_id").unlink()
    with pytest.raises(UserError, match=r"mlruns: sends files to .*, which is not in it; remove the folder"):
        mlflow_run("tiny", "dense", folder, 1 if of == "run" else None)
    assert not list((tmp_path / "outside").iterdir())
    assert not mlflow.is_tracking_uri_set()
