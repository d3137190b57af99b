"""The programs that a model card prints run as printed, in a process without Handful, with the same logits."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from handful import Inputs, SparseHead, build_classifier
from handful.export import export, model_card
from handful.export.snippets import program
from handful.networks.head import build_head

SIDE = 32

#: Runs the blocks of a card in its folder, each by itself, and prints their logits.
RUN = """
import json, sys
found = []
for block in json.loads(sys.stdin.read()):
    names = {}
    exec(block, names)
    found.append([[float(value) for value in names["logits"][0]], names["names"]])
    assert not [name for name in sys.modules if name.split(".")[0] == "handful"]
print("FOUND", json.dumps(found))
"""


def sparse(model, kind="sparse", **options):
    """The model with a head of five features, of which each class weighs three."""
    head = build_head({"kind": kind, "num_features": model.num_features, "num_classes": 3, "n_selected": 5, **options})
    weight = torch.tensor([[1.0, 0, 1, 0, 1], [0, 1, 0, 1, 1], [1, 1, 1, 0, 0]])
    picked = torch.tensor([3, 9, 1, 7, 5])
    assert isinstance(head, SparseHead)
    bias = torch.zeros(3) if kind == "binary" else torch.rand(3)
    head.fill(picked, torch.rand(5) / 10, torch.rand(5) + 0.5, weight, bias)
    model.head = head.eval()
    return model


def network(backbone, fit="crop 0.875 bicubic", options=None):
    torch.manual_seed(0)
    model = build_classifier({"backbone": backbone, "options": options or {}}, 3).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # a new network's would change nothing
            module.running_mean.uniform_(-0.1, 0.1)
    model.inputs = Inputs(["crow", "o_w|l", "wren"], SIDE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), fit)
    return model


def photograph(path, size=(90, 61)):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path, exif=turned, quality=95)
    return path


def logits(model, path):
    from handful.images import open_image

    with torch.no_grad():
        return model(model.inputs.image(open_image(path))[None])[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_program_of_a_card_runs_as_printed_without_handful(tmp_path):
    pytest.importorskip("onnxruntime")
    model = sparse(network("test_efficientnet"))
    for form in ("safetensors", "onnx", "torch_export"):
        export(model, tmp_path, form, name="birds", stage="finetuned")
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    wanted = logits(model, photograph(tmp_path / "photo.jpg"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps([block for block in blocks if "import handful" not in block]),
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.rpartition("FOUND ")[2])
    assert len(found) == 3
    for values, names in found:
        torch.testing.assert_close(torch.tensor(values), wanted, rtol=1e-4, atol=1e-5)
        assert names == list(model.inputs.class_names)


def test_the_program_with_handful_runs_as_printed(tmp_path, monkeypatch, capsys):
    model = network("conv4", options={"width": 4})
    export(model, tmp_path, name="birds")
    (block,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    photograph(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert capsys.readouterr().out.startswith("photo.jpg: ")
    assert (tmp_path / "why.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("fit", ["crop", "pad", "squash", "crop 0.8 bicubic", "pad 0.9 lanczos", "squash 0.7 hamming"])
@pytest.mark.parametrize("size", [(90, 61), (33, 200), (20, 20)])
def test_a_programs_pixels_are_those_of_handful(fit, size, tmp_path):
    model = network("conv4", fit, {"width": 4})
    text = program(model, "torch_export")
    names = {}
    exec(text[: text.index("said = ")], names)
    from handful.images import open_image

    path = photograph(tmp_path / "photo.jpg", size)
    ours = model.inputs.image(open_image(path))
    theirs = model.inputs.normalise(torch.from_numpy(names["pixels"](path)))[0]
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_a_programs_pixels_of_transparent_pictures_are_those_of_handful(mode, tmp_path):
    """White shows through, as the card says; they showed the colours that a file hides there."""
    model = network("conv4", options={"width": 4})
    names = {}
    text = program(model, "torch_export")
    exec(text[: text.index("said = ")], names)
    from handful.images import open_image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).convert(mode).save(path, **({"transparency": 3} if mode == "P" else {}))
    ours = model.inputs.image(open_image(path))
    assert torch.equal(model.inputs.normalise(torch.from_numpy(names["pixels"](path)))[0], ours)


def test_a_card_leaves_the_model_as_it_is():
    """In training mode its statistics would move, or the trial image of one position be refused."""
    model = network("test_resnet").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert "`model.safetensors` alone:" in model_card(model, {}, "birds")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("backbone", "kind", "options"),
    [("test_resnet", "dense", {}), ("test_convnext", "ternary", {}), ("test_resnet", "binary", {"relu": True})],
)
def test_weights_alone_give_the_logits_of_every_head(backbone, kind, options, tmp_path, monkeypatch):
    model = network(backbone)
    model = model if kind == "dense" else sparse(model, kind, **options)
    export(model, tmp_path)
    wanted = logits(model, photograph(tmp_path / "photo.jpg"))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(program(model, "safetensors"), names)
    torch.testing.assert_close(names["logits"][0], wanted, rtol=1e-4, atol=1e-5)


def test_networks_that_others_cannot_build_are_said_to_be_so(tmp_path):
    for model in (network("conv4", options={"width": 4}), network("test_vit", "squash")):
        assert program(model, "safetensors") is None
    card = model_card(model, {}, "birds")
    assert "The network of `model.safetensors` is built by Handful; other programs take the other formats." in card


def test_a_card_says_whose_numbers_limits_and_licences_they_are():
    model = network("conv4", options={"width": 4})
    results = {
        "stages": {"dense": {"accuracy": 91.5}, "finetuned": {"accuracy": 88.254, "diversity@5": 0.5}},
        "weights": "package x 0.1, abc", "data": {"name": "ImageFolder", "images": {"train": 2699, "test": 1000}},
    }  # fmt: skip
    card = model_card(model, results, "birds", "finetuned")
    assert "| **finetuned** (this model) | 88.25 | 0.5 |" in card
    assert "diversity@5, from 0.2 to 1" in card
    assert "Data: ImageFolder (2,699 training, 1,000 test images)." in card
    assert "those of 1,000 test images" in card
    assert "license: unknown" in card
    assert "depends on that of the images and of the weights that training started from." in card
    assert "that of the images." in model_card(model, results | {"weights": ""}, "birds")
    lite = build_classifier({"backbone": "resnet18.tv_in1k"}, 3).eval()
    lite.inputs = model.inputs
    assert "timm gives the licence `bsd-3-clause` for its published weights" in model_card(lite, results, "birds")
