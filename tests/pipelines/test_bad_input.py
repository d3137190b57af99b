"""Each mistake ends in one sentence that says what and where, status 2, and earlier results stay whole."""

import errno
import os
import re
import shutil

import pytest
import torch
import yaml

from handful.networks import build_classifier
from lightning_modules.checkpoints import write_tensors
from pipelines.build import build_datamodule
from pipelines.cli import main
from pipelines.option_parser import condense
from tests.helpers import forked
from tests.helpers.finished_run import forget_digests
from tests.helpers.full_disk import with_full_disk
from tests.helpers.pipeline import tiny_config, write_config


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
        (["--phases.dense.module.betta", "0"], r"module.betta: there is no such option; did you mean .*module.beta'"),
        (["--phases.dens.max_epochs", "1"], r"phases.dens"),
        (["--phases.dense.max_epochs", "many"], r"phases.dense.max_epochs.*many"),
        (["--data.n_clases", "3"], r"data.n_clases: there is no such option; did you mean '--data.n_classes'"),
        (
            ["--trainer.acelerator", "cpu"],
            r"trainer.acelerator: there is no such option; did you mean '--trainer.accelerator'",
        ),
        (["--trainer.strategy", "ddp_fork"], r"trainer.strategy: ddp_fork loses"),
        (["--start_at", "polish"], r"start_at: no phase 'polish'; there are dense, sparsify, finetune, evaluate"),
        (["--phases.sparsify.module.n_features", "17"], r"phases.sparsify: n_features is 17, but the backbone has 16"),
        (["--phases.sparsify.module.features_per_class", "6"], r"phases.sparsify: features_per_class is 6, but 5"),
        (["--network.backbone", "resnet5"], r"no model 'resnet5'; did you mean"),
        (["--phases.finetune.monitor", "val/acuracy"], r"phases.finetune.monitor: .*; did you mean 'val/accuracy'\?"),
        (["--phases.dense.monitor", "accuracy"], r"phases.dense.monitor: .*; did you mean 'val/accuracy'\?"),
        (["--phases.dense", "x"], r"--phases.dense: a group of options; give those in it, --phases.dense.callbacks"),
        (["--init_from", "nowhere.pth"], r"nowhere.pth: there is no such file of weights"),
        (["--phases.finetune.module.source", "dense"], r"a sparse classifier; 'dense' leaves none; there are sparsify"),
        (["--phases.finetune.module.source", "nowhere"], r"phases.finetune: needs .*; no 'nowhere' is before it"),
        (["--phases.evaluate.module.stages", "{dense: dens}"], r"phases.evaluate: .*'dens'.*did you mean 'dense'"),
        (["--trainer.devices", "99"], r"trainer.devices: 99 processes on \d+ cores; take at most"),
        (["--phases.dense.max_epochs", "0"], r"phases.dense.max_epochs is 0, but there are no weights"),
        (["--trainer.max_epochs", "3"], r"trainer.max_epochs: not an argument"),
        (["--phases.dense.trainer", "{devices: 2}"], r"phases.dense.trainer.devices: all phases run on the same"),
        (["--trainer.devices", "two"], r"trainer.devices: the Trainer refuses 'two'"),
        (["--trainer.precision", "17"], r"trainer.precision: .*17"),
        (["--wandb.mode", "onlin"], r"wandb"),
        (["--network.dropout", "1.5"], r"network.dropout: a probability"),
        (["--network.options", "{widht: 4}"], r"network.options: cifar_resnet20 takes width, in_chans only"),
        (["--network.backbone", "resnet18.typo"], r"network: resnet18.typo cannot be built"),
        (["--phases.dense.module.optimizer.lr", "-1"], r"phases.dense: the optimizer or its schedule cannot be built"),
        (["--phases.dense.data", "{batch_sise: 4}"], r"batch_sise"),
        (["--phases.dense.monitor", "val/acuracy"], r"val/acuracy"),
        (["--data.image_size", "8"], r"^handful: data: size must be at least 16 pixels, not 8"),
        (["--data.batch_size", "0"], r"^handful: data.batch_size must be at least 1"),
        (["--data.n_classes", "1"], r"^handful: data: .*class"),
        (["--data.deciding_parts", "[nose]"], r"^handful: data: .*nose"),
        (["--data.normalisation", "{mean: [0, 0], std: [1, 1]}"], r"^handful: data"),
        (["--phases.dense.callbacks", "[{class_path: AttributionMaps, init_args: {methods: [bogus]}}]"], r"bogus"),
        (["--phases.dense.module.label_smoothing", "2"], r"phases.dense: label_smoothing: in \[0, 1\), not 2"),
        (["--phases.dense.callbacks", "[{class_path: EarlyStopping, init_args: {monitor: val/nope}}]"], r"val/nope"),
        (["--network.backbone", "resnet18", "--network.options", "{act_layer: os.system}"], r"act_layer='os.system'"),
        (["--network.options", "{width: -3}"], r"network.options: cifar_resnet20 cannot be built"),
        (["--seed", "-1"], r"--seed: at least 0, not -1"),
        (["--seed", "4294967296"], r"seed: from 0 to"),
        (["--phases.dense.max_epochs", "-1"], r"phases.dense.max_epochs: at least 0, not -1"),
        (["--phases.sparsify.module.alpha", "2"], r"phases.sparsify: alpha: in \[0, 1\], not 2"),
        (["--phases.sparsify.module.n_lambdas", "0"], r"phases.sparsify: n_lambdas: at least 2 points"),
        (["--trainer.precision", "bf16-true"], r"trainer.precision: bf16-true .* take bf16-mixed"),
        (["--trainer.devices", "10", "--trainer.strategy", "ddp"], r"10 processes, but only 9 val images"),
    ],
)
def test_mistakes(command, capsys, extra, told):
    if "source" in extra[0] or "monitor" in extra[0]:
        command += ["--phases.dense.max_epochs", "1"]
    assert re.search(told, complaint(capsys, *command, *extra))


