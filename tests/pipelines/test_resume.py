"""A training that was killed ends as the uninterrupted one, however it ends, and wherever it is killed."""

import json
import os
import re
import shutil
import sys

import pytest
import torch
import yaml

from lightning_modules import Finetune
from lightning_modules.schedules import follows_length
from tests.helpers import forked
from tests.helpers.pipeline import ROOT, tiny_config, write_config

pytestmark = pytest.mark.usefixtures("without_report")


def stop_at(epoch, batch):
    return {"class_path": "tests.helpers.interrupt.StopAt", "init_args": {"epoch": epoch, "batch": batch}}


PLATEAU = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau", "init_args": {
    "patience": 0, "factor": 0.1, "threshold": 100}}  # fmt: skip
STOPS = {
    "early stopping": {"callbacks": [{"class_path": "EarlyStopping", "init_args": {
        "monitor": "val/loss", "patience": 1, "min_delta": 100}}], "max_epochs": 6},
    "a callback in the middle of an epoch": {"callbacks": [stop_at(1, 1)], "max_epochs": 6},
    "not before min_epochs": {"callbacks": [stop_at(0, 0)], "max_epochs": 6, "trainer": {"min_epochs": 3}},
    "max_steps": {"trainer": {"max_steps": 6}, "max_epochs": 6},
    "max_epochs": {"max_epochs": 2},
    "max_time": {"trainer": {"max_time": "00:00:00:01"}, "max_epochs": 1000},
    "plateau": {"max_epochs": 3, "module": {"class_path": "Dense", "init_args": {
        "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.05}}, "lr_scheduler": PLATEAU}}},
}  # fmt: skip


def small(folder, dense):
    """A run of the dense phase alone, with one change."""
    phase = tiny_config()["phases"]["dense"]
    callbacks = [c for c in phase["callbacks"] if "Kill" in c["class_path"]] + dense.get("callbacks", [])
    return write_config(folder, phases={"dense": {**phase, **dense, "callbacks": callbacks}})


def command(config, run):
    return ["pipeline", "--config", config, "--run_dir", run]


def state(run):
    """Everything that must be equal: weights, the optimizer's state, epochs and steps, by file."""
    files = {}
    for path in sorted(run.rglob("*.ckpt")):
        content = torch.load(path, weights_only=True)
        kept = ("state_dict", "optimizer_states", "epoch", "global_step")
        files[str(path.relative_to(run))] = {k: content[k] for k in kept if k in content}
    return files


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The config of a training and its uninterrupted run, made once, by what ends it."""
    found = {}

    def made(how):
        if how not in found:
            folder = tmp_path_factory.mktemp("whole")
            config, run = small(folder, STOPS[how]), folder / "run"
            assert forked.run(command(config, run), run).status == 0
            found[how] = config, run
        return found[how]

    return made


@pytest.mark.parametrize("how", STOPS)
def test_a_training_that_had_ended_does_not_train_on(how, whole, tmp_path):
    """Killed before `done.json`: nothing is trained, whatever has ended the training."""
    config, run = whole(how)[0], tmp_path / "run"
    shutil.copytree(whole(how)[1], run)
    expected, rows = state(run), (run / "dense/metrics.csv").read_text()
    (run / "dense/done.json").unlink()
    again = forked.run(command(config, run), run)
    assert again.status == 0, again.text
    assert same(state(run), expected)
    assert (run / "dense/metrics.csv").read_text() == rows
    assert (run / "dense/done.json").is_file()


@pytest.mark.parametrize("how", ["early stopping", "not before min_epochs", "plateau"])
def test_killed_in_the_second_epoch(how, whole, tmp_path, monkeypatch):
    config, uninterrupted = whole(how)
    for kill in ("Dense/1/1", ""):
        monkeypatch.setenv("HANDFUL_KILL", kill)
        assert forked.run(command(config, tmp_path / "run"), tmp_path / "run").status == (-9 if kill else 0)
    assert same(state(tmp_path / "run"), state(uninterrupted))


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("INT", 1)])
def test_a_training_that_a_signal_stops_does_not_end_as_if_it_had_finished(
    name, status, whole, tmp_path, monkeypatch
):
    """SIGTERM ended with status 0, so that whatever waited for the run went on; both are resumed to the same end."""
    config, uninterrupted = whole("max_epochs")
    monkeypatch.setenv("HANDFUL_KILL", f"Dense/1/1/SIG{name}")
    stopped = forked.run(command(config, tmp_path / "run"), tmp_path / "run")
    assert stopped.status == status, stopped.text
    assert "Traceback" not in stopped.text
    assert not (tmp_path / "run/dense/done.json").exists()
    if name == "TERM":
        assert "handful: stopped by SIGTERM; the same command resumes a pipeline" in stopped.text
    monkeypatch.setenv("HANDFUL_KILL", "")
    assert forked.run(command(config, tmp_path / "run"), tmp_path / "run").status == 0
    assert same(state(tmp_path / "run"), state(uninterrupted))


def test_a_flipped_bit_in_what_a_killed_phase_left(tmp_path, monkeypatch):
    """It has no digests yet, and torch reads it without a look at its check sums."""
    config, run = small(tmp_path, {"max_epochs": 2}), tmp_path / "run"
    monkeypatch.setenv("HANDFUL_KILL", "Dense/1/0")
    assert forked.run(command(config, run), run).status == -9
    monkeypatch.setenv("HANDFUL_KILL", "")
    file = run / "dense/last.ckpt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused = forked.run(command(config, run), run)
    assert refused.status == 2
    assert "last.ckpt: damaged since it was written" in refused.text
    assert "remove it, and dense runs from its beginning" in refused.text
    file.unlink()
    assert forked.run(command(config, run), run).status == 0


def test_what_a_phase_resumes_from_is_read_once(whole, tmp_path, monkeypatch):
    """Its weights, its step and Lightning's own reading each read the file, and its check sums were looked at twice."""
    (config, first), run, reads = whole("max_epochs"), tmp_path / "run", tmp_path / "reads"
    given = [*command(config, run), "--init_from", first / "dense/best.ckpt"]
    monkeypatch.setenv("HANDFUL_KILL", "Dense/1/0")
    assert forked.run(given, run).status == -9

    def work():
        file = os.open(reads, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        last = str(run / "dense/last.ckpt")

        def hook(event, details):
            if event == "open" and str(details[0]) == last:
                os.write(file, b".")

        sys.addaudithook(hook)
        forked._child([str(part) for part in given], run, None, tmp_path / "log", None)

    assert forked.wait([forked.fork(work)], forked.LONGEST) == [-9]
    assert reads.stat().st_size == 3  # its check sums, its list of parts, and its content


def test_a_folder_moved_between_two_attempts(tmp_path, monkeypatch):
    """`best.ckpt` stays the best epoch's, though the folder has another name."""
    config = small(tmp_path, {"max_epochs": 3, "monitor": "val/loss"})
    assert forked.run(command(config, tmp_path / "whole"), tmp_path / "whole").status == 0
    monkeypatch.setenv("HANDFUL_KILL", "Dense/2/0")
    assert forked.run(command(config, tmp_path / "before"), tmp_path / "before").status == -9
    monkeypatch.setenv("HANDFUL_KILL", "")
    shutil.move(tmp_path / "before", tmp_path / "after")
    assert forked.run(command(config, tmp_path / "after"), tmp_path / "after").status == 0
    assert same(state(tmp_path / "after"), state(tmp_path / "whole"))
    best = json.dumps(_scores(tmp_path / "after"))
    assert best == json.dumps(_scores(tmp_path / "whole"))


def _scores(run):
    callbacks = torch.load(run / "dense/last.ckpt", weights_only=True)["callbacks"]
    return [float(v["best_model_score"]) for k, v in callbacks.items() if "'monitor': 'val/loss'" in k]


def test_more_epochs_continue_a_finished_training(tmp_path):
    """Two epochs and then four are the four of one training; what stands on them runs again."""
    phases = tiny_config()["phases"]
    phases = {name: phases[name] for name in ("dense", "evaluate")}
    config = write_config(tmp_path, phases=phases)
    longer = ["--phases.dense.max_epochs", "4"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert forked.run([*command(config, whole), *longer], whole).status == 0
    assert forked.run(command(config, run), run).status == 0
    continued = forked.run([*command(config, run), *longer], run)
    assert continued.status == 0, continued.text
    assert same(state(run), state(whole))
    assert json.loads((run / "results.json").read_text())["stages"] == (
        json.loads((whole / "results.json").read_text())["stages"]
    )
    assert (run / "dense/metrics.csv").read_text() == (whole / "dense/metrics.csv").read_text()
    shorter = forked.run(command(config, run), run)
    assert shorter.status == 2
    assert re.search(r"dense: finished with another max_epochs \(4, now 3\); give --start_at dense", shorter.text)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"callbacks": [{"class_path": "KeepCheckpoints"}]},
            "what KeepCheckpoints does depends on the number of epochs",
        ),
        (
            {"module": {"class_path": "Dense", "init_args": {"lr_scheduler": {
                "class_path": "lightning_modules.WarmupCosine", "init_args": {"warmup": 0.2}}}}},
            "the learning rate falls over all epochs",
        ),
    ],
)  # fmt: skip
def test_more_epochs_are_refused_where_the_training_depends_on_their_number(tmp_path, changes, why):
    config, run = small(tmp_path, {**changes, "max_epochs": 1}), tmp_path / "run"
    assert forked.run(command(config, run), run).status == 0
    refused = forked.run([*command(config, run), "--phases.dense.max_epochs", "2"], run)
    assert refused.status == 2
    assert f"cannot be continued: {why}" in refused.text


def test_the_example_of_more_epochs_is_one_that_continues():
    (line,) = [line for line in (ROOT / "README.md").read_text().splitlines() if line.rstrip().endswith("3 more")]
    config, phase, epochs, before = re.search(
        r"--config (\S+) --phases\.(\w+)\.max_epochs (\d+)\s+# (\d+) are done", line
    ).groups()
    found = yaml.safe_load((ROOT / config).read_text())["phases"][phase]
    assert found["max_epochs"] == int(before) == int(epochs) - 3
    assert not follows_length(found["module"]["init_args"]["lr_scheduler"])
    assert not Finetune.depends_on_length
