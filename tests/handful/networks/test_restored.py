"""Checkpoints that anybody may have written: one sentence, little memory, no other numbers, at both doors."""

import resource

import pytest
import torch

import handful
from handful.errors import UserError
from handful.networks import build_classifier, build_head
from handful.networks.description import KEY
from lightning_modules import Dense, Finetune, load_module, save_module

NETWORK = {"backbone": "conv4", "options": {"width": 4}}


def put(*path):
    """Put the last argument at the end of the path."""
    *keys, last, value = path

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


def every_tensor(change):
    return lambda content: content.update(state_dict={name: change(v) for name, v in content["state_dict"].items()})


OF_CLASSIFIERS = {
    "a vast head": (put(KEY, "head", {"kind": "dense", "num_features": 10**9, "num_classes": 10**6}), "larger|cannot"),
    "a head of 3 GB": (put(KEY, "head", {"kind": "dense", "num_features": 30000, "num_classes": 30000}), "larger than"),
    "a vast backbone": (put(KEY, "network", "options", {"width": 100_000}), "larger than|cannot be built"),
    "a head that is a list": (put(KEY, "head", [1]), "head: a kind with its arguments"),
    "a kind that is a list": (put(KEY, "head", {"kind": ["dense"]}), "head: no kind"),
    "a head below zero": (put(KEY, "head", "num_classes", -3), "cannot be built"),
    "classes in words": (put(KEY, "head", "num_classes", "3"), "cannot be built"),
    "a network that is a list": (put(KEY, "network", [1]), "not the description of a classifier"),
    "inputs of numbers": (put(KEY, "inputs", "class_names", [1, 2, 3]), "class_names must be a list of names"),
    "images of a gigapixel": (put(KEY, "inputs", "image_size", 10**5), "image_size must be a number of pixels up to"),
    "a mean in words": (put(KEY, "inputs", "mean", "abc"), "mean must be a list of three numbers"),
    "a deviation of zero": (put(KEY, "inputs", "std", [0.0] * 3), "std must be above 0"),
    "another fit": (put(KEY, "inputs", "fit", "melt"), "fit: "),
}
OF_MODULES = {
    "arguments that are a list": (put("hyper_parameters", [1]), "hyper_parameters"),
    "vastly many classes": (put("hyper_parameters", "num_classes", 10**9), "larger than|cannot be built"),
    "an unknown argument": (put("hyper_parameters", "colour", 3), "cannot be built"),
    "a module that is a list": (put("handful_module", ["Dense"]), "a module that is not known"),
}
OF_TENSORS = {
    "a list": (put("state_dict", [1]), "no tensors by name|not a checkpoint"),
    "words": (every_tensor(lambda value: "x"), "no tensor of real numbers"),
    "complex numbers": (every_tensor(lambda value: value.to(torch.complex64)), "no tensor of real numbers"),
    "one number for many": (every_tensor(lambda value: value.new_zeros(1).expand(10**6, 10**6)), "do not fit"),
    "sparse": (every_tensor(lambda value: value.to_sparse()), "no tensor of real numbers"),
    "features beyond the last": (
        lambda content: every_tensor(lambda v: v + 100 if v.dtype == torch.int64 and v.ndim else v)(content),
        "selection: 10[0-9] lies outside",
    ),
    "features below the first": (
        lambda content: every_tensor(lambda v: v - 2 if v.dtype == torch.int64 and v.ndim else v)(content),
        "selection: -2 lies outside",
    ),
    "a feature twice": (
        lambda content: every_tensor(lambda v: v * 0 if v.dtype == torch.int64 and v.ndim else v)(content),
        "a feature is selected twice",
    ),
}


def saved(path):
    model = build_classifier(NETWORK, 3).eval()
    head = build_head({"kind": "sparse", "num_features": 4, "num_classes": 3, "n_selected": 2})
    model = model.with_head(head)
    model.inputs = handful.Inputs(["a", "b", "c"], 32, [0.5] * 3, [0.25] * 3)
    handful.save(model, path)


def refused(path, door, change, sentence):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=sentence) as caught:
        door(path)
    assert str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@pytest.mark.parametrize("case", OF_CLASSIFIERS | OF_TENSORS)
def test_a_saved_classifier(case, tmp_path):
    saved(tmp_path / "model.ckpt")
    handful.load(tmp_path / "model.ckpt")
    refused(tmp_path / "model.ckpt", handful.load, *(OF_CLASSIFIERS | OF_TENSORS)[case])


@pytest.mark.parametrize("case", OF_MODULES | OF_TENSORS)
def test_a_module_of_a_phase(case, tmp_path):
    features = "feature" in case
    module = Finetune(NETWORK, 3, n_features=2) if features else Dense(NETWORK, 3)
    save_module(module, tmp_path / "best.ckpt")
    load_module(tmp_path / "best.ckpt")
    refused(tmp_path / "best.ckpt", load_module, *(OF_MODULES | OF_TENSORS)[case])


def test_filters_that_there_are_not(tmp_path):
    head = build_head({"kind": "decomposed", "num_features": 4, "num_classes": 3, "filters_per_class": 2})
    model = build_classifier(NETWORK, 3).eval().with_head(head)
    handful.save(model, tmp_path / "model.ckpt")
    handful.load(tmp_path / "model.ckpt")
    change = put("state_dict", "model.head.filters", torch.full((3, 2), 9))
    refused(tmp_path / "model.ckpt", handful.load, change, "a filter is the index of one of 4 features")
