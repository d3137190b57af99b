import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from handful.bottleneck import MAP_NAMES, InfoMaxBottleneck, NoiseBottleneck, Weights, per_sample_maps
from handful.bottleneck.infer import InferNetwork, smooth
from handful.bottleneck.noise import capacity, fixed_share, image_noise, inject
from handful.bottleneck.statistics import RunningStatistics
from tests.handful.bottleneck import planted
from tests.handful.bottleneck.conftest import build, train


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def seen(features: torch.Tensor) -> RunningStatistics:
    statistics = RunningStatistics((features.shape[1],))
    statistics.update(features)
    return statistics


def test_both_ends_of_the_noise_share_are_exact() -> None:
    features = torch.randn(3, 4, 5, 5).abs() * 1e3 + 0.1
    noise, statistics = torch.randn_like(features), seen(features)
    clean = inject(features, fixed_share(0.0), statistics, noise, rectify=True)
    assert torch.equal(clean, features)
    assert torch.equal(inject(features, fixed_share(1.0), statistics, noise), statistics.restore(noise))
    assert torch.equal(inject(features, fixed_share(1.0), statistics, noise, "standard"), noise)
    half = inject(features, fixed_share(0.5), statistics, noise)
    torch.testing.assert_close(half, 0.5 * features + 0.5 * statistics.restore(noise))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        fixed_share(1.1)


def test_matched_noise_has_the_features_moments() -> None:
    features = torch.randn(50, 3, 10, 10) * torch.tensor([0.1, 1.0, 5.0])[:, None, None] + 2
    noised = inject(features, fixed_share(1.0), seen(features), torch.randn(50, 3, 10, 10))
    flat, expected = noised.transpose(0, 1).flatten(1), features.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.std(1), expected.std(1), rtol=0.05, atol=0)
    torch.testing.assert_close(flat.mean(1), expected.mean(1), rtol=0.05, atol=0.05)


def test_capacity_is_the_divergence_of_gaussians_and_finite() -> None:
    logits, values = torch.linspace(-5, 5, 11), torch.linspace(-3, 3, 11)
    alpha = torch.sigmoid(logits)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal((1 - alpha) * values, alpha), normal(0.0, 1.0))
    torch.testing.assert_close(capacity(logits, values), expected)
    assert torch.isfinite(capacity(torch.tensor([-1000.0, 1000.0]), torch.ones(2))).all()
    assert capacity(torch.tensor(math.inf), torch.tensor(2.0)) == 0


def test_noise_belongs_to_the_image() -> None:
    before = torch.get_rng_state()
    noise = image_noise([4, "bird", 9], 0, (2, 3), torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(noise[1], image_noise(["bird"], 0, (2, 3), torch.device("cpu"))[0])
    assert not torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], image_noise([4], 1, (2, 3), torch.device("cpu"))[0])


def test_infer_network_starts_almost_clean_and_stays_bounded() -> None:
    infer = InferNetwork([5, 7], 4, 3)
    layers = [torch.randn(2, 5, 8, 8), torch.randn(2, 7, 4, 4)]
    logits = infer(layers, torch.randn(2, 4), (8, 8))
    assert logits.shape == (2, 3, 8, 8)
    torch.testing.assert_close(logits, torch.full_like(logits, -5.0), atol=0.05, rtol=0)
    with torch.no_grad():
        infer.decide[-1].bias.fill_(1000.0)
    logits = infer(layers, torch.randn(2, 4), (8, 8))
    assert logits.max().item() <= 6
    assert logits.min().item() > 5.9


def test_infer_network_against_one_convolution_over_all_inputs() -> None:
    infer = InferNetwork([5, 7], 4, 2, start=0.0)
    layers, representation = [torch.randn(2, 5, 9, 9), torch.randn(2, 7, 4, 4)], torch.randn(2, 4)
    with torch.no_grad():
        infer.decide[-1].weight.mul_(1e3)
        resized = functional.interpolate(layers[1], (9, 9), mode="bilinear", align_corners=False)
        together = torch.cat([layers[0], resized, representation[:, :, None, None].expand(-1, -1, 9, 9)], 1)
        weights = [*(read.weight for read in infer.read_layers), infer.read_global.weight[:, :, None, None]]
        expected = infer.decide(functional.conv2d(together, torch.cat(weights, 1), infer.read_global.bias))
        torch.testing.assert_close(infer(layers, representation, (9, 9)), 6 * torch.tanh(expected / 6))


