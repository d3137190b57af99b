"""Options of a backbone that are none: one sentence naming the option, and nothing of them is run or imported."""

import os
import subprocess
import sys

import pytest
import timm

from handful.errors import UserError
from handful.networks import NetworkConfig, build_classifier
from handful.networks.timm_backbone import TimmBackbone

RESNET, VIT, CONVNEXT = "resnet18", "vit_tiny_patch16_224", "convnext_atto"
SPEC = {"class_path": "os.system", "init_args": {"command": "true"}}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: ran.append(a))
    yield
    assert ran == []
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("backbone", "options", "said"),
    [
        (RESNET, {"act_layer": "os.system"}, r"network.options: resnet18 cannot .* act_layer='os.system' \(KeyError"),
        (RESNET, {"act_layer": "antigravity.fly"}, "act_layer='antigravity.fly'"),
        (RESNET, {"act_layer": SPEC}, "act_layer="),
        (RESNET, {"act_layer": 7}, "act_layer=7"),
        (RESNET, {"norm_layer": "subprocess.run"}, "norm_layer="),
        (RESNET, {"norm_layer": SPEC}, r"norm_layer=.*\(AssertionError\)"),
        (RESNET, {"block": SPEC}, "block=.*AttributeError"),
        (RESNET, {"aa_layer": "os.system"}, "aa_layer="),
        (RESNET, {"block_args": {"attn_layer": "os.system"}}, "block_args="),
        (RESNET, {"drop_path_rate": 0.1, "block": "os.system", "cardinality": 1}, r"with block='os.system' \("),
        (RESNET, {"layers": "abc"}, "layers='abc'"),
        (RESNET, {"drop_pth_rate": 0.1}, "did you mean 'drop_path_rate'"),
        (RESNET, {"model_cls": "os.system"}, "model_cls="),
        (RESNET, {"in_chans": 10**30}, "in_chans=.*Overflow"),
        (RESNET, {"in_chans": "three"}, "in_chans is a whole number from 1, not 'three'"),
        (RESNET, {"in_chans": True}, "in_chans is a whole number"),
        (RESNET, {"img_size": "big"}, "img_size is a side in pixels"),
        (RESNET, {"features_only": True}, "features_only is not an option of resnet18"),
        (RESNET, {"pruned": True}, "pruned is not an option"),
        (RESNET, {"device": "meta"}, "trainer.accelerator"),
        (RESNET, {"dtype": "float16"}, "trainer.precision"),
        (RESNET, {"pretrained_model_args": {}}, "weights are given by --network.pretrained"),
        (RESNET, {"name": "vgg11"}, "it is network.backbone"),
        (RESNET, {"self": 1}, "self is not an option"),
        (RESNET, {1: 2}, "the name of an option is needed, not 1"),
        (VIT, {"weight_init": "os.system"}, r"weight_init='os.system' \(AssertionError"),
        (VIT, {"img_size": [1, 2, 3]}, "img_size is a side"),
        (VIT, {"patch_size": 0}, "patch_size=0"),
        (VIT, {"class_token": False}, "class_token=False"),
        (CONVNEXT, {"dims": [1]}, r"dims=\[1\] \(IndexError"),
        ("conv4", {"width": SPEC}, "conv4 takes width, in_chans only"),
        ("conv4", {"width": 10**30}, "conv4 takes"),
    ],
)
def test_options_that_are_none(backbone, options, said):
    with pytest.raises(UserError, match=said) as raised:
        build_classifier({"backbone": backbone, "options": options}, 3)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_the_key_that_was_given_is_named():
    with pytest.raises(UserError, match=r"^network.image_size: swin_tiny_patch4_window7_224 cannot be built with img_"):
        TimmBackbone("swin_tiny_patch4_window7_224", in_size="x")


def test_a_value_that_only_a_forward_pass_reads(monkeypatch):
    net = timm.create_model(RESNET, num_classes=0)
    net.forward_features = lambda images: {}["os.system"]
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: net)
    with pytest.raises(UserError, match=r"^network.options: resnet18 cannot be built with x=1 \(KeyError"):
        TimmBackbone(RESNET, x=1)
    with pytest.raises(KeyError):  # without options, it is our own
        TimmBackbone(RESNET)


def test_without_options_an_error_stays_what_it_is(monkeypatch):
    def create_model(*args, **options):
        raise KeyError("ours")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(KeyError, match="ours"):
        TimmBackbone(RESNET)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": 5}, {"backbone": ["resnet18"]}, {"pretrained": {"a": 1}}, {"reduced_strides": "no"},
        {"dropout": "x"}, {"dropout": None}, {"image_size": 2.5}, {"image_size": -3}, {"image_size": [True, 32]},
        {"grid": 5}, {"grid": "ab"}, {"options": "x"}, {"options": None},
    ],
    ids=str,
)  # fmt: skip
def test_values_of_other_types(wrong):
    (key,) = wrong
    with pytest.raises(UserError, match=rf"^network\.{key}: "):
        NetworkConfig.of({"backbone": "conv4", **wrong})
