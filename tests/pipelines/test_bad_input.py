"""Each mistake ends in one sentence that says what and where, status 2, and earlier results stay whole."""

import errno
import re

import pytest
import torch

from handful.networks import build_classifier
from pipelines.cli import main
from pipelines.messages import condense
from tests.helpers.pipeline import write_config


def complaint(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    told = [line for line in lines if line.startswith("handful: ")]
    assert len(told) == 1
    return told[0]


@pytest.fixture
def command(tmp_path):
    return ["pipeline", "--config", write_config(tmp_path), "--run_dir", tmp_path / "run"]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--phases.dense.module.betta", "0"], r"phases.dense.module: .*'betta' is not accepted"),
        (["--phases.dens.max_epochs", "1"], r"phases.dens"),
        (["--phases.dense.max_epochs", "many"], r"phases.dense.max_epochs.*many"),
        (["--data.n_clases", "3"], r"data: .*'n_clases' is not accepted"),
        (["--trainer.acelerator", "cpu"], r"trainer.acelerator: not an argument"),
        (["--trainer.strategy", "ddp_fork"], r"trainer.strategy: ddp_fork loses"),
        (["--start_at", "polish"], r"start_at: no phase 'polish'; there are dense, sparsify, finetune, evaluate"),
        (["--phases.sparsify.module.n_features", "17"], r"phases.sparsify: n_features is 17, but the backbone has 16"),
        (["--phases.sparsify.module.features_per_class", "6"], r"phases.sparsify: features_per_class is 6, but 5"),
        (["--network.backbone", "resnet5"], r"no model 'resnet5'; did you mean"),
        (["--init_from", "nowhere.pth"], r"nowhere.pth: there is no such file of weights"),
        (["--phases.finetune.module.source", "dense"], r"dense/best.ckpt: holds no sparse classifier, but Dense"),
    ],
)
def test_mistakes(command, capsys, extra, told):
    if "source" in extra[0]:
        command += ["--phases.dense.max_epochs", "1"]
    assert re.search(told, complaint(capsys, *command, *extra))


def test_missing_config(capsys, tmp_path):
    assert "no file" in complaint(capsys, "pipeline", "--config", tmp_path / "none.yaml")


def test_unknown_command(capsys):
    assert "no command 'trane'" in complaint(capsys, "trane")


def test_checkpoint_of_another_architecture(command, capsys, tmp_path):
    wrong = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 8}}, 3)
    torch.save(wrong.backbone.state_dict(), tmp_path / "wrong.pth")
    assert "wrong.pth: a checkpoint of another architecture" in complaint(
        capsys, *command, "--init_from", tmp_path / "wrong.pth"
    )


def test_exploding_loss(command, capsys, tmp_path):
    optimizer = "--phases.dense.module.optimizer"
    told = complaint(capsys, *command, optimizer, "SGD", f"{optimizer}.lr", "1e30")
    assert "training loss became" in told
    assert "phase dense" in told
    assert not (tmp_path / "run" / "dense" / "done.json").exists()


def test_full_disk(command, capsys, tmp_path, monkeypatch):
    """A write that fails for want of room, after dense was finished: told, and dense stays."""
    import lightning_modules.sparsify as sparsify

    def no_room(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", "selection.json")

    monkeypatch.setattr(sparsify, "_write_records", no_room)
    told = complaint(capsys, *command, "--phases.dense.max_epochs", "1")
    assert "selection.json: No space left on device" in told
    assert (tmp_path / "run" / "dense" / "done.json").is_file()


def test_condensed_messages_name_the_key():
    message = (
        'Parser key "phases.dense.module":\n  Does not validate\n    - Problem with given class_path:\n'
        "        Option 'betta' is not accepted\n    - Expected a <class 'NoneType'>"
    )
    assert condense(message) == "phases.dense.module: Option 'betta' is not accepted"
