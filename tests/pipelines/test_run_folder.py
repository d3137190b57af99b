"""What a phase leaves is checked by digests wherever it is read; records of other content; one run per folder."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from handful.errors import UserError
from pipelines.phase_folder import PhaseFolder
from pipelines.records import read_metrics, read_results
from pipelines.run_folder import lock, sweep, wandb_id
from tests.helpers import forked
from tests.helpers.pipeline import ROOT

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.fixture(scope="module")
def finished(tiny_run):
    return tiny_run.parent / "tiny.yaml", tiny_run


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    return ["pipeline", "--config", finished[0], "--run_dir", tmp_path / "run"], tmp_path / "run"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


DAMAGES = {"flipped": flip, "truncated": truncate, "deleted": lambda path: path.unlink()}
CASES = [("dense/best.ckpt", "flipped"), ("dense/last.ckpt", "deleted"), ("sparsify/best.ckpt", "truncated"),
         ("sparsify/layer.json", "flipped"), ("finetune/metrics.csv", "truncated"), ("finetune/best.ckpt", "deleted"),
         ("evaluate/stages.json", "deleted"), ("finetune/config.yaml", "flipped")]  # fmt: skip


@pytest.mark.parametrize(("file", "damage"), CASES)
def test_a_damaged_file_is_neither_used_nor_passed_over(copy, file, damage):
    command, run = copy
    DAMAGES[damage](run / file)
    ended = forked.run(command, run)
    why = "is missing, though the phase" if damage == "deleted" else "damaged or changed since the phase"
    assert ended.status == 2
    assert re.search(rf"{file}: {why} finished.*--start_at {file.split('/')[0]} to run the phase again", ended.text)


@pytest.mark.parametrize("name", ["report", "test", "predict", "explain", "tradeoff"])
def test_every_command_checks_what_it_reads(copy, name):
    _, run = copy
    for file in ("dense/best.ckpt", "finetune/best.ckpt"):
        flip(run / file)
    Image.new("RGB", (24, 24)).save(run / "bird.png")
    arguments = ["--images", run / "bird.png"] if name == "explain" else []
    ended = forked.run([name, "--run_dir", run, *arguments], run)
    assert ended.status == 2
    assert re.search(r"(dense|finetune)/best\.ckpt: damaged or changed since the phase finished", ended.text)


def test_what_is_not_read_is_reported(copy):
    _, run = copy
    (run / "dense/last.ckpt").unlink()
    ended = forked.run(["test", "--run_dir", run], run)
    assert ended.status == 0, ended.text
    assert "dense/last.ckpt: is missing, though the phase finished with it" in ended.text


def test_a_damaged_phase_that_is_redone_is_no_obstacle(copy):
    command, run = copy
    flip(run / "finetune/best.ckpt")
    assert forked.run([*command, "--start_at", "finetune"], run).status == 0


OTHER = {"a list": b"[1]", "null": b"null", "half": b'{"config": {', "empty": b"", "latin-1": b'{"config": "\xe4"}',
         "no keys": b"{}", "nested": b"[" * 100_000, "text": b'"x"',
         "types": b'{"config": [], "made_from": 1, "seconds": "x", "peak_memory_mib": null}'}  # fmt: skip


@pytest.mark.parametrize("content", OTHER)
def test_records_that_hold_something_else(content, tmp_path):
    folder = PhaseFolder(tmp_path / "dense")
    folder.path.mkdir()
    for file, read in ((folder.done_file, folder.done), (folder.started_file, folder.started),
                       (tmp_path / "results.json", lambda: read_results(tmp_path))):  # fmt: skip
        file.write_bytes(RESULTS.get(content, OTHER[content]) if file.name == "results.json" else OTHER[content])
        with pytest.raises(UserError, match=rf"{file.name}: .*; remove it"):
            read()
    folder.stages_file.write_bytes(OTHER[content])
    if content != "no keys":
        with pytest.raises(UserError, match=r"stages\.json: .*--start_at dense"):
            folder.stages()


def test_a_changed_digit_in_a_record_is_noticed(copy):
    command, run = copy
    record = run / "dense/done.json"
    record.write_text(record.read_text().replace('"seconds": ', '"seconds": 9', 1))
    assert "dense/done.json: damaged or changed since it was written; remove it" in forked.run(command, run).text


RESULTS = {"no keys": b"0", "types": b'{"stages": {"dense": [1]}}'}
METRICS = [b"a,b\n1,2\n", b"step,x\n1,zebra\n", b"step\n1,2\n", b"step\n\xff\n", b'step\n"1\n']


@pytest.mark.parametrize("content", METRICS)
def test_metrics_of_other_content(content, tmp_path):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv: .*; remove it"):
        read_metrics(tmp_path / "metrics.csv", "remove it")


def test_an_identity_that_is_none_is_replaced(tmp_path):
    (tmp_path / "wandb_id").write_bytes(b"\xff\x00/..")
    with pytest.warns(UserWarning, match="holds no identity"):
        identity = wandb_id(tmp_path)
    assert wandb_id(tmp_path) == identity


def test_two_runs_in_one_folder(copy):
    command, run = copy
    code = "import sys; from pathlib import Path; from pipelines.run_folder import lock\n"
    code += "with lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    environment, pipe = os.environ | {"PYTHONPATH": str(ROOT)}, subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, run], stdin=pipe, stdout=pipe, env=environment) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            ended = forked.run(command, run)
        finally:
            holder.kill()
    assert ended.status == 2
    assert re.search(rf"run: process {holder.pid} on \S+ is running in this folder; wait .* --run_dir", ended.text)
    assert forked.run(command, run).status == 0  # the kernel has released it
    assert not (run / ".lock").exists()


def test_a_lock_is_released_and_leaves_nothing(tmp_path):
    for _ in range(2):
        with lock(tmp_path):
            assert (tmp_path / ".lock").exists()
        assert list(tmp_path.iterdir()) == []


def test_drafts_and_old_versions_are_swept(copy):
    command, run = copy
    inside = ("best.ckpt", "class_filters/x.csv")
    for draft in ("results.json.7.tmp", "report/index.html.7.tmp", *(f"dense/{name}.7.tmp" for name in inside)):
        (run / draft).parent.mkdir(exist_ok=True)
        (run / draft).write_bytes(b"half")
    shutil.copytree(run / "dense", run / "dense.replaced")
    assert forked.run(command, run).status == 0
    assert not list(run.rglob("*.tmp"))
    assert not (run / "dense.replaced").exists()
    (run / "dense.replaced").mkdir()
    (run / "dense/done.json").unlink()
    sweep(run, ["dense"])
    assert (run / "dense.replaced").exists()  # the only finished version


def test_a_digest_is_computed_once(tmp_path, monkeypatch):
    import hashlib

    from handful.file_digest import file_digest

    (tmp_path / "x").write_bytes(b"a")
    first = file_digest(tmp_path / "x")
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: pytest.fail("computed again"))
    assert file_digest(tmp_path / "x") == first
    monkeypatch.undo()
    changed = (tmp_path / "x").stat().st_mtime_ns + 1
    (tmp_path / "x").write_bytes(b"b")
    os.utime(tmp_path / "x", ns=(changed, changed))  # a file's clock ticks every few milliseconds
    assert file_digest(tmp_path / "x") != first


def test_results_say_what_they_are_made_of(finished):
    record = json.loads((finished[1] / "dense/done.json").read_text())
    assert {"best.ckpt", "last.ckpt", "metrics.csv", "config.yaml"} <= set(record["files"])
