"""Ranges looked at before imports are those of the classes: none is narrower, and both refuse what lies outside."""

import inspect
import re

import lightning.pytorch as pl
import pytest
import timm
import torch

from datamodules import CUB200, ImageFolder, ToyBirds
from datamodules.episodes import Episodes
from handful.errors import UserError
from handful.networks import NetworkConfig, build_classifier
from lightning_modules import Dense
from pipelines.phases import Assign, FindFilters, Sparsify
from pipelines.ranges import OF_CLASSES, OF_COMMANDS, Range, check_backbone, check_range


def data(name, value, tmp_path):
    for kind, more in ((ImageFolder, {"root": str(tmp_path)}), (ToyBirds, {}), (CUB200, {"root": str(tmp_path)}),
                       (Episodes, {"root": str(tmp_path)})):  # fmt: skip
        if name in inspect.signature(kind).parameters:
            return kind(**{**more, name: value})
    raise LookupError(name)


def phase(name, value):
    classifier = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3)
    for kind, more in ((Sparsify, {"n_features": 3, "features_per_class": 1}),
                       (Assign, {"n_features": 3, "features_per_class": 1}), (FindFilters, {"k1": 2, "k2": 1})):
        if name in inspect.signature(kind).parameters:
            return kind(**{**more, name: value}).check(classifier)
    raise LookupError(name)


def module(name, value):
    made = Dense(network={"backbone": "conv4", "options": {"width": 4}}, num_classes=3, **{name: value})
    made.check(made.model)


def optimizer(name, value):
    try:
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], **{"lr": 0.1, name: value})
    except ValueError as error:
        raise UserError(str(error)) from error


MAKERS = {
    "datamodules": data,
    "handful/networks": lambda name, value, _: NetworkConfig.of({name: value}),
    "lightning_modules": lambda name, value, _: module(name, value),
    "pipelines/phases": lambda name, value, _: phase(name, value),
    "torch/optim": lambda name, value, _: optimizer(name, value),
}
CASES = [(folder, name) for folder in MAKERS for name in OF_CLASSES[folder]]


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_a_range_is_that_of_the_class(folder, name, tmp_path):
    known = OF_CLASSES[folder][name]
    whole = float(known.low).is_integer() and known.low >= 1
    step = 1 if whole or name in ("seed", "num_workers", "val_images_per_class", "eval_batch_size") else 0.125
    low = type(step)(known.low)
    inside = low + step if known.open_low else low
    outside = [low - step, *([low] if known.open_low else [])]
    if known.high is not None:
        high = type(step)(known.high)
        outside += [high + step, *([high] if known.open_high else [])]
        MAKERS[folder](name, high - step if known.open_high else high, tmp_path)
    MAKERS[folder](name, inside, tmp_path)
    check_range("--x", known, inside)
    for value in outside:
        with pytest.raises(UserError):
            MAKERS[folder](name, value, tmp_path)
        with pytest.raises(UserError, match=re.escape(f"--x: {known}, not {value}")):
            check_range("--x", known, value)


def test_ranges_of_the_trainer_are_those_of_its_check():
    from pipelines.trainer_arguments import _POSITIVE

    assert set(OF_CLASSES["lightning/pytorch/trainer"]) == set(_POSITIVE)
    for name, known in OF_CLASSES["lightning/pytorch/trainer"].items():
        assert known.low == 1
        pl.Trainer(accelerator="cpu", logger=False, **{name: int(known.low)})


def test_lists_texts_and_what_is_no_number():
    for value in ("4,6", [4, 6], None, True, "many", "all", "auto", [], {}):
        check_range("--x", Range(1), value)
    for value in ("4, 0", [4, 0], "-1", float("nan"), float("-inf")):
        with pytest.raises(UserError, match="--x: at least 1, not "):
            check_range("--x", Range(1), value)
    assert OF_COMMANDS["conformal"].holds(0.9)


def test_every_name_of_timm_passes_and_others_do_not():
    for name in timm.list_models(include_tags=True):
        check_backbone("x", name)
    for name in ("cifar_resnet20", "conv4", "hf-hub:timm/resnet50", "local-dir:/x", "", None, "tv_resnet50"):
        check_backbone("x", name)
    for name in ("resnet5O", "resnett18.a1_in1k", "efficientnet_lite9"):
        with pytest.raises(UserError, match=f"x: timm knows no model '{name}'; did you mean"):
            check_backbone("x", name)