def test_blur_against_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    maps = torch.randn(2, 3, 9, 9)
    expected = ndimage.gaussian_filter(maps.numpy(), (0, 0, 1.0, 1.0), truncate=2.0, mode="nearest")
    torch.testing.assert_close(smooth(maps, 1.0), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def groups(plugin: InfoMaxBottleneck) -> dict[str, list[nn.Parameter]]:
    return {
        "infer": list(plugin.infer.parameters()),
        "critic": list(plugin.critic.parameters()),
        "head": list(plugin.head.parameters()),
        "base": list(plugin.base.parameters()),
    }


ROUTES = {
    "task": {"infer"},
    "infomax": {"critic"},
    "fit": {"head"},
    "compression": {"infer"},
    "capacity": {"infer"},
}


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize("term", ROUTES)
def test_each_term_trains_what_it_should_and_nothing_else(term: str, finetune: bool, head: str) -> None:
    plugin = build(head, finetune=finetune)
    value = getattr(plugin.terms(planted.images(4, 0)[0]), term)
    expected = ROUTES[term] | ({"base"} if finetune and term in ("task", "infomax") else set())
    for name, parameters in groups(plugin).items():
        trainable = [p for p in parameters if p.requires_grad]
        found = torch.autograd.grad(value, trainable, retain_graph=True, allow_unused=True) if trainable else []
        reached = [gradient is not None for gradient in found]
        assert any(reached) == (name in expected), name
        if name in ("infer", "critic") and name in expected:
            assert all(reached), name


def test_the_base_is_bit_identical_after_training(trained: InfoMaxBottleneck) -> None:
    fresh = planted.Matcher().state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in trained.base.state_dict().items())
    assert not any(module.training for module in trained.train().base.modules())
    trained.eval()


def test_finetuning_trains_the_base_but_no_batch_statistics() -> None:
    plugin = build(finetune=True)
    train(plugin, 2, Weights())
    fresh = planted.Matcher().state_dict()
    assert not torch.equal(plugin.base.fc.weight, fresh["fc.weight"])
    assert torch.equal(plugin.base.layer1[1].running_mean, fresh["layer1.1.running_mean"])


def test_no_noise_gives_the_logits_of_the_base_bit_for_bit(trained: InfoMaxBottleneck) -> None:
    pictures = planted.images(6, 3)[0]
    with torch.no_grad():
        expected = planted.Matcher()(pictures)
    noised, clean = trained.noised_outputs(pictures, range(6), samples=3, share=0.0)
    assert torch.equal(clean, expected)
    assert all(torch.equal(sample, expected) for sample in noised)


def test_nothing_but_noise_tells_nothing() -> None:
    # the head meets pure noise: its bits go to 0 and its loss to log C
    plugin = build(head="categorical", noise="matched")
    train(plugin, 120, Weights(1.0, 0.0, 0.0), share=1.0)
    pictures = planted.images(64, 3)[0]
    assert float(plugin.maps(pictures, list(range(64)), share=1.0)["sufficient"].mean()) < 0.02
    assert float(plugin.maps(pictures, share=1.0)["capacity"].abs().max()) == 0
    # a base that may adapt to pure noise gets to log C and no lower, where without noise it gets far lower
    final = []
    for share in (1.0, 0.0):
        adapting = build(finetune=True)
        with torch.no_grad():
            adapting.base.fc.weight.mul_(0.1)
        losses = train(adapting, 60, Weights(0.0, 0.0, 0.0), share=share)
        final.append(sum(losses[-20:]) / 20)
    assert final[0] == pytest.approx(math.log(planted.CLASSES), abs=0.1)
    assert final[1] < 0.5