@pytest.fixture(scope="module")
def dense_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    config = write_config(folder, phases={"dense": tiny_config()["phases"]["dense"]})
    main(["pipeline", "--config", str(config), "--run_dir", str(folder / "run"), "--phases.dense.max_epochs", "1"])
    return folder / "run"


def test_random_weights_are_not_measured(dense_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("test", "validate", "predict"):
        told = complaint(capsys, command, "--config", dense_run / "dense/config.yaml")
        assert f"{command}: no weights but random ones; give --run_dir RUN, --ckpt_path FILE or" in told
    told = complaint(
        capsys, "test", "--config", dense_run / "dense/config.yaml", "--model.init_from", tmp_path / "none.pth"
    )
    assert "none.pth: there is no such file of weights" in told


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda file: file.write_bytes(b"garbage"), r"best\.ckpt: not a checkpoint written by Handful"),
        (lambda file: write_tensors({"state_dict": {}}, file), r"best\.ckpt: a checkpoint of another architecture"),
    ],
)
def test_broken_checkpoints_of_a_run(dense_run, capsys, tmp_path, damage, told):
    copy = shutil.copytree(dense_run, tmp_path / "run")
    damage(copy / "dense/best.ckpt")
    assert re.search("best.ckpt: damaged or changed since", complaint(capsys, "test", "--run_dir", copy))
    forget_digests(copy)  # a run of an older version
    assert re.search(told, complaint(capsys, "test", "--run_dir", copy))


def test_a_checkpoint_that_is_not_there(dense_run, capsys, tmp_path):
    told = complaint(capsys, "test", "--config", dense_run / "dense/config.yaml", "--ckpt_path", tmp_path / "none.ckpt")
    assert "none.ckpt: there is no such checkpoint" in told


@pytest.mark.parametrize("text", ["name: [", "name: run", "- 1"])
def test_a_broken_config_of_a_run(dense_run, capsys, tmp_path, text):
    copy = shutil.copytree(dense_run, tmp_path / "run")
    (copy / "config.yaml").write_text(text)
    assert "config.yaml: not" in complaint(capsys, "report", "--run_dir", copy)


