"""The plug-in on the GPU: the CPU's statistics, terms and maps."""

import copy

import pytest
import torch

from handful.bottleneck import InfoMaxBottleneck, NoiseBottleneck, Weights, per_sample_maps
from handful.bottleneck.noise import image_noise
from tests.cuda.common import assert_same, need_device, random_states
from tests.handful.bottleneck import planted

need_device()


def plugin(kind, **options):
    torch.manual_seed(0)
    common = {
        "local_layer": "layer1", "readout_layers": ["layer1", "layer2"], "image_size": planted.SIDE,
    } | options  # fmt: skip
    if kind == "noise":
        return NoiseBottleneck(planted.Matcher(), **common)
    return InfoMaxBottleneck(planted.Matcher(), head=kind, units=16, hidden=16, bank_size=64, components=3, **common)


def gathered(module, device):
    module = module.to(device)
    pictures = planted.images(64, seed=10)[0].to(device)
    for start in (0, 32):
        module.observe(pictures[start : start + 32], range(start, start + 32))
    module.finish_statistics()
    return module.eval()


@pytest.mark.parametrize("kind", ["categorical", "gaussian", "noise"])
@pytest.mark.parametrize(
    "options", [{}, {"statistics": "neuron", "share_per_channel": True, "smoothing": 1.0}], ids=["plain", "neurons"]
)
def test_statistics_and_maps_are_those_of_the_cpu(kind, options, device):
    module = plugin(kind, **options)
    expected = gathered(copy.deepcopy(module), "cpu")
    found = gathered(module, device)
    # of an eigenvector's sign decides its largest component, which rounding may move
    skipped = ("code.basis",)
    states = [{k: v for k, v in m.state_dict().items() if k not in skipped} for m in (found, expected)]
    assert_same(states[0], states[1], rtol=1e-4, atol=1e-4)
    pictures = planted.images(4, seed=30)[0]
    options = {"ids": [4, 5, 6, 7], "samples": 2}
    expected.load_state_dict(found.state_dict())
    before = random_states()
    for given in (pictures, pictures.to(device)):
        assert_same(found.maps(given, **options), expected.maps(pictures, **options), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(now, then) for now, then in zip(random_states(), before, strict=True))
    for share in (0.0, 0.3, 1.0):
        noised = found.noised_outputs(pictures.to(device), [1, 2, 3, 4], samples=2, share=share)
        assert_same(noised, expected.noised_outputs(pictures, [1, 2, 3, 4], samples=2, share=share), 1e-3, 1e-3)


@pytest.mark.parametrize("kind", ["categorical", "gaussian", "noise"])
def test_a_training_step(kind, device):
    module = gathered(plugin(kind), device).train()
    pictures = planted.images(8, seed=20)[0].to(device)
    terms = module.terms(pictures)
    loss = module.objective(terms, Weights(1.0, 1.0, 0.1), 0.5)
    assert loss.device == device
    loss.backward()
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)
    if kind != "noise":
        module.objective(module.terms(pictures[:1]), Weights(1.0, 1.0, 0.1)).backward()  # the odd image of an epoch


def test_noise_and_maps_fitted_to_one_image(device):
    assert_same(image_noise([1, 2], 0, (2, 3), device), image_noise([1, 2], 0, (2, 3), torch.device("cpu")))
    module = gathered(plugin("noise"), "cpu")
    pictures, labels, _ = planted.images(2, seed=30)
    expected = per_sample_maps(module, pictures, labels, steps=3, copies=2)
    module.to(device)
    for given in ((pictures, labels), (pictures.to(device), labels), (pictures.to(device), labels.to(device))):
        assert_same(per_sample_maps(module, *given, steps=3, copies=2), expected, 1e-2, 1e-3)