def test_maps_point_at_the_glyph(trained: InfoMaxBottleneck) -> None:
    pictures, labels, masks = planted.images(128, 4)
    noised, clean = trained.noised_outputs(pictures, range(128))
    assert (
        float((noised.argmax(-1) == labels).float().mean()) >= float((clean.argmax(-1) == labels).float().mean()) - 0.03
    )
    maps = trained.maps(pictures, list(range(128)))
    assert set(maps) == set(MAP_NAMES)
    for name in ("sufficient", "capacity", "keep"):
        peaks = maps[name].flatten(1).argmax(1)
        assert float(masks.flatten(1)[torch.arange(128), peaks].mean()) >= 0.9, name
    assert float(maps["sufficient"].min()) >= 0
    area = masks.mean()
    energy = (maps["sufficient"] * masks).sum() / maps["sufficient"].sum()
    assert float(energy) > 3 * area


def test_maps_do_not_depend_on_the_batch(trained: InfoMaxBottleneck) -> None:
    pictures = planted.images(7, 5)[0]
    ids = [11, 3, 5, 8, 2, 40, 41]
    together = trained.maps(pictures, ids)
    for i in (0, 4):
        alone = trained.maps(pictures[i : i + 1], ids[i : i + 1])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][i], rtol=1e-4, atol=1e-5)
    shuffled = trained.maps(pictures.flip(0), ids[::-1])
    for name, value in shuffled.items():
        torch.testing.assert_close(value.flip(0), together[name], rtol=1e-4, atol=1e-5)
    other = trained.maps(pictures, [i + 100 for i in ids])
    assert not torch.equal(other["sufficient"], together["sufficient"])
    assert torch.equal(other["capacity"], together["capacity"])


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
def test_a_state_dict_alone_restores_the_maps(head: str) -> None:
    plugin = build(head, smoothing=1.0)
    train(plugin, 3, Weights())
    fresh = InfoMaxBottleneck(
        planted.Matcher(), head=head, units=64, hidden=64, bank_size=512, local_layer="layer1",
        readout_layers=["layer1", "layer2"], image_size=planted.SIDE, smoothing=1.0,
    ).eval()  # fmt: skip
    fresh.load_state_dict(plugin.state_dict())
    pictures = planted.images(3, 6)[0]
    for name, value in fresh.maps(pictures).items():
        assert torch.equal(value, plugin.maps(pictures)[name]), name


def test_resized_maps_conserve_the_capacity(trained: InfoMaxBottleneck) -> None:
    pictures = planted.images(2, 6)[0]
    cells = trained.maps(pictures, resize=False)
    assert cells["sufficient"].shape == (2, planted.SIDE, planted.SIDE)
    deeper = NoiseBottleneck(
        planted.Matcher(), local_layer="layer2", readout_layers=["layer2"], image_size=planted.SIDE
    ).eval()
    deeper.observe(pictures, [0, 1])
    small, large = deeper.maps(pictures, resize=False), deeper.maps(pictures)
    assert small["keep"].shape == (2, 12, 12)
    assert large["keep"].shape == (2, 24, 24)
    torch.testing.assert_close(small["capacity"].sum((1, 2)), large["capacity"].sum((1, 2)), rtol=0.02, atol=0)


def test_more_pressure_leaves_less_capacity() -> None:
    capacities = []
    for beta3 in (0.01, 1.0):
        plugin = build()
        train(plugin, 60, Weights(1.0, 1.0, beta3))
        capacities.append(float(plugin.maps(planted.images(64, 7)[0])["capacity"].mean()))
    assert capacities[1] < 0.7 * capacities[0]