def test_single_commands_leave_a_run_as_it_was(dense_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = (dense_run / "dense/config.yaml").read_bytes()
    for command in ("predict", "test", "predict", "validate"):
        main([command, "--run_dir", str(dense_run), f"--trainer.limit_{command.replace('idate', '')}_batches", "1"])
    assert (dense_run / "dense/config.yaml").read_bytes() == config
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_the_single_commands(dense_run, capsys):
    assert "batch_size must be at least 1" in complaint(
        capsys, "test", "--run_dir", dense_run, "--data.batch_size", "0"
    )
    fit = ("fit", "--config", dense_run / "dense/config.yaml")
    assert "no model 'nope'" in complaint(capsys, *fit, "--model.network", "{backbone: nope}")


def test_a_place_that_cannot_be_written(dense_run, capsys):
    assert "/proc/x: No such file" in complaint(capsys, "report", "--run_dir", dense_run, "--out", "/proc/x")


def test_missing_config(capsys, tmp_path):
    assert "no file" in complaint(capsys, "pipeline", "--config", tmp_path / "none.yaml")


def test_arguments_that_a_class_of_lightning_refuses(command, capsys):
    average = "[{class_path: EMAWeightAveraging, init_args: {decay: 1e300}}]"
    told = complaint(capsys, *command, "--phases.dense.callbacks", average)
    assert "EMAWeightAveraging refuses its arguments: Invalid decay value 1e+300" in told


@pytest.mark.parametrize("option", ["strategy=nowhere", "precision=17", "devices=two", "accelerator=abacus"])
def test_trainer_arguments_of_a_single_command(dense_run, capsys, option):
    assert "handful: " in complaint(capsys, "test", "--run_dir", dense_run, f"--trainer.{option}")


@pytest.mark.parametrize("network", ["[{backbone: x}]", "7", "[a, b]"])
def test_a_network_that_is_no_mapping(tmp_path, capsys, network):
    config = write_config(tmp_path, network=yaml.safe_load(network))
    assert "network" in complaint(capsys, "pipeline", "--config", config, "--run_dir", tmp_path / "run")


def test_what_was_pasted_into_a_command_is_shortened(capsys):
    told = complaint(capsys, "x" * 20_000)
    assert len(told) < 1000
    assert "there are pipeline" in told


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
    assert "training loss is no longer a number (epoch 0, step" in told
    assert "phase dense" in told
    assert not (tmp_path / "run" / "dense" / "done.json").exists()


def test_a_run_folder_that_is_a_file(command, capsys, tmp_path):
    (tmp_path / "run").write_text("")
    assert "run" in complaint(capsys, *command)


def test_full_disk(tmp_path):
    """The system refuses to let a file grow beyond 40 KiB: the checkpoint of dense cannot be written."""
    build_datamodule(tiny_config()["data"]).setup()  # the pictures are in the cache already
    command = ["pipeline", "--config", write_config(tmp_path), "--run_dir", tmp_path / "run"]

    def run():
        ended = forked.run(command, tmp_path / "run")
        assert ended.status == 2, ended.text
        sentence = r"handful: \S+dense/(best|last)\.ckpt: File too large; results written before stay"
        assert re.search(sentence, ended.text), ended.text

    with_full_disk(run, 40 * 1024)
    assert not list((tmp_path / "run/dense").glob("*.ckpt*"))


def test_a_write_that_fails_leaves_the_file_before(tmp_path, monkeypatch):
    write_tensors({"a": torch.ones(2)}, tmp_path / "x.ckpt")

    def no_room(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match=r"No space left on device.*x\.ckpt"):
        write_tensors({"a": torch.zeros(2)}, tmp_path / "x.ckpt")
    assert torch.equal(torch.load(tmp_path / "x.ckpt", weights_only=True)["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_condensed_messages_name_the_key():
    message = (
        'Parser key "phases.dense.module":\n  Does not validate\n    - Problem with given class_path:\n'
        "        Option 'betta' is not accepted\n    - Expected a <class 'NoneType'>"
    )
    assert condense(message) == "phases.dense.module: Option 'betta' is not accepted"
