"""`export` and `push` of a run."""

import re

import pytest
import torch

import handful
from handful.errors import UserError
from pipelines.cli import main
from pipelines.export import export, push
from pipelines.finished_run import Run
from tests.helpers.finished_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def test_the_command_writes_a_folder_that_loads_as_the_run(run, tmp_path, capsys):
    main(["export", "--run_dir", str(run), "--out", str(tmp_path / "model")])
    assert f"written to {tmp_path / 'model/model.safetensors'}" in capsys.readouterr().out
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(handful.load(tmp_path / "model")(images), Run(run).load("finetune").model.eval()(images))
    dense = export(str(run), stage="dense", out=str(tmp_path / "dense")).parent
    assert handful.load(dense).head.kind == "dense"
    assert "stage dense" in (dense / "README.md").read_text()


def test_a_dry_run_of_push_says_what_would_be_sent_and_sends_nothing(run, tmp_path, capsys, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("the Hub was asked"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/diary.txt").write_text("not for the Hub")
    assert push(str(run), "somebody/birds", out=str(tmp_path / "out"), dry_run=True) == tmp_path / "out"
    said = capsys.readouterr().out
    for name in ("README.md", "config.json", "model.safetensors"):
        assert f"would upload {name}" in said
    assert re.search(r"config\.json  \d\.\d KiB  to", said)  # no file is of no size
    assert "diary" not in said


def test_a_push_that_cannot_be_is_one_sentence(run, tmp_path, monkeypatch):
    for name in ("birds", "a/b/c", "so me/birds"):
        with pytest.raises(UserError, match="--repo_id"):
            push(str(run), name, out=str(tmp_path), dry_run=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"push: nothing is sent while HF_HUB_OFFLINE is set; unset it; .*is ready"):
        push(str(run), "somebody/birds", out=str(tmp_path))
