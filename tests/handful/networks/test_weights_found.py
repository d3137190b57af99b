"""Files of weights: found in folders, read one level down, and refused with what to do where they need a class."""

import argparse
import json

import numpy as np
import pytest
import torch
from torch import nn

from handful.errors import UserError
from handful.networks import build_classifier, load_weights
from handful.tensor_files import find_tensors, read_tensors

NETWORK = {"backbone": "conv4", "options": {"width": 4}}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return build_classifier(NETWORK, 3).state_dict()


def equal(classifier, state):
    return all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},
        lambda s: {"model_state_dict": s, "loss": torch.tensor(0.5)},
        lambda s: {"net": s, "acc": 93.1},
        lambda s: {"anything": s, "step": 1},
        lambda s: {"model": s, "model_ema": {k: v + 1 for k, v in s.items()}},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
        lambda s: {"model": {f"module.model.{k}": v for k, v in s.items()}},
    ],
)
def test_tensors_one_level_down_and_behind_prefixes(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "weights.pth")
    classifier = build_classifier(NETWORK, 3)
    assert load_weights(classifier, tmp_path / "weights.pth")
    assert equal(classifier, state)


def test_several_networks_in_one_file_are_not_guessed(tmp_path, state):
    torch.save({"teacher": state, "student": state}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"tensors of several networks \(teacher, student\)"):
        load_weights(build_classifier(NETWORK, 3), tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["best.ckpt", "last.ckpt", "epoch_000.ckpt"], "best.ckpt"),
        (["weights.pth", "notes.txt"], "weights.pth"),
        (["checkpoints/epoch=3-step=8.ckpt", "hparams.yaml"], "checkpoints/epoch=3-step=8.ckpt"),
        (["dense/best.ckpt", "dense/last.ckpt", "sparsify/layer.json"], "dense/best.ckpt"),
        (["last.ckpt", "old/best.ckpt"], "last.ckpt"),
    ],
)
def test_the_file_that_a_folder_means(tmp_path, state, files, taken):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save(state, tmp_path / name)
    assert find_tensors(tmp_path) == tmp_path / taken
    classifier = build_classifier(NETWORK, 3)
    assert load_weights(classifier, tmp_path)
    assert equal(classifier, state)


def test_folders_that_mean_no_file(tmp_path):
    with pytest.raises(UserError, match=r"a folder without a file of weights \(.ckpt, .pth"):
        find_tensors(tmp_path)
    for name in ("a/best.ckpt", "b/best.ckpt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"holds 2 files of weights; give one of them: a/best.ckpt, b/best.ckpt"):
        find_tensors(tmp_path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"model": nn.Linear(2, 2)}, "torch.nn.modules.linear.Linear"),
        ({"state_dict": {}, "args": argparse.Namespace(a=1)}, "argparse.Namespace"),
        ({"best": np.float64(1.0)}, "numpy.*scalar"),
    ],
)
def test_what_needs_a_class_says_which_and_what_to_do(tmp_path, content, name):
    torch.save(content, tmp_path / "model.pth")
    for ours in (True, False):
        with pytest.raises(UserError, match=rf"model\.pth: .*it needs the class .*{name}.*save its tensors alone"):
            read_tensors(tmp_path / "model.pth", ours)


def test_a_torchscript_archive(tmp_path):
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(UserError, match="a TorchScript archive, which holds code; save its tensors"):
        read_tensors(tmp_path / "model.pt")


def test_weights_of_a_finished_phase_that_were_damaged_since(tmp_path, state):
    torch.save(state, tmp_path / "best.ckpt")
    record = {"files": {"best.ckpt": {"size": 1, "sha256": "0" * 64}}}
    (tmp_path / "done.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="damaged or changed since the phase finished"):
        load_weights(build_classifier(NETWORK, 3), tmp_path)
    (tmp_path / "done.json").write_text('{"files": ')
    with pytest.raises(UserError, match=r"done\.json: not a JSON file"):
        load_weights(build_classifier(NETWORK, 3), tmp_path)