def test_the_maps_follow_the_networks_weights(trained: InfoMaxBottleneck) -> None:
    """The same plug-in on a network that has lost its knowledge draws other maps."""
    pictures = planted.images(16, 8)[0]
    plugin = build()
    plugin.load_state_dict(trained.state_dict())
    torch.manual_seed(0)
    nn.init.normal_(plugin.base.layer1[0].weight)
    before, after = trained.maps(pictures)["sufficient"], plugin.maps(pictures)["sufficient"]
    ranks = [value.flatten(1).argsort(1).argsort(1).double() for value in (before, after)]
    ranks = [value - value.mean(1, keepdim=True) for value in ranks]
    spearman = (ranks[0] * ranks[1]).sum(1) / (ranks[0].norm(dim=1) * ranks[1].norm(dim=1))
    assert float(spearman.mean()) < 0.5


def test_the_bank_is_the_same_for_any_order_of_observation() -> None:
    pictures = planted.images(40, 1)[0]
    banks = []
    for order in (torch.arange(40), torch.arange(40).flip(0)):
        plugin = InfoMaxBottleneck(
            planted.Matcher(), bank_size=64, local_layer="layer1", readout_layers=["layer1"], image_size=planted.SIDE
        )
        for part in order.split(16):
            plugin.observe(pictures[part], part.tolist())
        plugin.finish_statistics()
        banks.append(plugin.bank.features)
    torch.testing.assert_close(banks[0], banks[1])
    assert abs(float(banks[0].mean())) < 0.2


def test_statistics_per_neuron_and_shares_per_channel() -> None:
    plugin = build(statistics="neuron", share_per_channel=True)
    assert plugin.local_statistics.mean.shape == (8, 24, 24)
    terms = plugin.terms(planted.images(4, 0)[0])
    assert torch.isfinite(plugin.objective(terms, Weights()))
    assert plugin.read(planted.images(4, 0)[0]).share_logit.shape == (4, 8, 24, 24)


def test_maps_of_a_global_layer() -> None:
    plugin = build("gaussian", global_layer="layer2")
    assert plugin.global_features == 4
    assert set(plugin.maps(planted.images(2, 0)[0])) == set(MAP_NAMES)


def test_half_precision_leaves_no_holes() -> None:
    plugin = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = plugin.terms(planted.images(4, 0)[0])
        loss = plugin.objective(terms, Weights())
    assert terms.infomax.dtype == torch.float32
    assert torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in plugin.parameters() if p.grad is not None)


def test_per_sample_bottleneck_finds_the_glyph_and_ignores_the_batch(trained: InfoMaxBottleneck) -> None:
    pictures, labels, masks = planted.images(24, 9)
    ids = list(range(24))
    maps = per_sample_maps(trained, pictures, labels, ids, beta=1.0, smoothing=0.0)
    energy = (maps * masks).sum((1, 2)) / maps.sum((1, 2))
    assert float(energy.mean()) > 2 * float(masks.mean())
    alone = per_sample_maps(trained, pictures[5:6], labels[5:6], ids[5:6], beta=1.0, smoothing=0.0)
    torch.testing.assert_close(alone[0], maps[5], rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in trained.base.parameters())


def test_readout_bottleneck_learns_alone() -> None:
    torch.manual_seed(0)
    bottleneck = NoiseBottleneck(
        planted.Matcher(), local_layer="layer1", readout_layers=["layer1", "layer2"], image_size=planted.SIDE,
        share_per_channel=True,
    )  # fmt: skip
    pictures, labels, _ = planted.images(256, 1)
    bottleneck.observe(pictures, range(256))
    bottleneck.finish_statistics()
    bottleneck.train()
    optimiser = torch.optim.Adam(bottleneck.infer.parameters(), 3e-3)
    for step in range(100):
        terms = bottleneck.terms(pictures[:64], lambda noised, _: functional.cross_entropy(noised, labels[:64]))
        optimiser.zero_grad()
        bottleneck.objective(terms, Weights(beta3=0.3), min(1.0, step / 50)).backward()
        optimiser.step()
    bottleneck.eval()
    test, _, masks = planted.images(64, 2)
    peaks = bottleneck.maps(test)["capacity"].flatten(1).argmax(1)
    assert float(masks.flatten(1)[torch.arange(64), peaks].mean()) >= 0.9
