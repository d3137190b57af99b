"""Load, predict, explain and save with a model on the GPU and pictures on the CPU."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import handful
from handful.conversions import as_float, as_index, as_labels, as_maps, as_mask, as_numpy
from handful.networks import build_classifier
from tests.cuda.common import KINDS, TEST_DEVICE, assert_same, classifier, need_device

need_device()

INPUTS = handful.Inputs(["crow", "owl", "robin", "wren"], 32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def described(kind="dense"):
    model = classifier(kind)
    model.inputs = INPUTS
    return model


def pictures(count=3):
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_heads_give_the_cpu_s_logits_and_weights(kind, device):
    model = classifier(kind)
    features = torch.rand(5, 16, generator=torch.Generator().manual_seed(1)) * 3
    expected = (model.head(features), *model.head.class_weights(), model.head.n_features, model.head.features_per_class)
    maps = features[:, :, None, None].expand(-1, -1, 2, 2)
    deciding = model.head.deciding_maps(maps)
    head = model.to(device).head
    moved = features.to(device)
    found = (head(moved), *head.class_weights(), head.n_features, head.features_per_class)
    assert_same(found, expected)
    assert_same(head.deciding_maps(maps.to(device)), deciding)
    moved.requires_grad_()
    head.train()(moved).sum().backward()
    assert moved.grad.device == device


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_explanations(kind, device, tmp_path):
    model = described(kind)
    images = pictures()
    images[0].save(tmp_path / "bird.png")
    given = [tmp_path / "bird.png", *images]
    tensors = torch.stack([INPUTS.image(image) for image in images])
    moved = copy.deepcopy(model).to(device)
    assert_same(moved.predict(given), model.predict(given))
    expected = model.predict(tensors)
    for one in (tensors, tensors.to(device)):
        assert_same(moved.predict(one, batch_size=2), expected)
    methods = ("cam", "integrated_gradients") + (() if TEST_DEVICE == "pretended" else ("occlusion",))
    for one in (tmp_path / "bird.png", images[1], np.array(images[2]), tensors[0]):
        found, wanted = handful.explain(moved, one, methods), handful.explain(model, one, methods)
        assert_same(found.to_dict(), wanted.to_dict(), rtol=1e-3, atol=1e-3)
        assert_same({n: m.map for n, m in found.methods.items()}, {n: m.map for n, m in wanted.methods.items()}, 1e-3)
        found.show()
    found = handful.explain(moved, tensors[0].to(device), methods, target="owl")
    assert_same(found.to_dict(), handful.explain(model, tensors[0], methods, target="owl").to_dict(), 1e-3, 1e-3)
    found.show()


def test_saved_on_the_device_and_loaded_on_the_cpu(device, tmp_path):
    model = build_classifier({"backbone": "conv4", "options": {"width": 8}}, 4).eval()
    model.inputs = INPUTS
    images = torch.stack([INPUTS.image(image) for image in pictures()])
    expected = model(images)
    handful.save(model.to(device), tmp_path / "model.ckpt")
    loaded = handful.load(tmp_path / "model.ckpt")
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert_same(loaded(images), expected)
    assert_same(loaded.to(device)(images.to(device)), expected)


@pytest.mark.skipif(TEST_DEVICE == "pretended", reason="no autocast there")
def test_half_precision_models_and_autocast(device):
    model = described("sparse").to(device)
    expected = model.predict(pictures())
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = model.predict(pictures())
    assert_same(found.probabilities, expected.probabilities, rtol=0.1, atol=0.05)
    halved = copy.deepcopy(model).bfloat16()
    assert_same(halved.predict(pictures()).probabilities, expected.probabilities, rtol=0.2, atol=0.1)
    why = handful.explain(halved, pictures()[0], ("cam", "gradient"))
    total = sum(part.contribution for part in why.contributions) + why.bias
    assert total == pytest.approx(why.explained.logit, abs=1e-6)


def test_conversions_take_tensors_of_the_device(device):
    labels = torch.tensor([[2.0], [0.0]])
    assert as_labels(labels.to(device), 2, 3).device == device
    assert_same(as_labels([torch.tensor(1, device=device), torch.tensor(0, device=device)]), torch.tensor([1, 0]))
    assert as_index(torch.tensor([[0, 1]], device=device), (None, 2), 4, "index").device == device
    assert as_float(torch.rand(2, 3).to(device), (None, 3), "values").device == device
    assert as_mask(torch.ones(1, 1, 2, 2, dtype=torch.uint8, device=device)).device == device
    assert as_maps(torch.rand(1, 2, 2).to(device)).device == device
    assert isinstance(as_numpy(torch.rand(2).to(device)), np.ndarray)
    with pytest.raises(handful.UserError, match="not finite"):
        as_maps(torch.full((1, 2, 2), torch.nan, device=device))
    with pytest.raises(handful.UserError, match="expected integers"):
        as_labels(torch.tensor([0.5], device=device))
