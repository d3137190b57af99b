"""Every attribution method on the GPU gives the CPU's maps and leaves no trace."""

import copy

import pytest
import torch

from handful.attribution import attribute, contributions
from tests.cuda.common import KINDS, TEST_DEVICE, assert_same, classifier, need_device, random_states
from tests.handful.attribution.nets import images, linear_model, relu_classifier
from tests.handful.attribution.test_every_method import OWN, QUICK

need_device()

#: Methods that draw noise on the device of the images: other numbers on another device.
DRAWS = ("smoothgrad",)


def run(method, model, x, target="pred", **more):
    return attribute(model, x, target, method=method, **(QUICK.get(method, {}) | more))


@pytest.mark.parametrize("method", OWN)
def test_a_method_gives_the_maps_of_the_cpu(method, device):
    model, x = relu_classifier(), images(3)
    expected = run(method, model, x)
    moved = copy.deepcopy(model).to(device)
    for given in (x, x.to(device)):  # images are taken to the model
        found = run(method, moved, given)
        assert found.raw.device == device
        assert found.map().device == device
        if method in DRAWS and TEST_DEVICE == "cuda":
            assert_same(found.logits, expected.logits)
        else:
            assert_same(found, expected, rtol=1e-3, atol=1e-4)
    assert_same(run(method, moved, x, chunk=2).raw, found.raw, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("target", ["top2", "label", [[0, 1], [3, 2], [1, 1]]])
def test_targets_and_labels_of_either_device(method, target, device):
    model, x, labels = relu_classifier().to(device), images(3), torch.tensor([1, 0, 2])
    if isinstance(target, list):
        target = torch.tensor(target)
        expected = run(method, model, x, target)
        assert_same(run(method, model, x, target.to(device)).raw, expected.raw)
    else:
        expected = run(method, model, x, target, labels=labels)
        assert_same(run(method, model, x.to(device), target, labels=labels.to(device)).raw, expected.raw)


@pytest.mark.parametrize("method", OWN)
def test_the_model_its_gradients_and_both_random_states_are_left_as_found(method, device):
    model = relu_classifier().to(device)
    model.backbone[1].eval()
    model(images().to(device)).sum().backward()
    flags = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    random = random_states()
    run(method, model, images())
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(now, then) for now, then in zip(random_states(), random, strict=True))
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "occlusion", "lime", "meaningful_perturbation"])
def test_plain_networks_and_baselines(method, device):
    model, x = linear_model().cpu(), images(2, 8, torch.float64)
    normalisation = ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    for baseline in ("mean", "black", "blur", torch.zeros(1, 3, 8, 8, dtype=torch.float64)):
        if method == "gradient":
            break
        options = {"baseline": baseline, "normalisation": normalisation}
        if method == "occlusion":
            options |= {"window": 4}
        expected = run(method, copy.deepcopy(model), x, **options)
        found = run(method, copy.deepcopy(model).to(device), x, **options)
        assert_same(found.raw, expected.raw, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_are_those_of_the_cpu(kind, device):
    model, x = classifier(kind), images(3, 32)
    expected = contributions(model, x)
    moved = model.to(device)
    for given in (x, x.to(device)):
        assert_same(contributions(moved, given), expected)
        assert_same(contributions(moved, given, torch.tensor([0, 1, 2]).to(given.device)).logits, expected.logits)


@pytest.mark.skipif(TEST_DEVICE == "pretended", reason="no autocast there")
@pytest.mark.parametrize("method", ["gradient", "gradcam", "cam", "integrated_gradients", "lrp"])
def test_autocast_around_and_half_precision_models(method, device):
    model, x = relu_classifier().to(device), images(3)
    expected = run(method, model, x)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert_same(run(method, model, x).raw, expected.raw, rtol=1e-3, atol=1e-4)
    found = run(method, copy.deepcopy(model).bfloat16(), x)
    assert found.raw.dtype == torch.float32
    assert torch.isfinite(found.raw).all()
    size = float(expected.raw.abs().max())
    assert float((found.raw - expected.raw).abs().mean()) < 0.1 * size
