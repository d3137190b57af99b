"""Estimators on Gaussians of known mutual information."""

import math

import pytest
import torch
from torch import Tensor

from handful.bottleneck.heads import CategoricalHead, GaussianHead
from handful.bottleneck.infomax import LocalGlobalCritic, ReferenceBank, infonce, jensen_shannon

DIMENSIONS, IMAGES, PLACES = 10, 64, 9


def correlation(information: float) -> float:
    """Per dimension, for `information` nats over all."""
    return math.sqrt(1 - math.exp(-2 * information / DIMENSIONS))


def pairs(images: int, rho: float, generator: torch.Generator, share: float = 0.0) -> tuple[Tensor, Tensor]:
    """Locals `(N, K, d)`, noised by `share`, and globals `(N, d)`."""
    globals_ = torch.randn(images, DIMENSIONS, generator=generator)
    noise = torch.randn(images, PLACES, DIMENSIONS, generator=generator)
    features = rho * globals_[:, None] + math.sqrt(1 - rho**2) * noise
    return (1 - share) * features + share * torch.randn(features.shape, generator=generator), globals_


def true_information(rho: float, share: float) -> float:
    """Closed form for locals noised by `share`."""
    noised = rho * (1 - share) / math.sqrt((1 - share) ** 2 + share**2)
    return -0.5 * DIMENSIONS * math.log(1 - noised**2)


def trained_infonce(rho: float, share: float = 0.0, steps: int = 400) -> tuple[float, LocalGlobalCritic]:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    critic = LocalGlobalCritic(DIMENSIONS, DIMENSIONS, units=32)
    optimiser = torch.optim.Adam(critic.parameters(), 2e-3)
    for step in range(steps):
        if step == 3 * steps // 4:
            optimiser.param_groups[0]["lr"] = 4e-4
        loss = -infonce(critic(*pairs(IMAGES, rho, generator, share))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        values = [infonce(critic(*pairs(IMAGES, rho, generator, share))).mean() for _ in range(60)]
    return float(torch.stack(values).mean()), critic


@pytest.mark.parametrize("information", [0.5, 2.0])
def test_infonce_finds_the_information(information: float) -> None:
    estimate, critic = trained_infonce(correlation(information))
    assert estimate == pytest.approx(information, rel=0.1)
    # the reference bank turns the same critic into pointwise information; its mean is the information too
    generator = torch.Generator().manual_seed(2)
    bank = ReferenceBank(4096, DIMENSIONS)
    bank.features.copy_(pairs(4096, correlation(information), generator)[0][:, 0])
    features, globals_ = pairs(500, correlation(information), generator)
    with torch.no_grad():
        assert float(bank.pointwise(critic, features, globals_).mean()) == pytest.approx(information, rel=0.12)


def test_infonce_finds_none_where_there_is_none() -> None:
    assert abs(trained_infonce(0.0, steps=200)[0]) < 0.05


def test_noise_is_squeezed_from_above_and_below() -> None:
    rho = correlation(4.0)
    for share in (0.0, 0.5, 1.0):
        true = true_information(rho, share)
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(3)
        head = GaussianHead(DIMENSIONS, DIMENSIONS, hidden=64)
        optimiser = torch.optim.Adam(head.parameters(), 5e-3)
        for step in range(400):
            optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / 400) + 1e-4
            features, globals_ = pairs(IMAGES, rho, generator, share)
            loss = head.misfit(features, globals_).mean() + head.prior_misfit(globals_).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        features, globals_ = pairs(4000, rho, generator, share)
        with torch.no_grad():
            divergences = head.divergence(features)
            lower = head.prior_misfit(globals_).mean() - head.misfit(features, globals_).mean()
        assert (divergences >= 0).all()
        above = float(divergences.mean())
        assert true - 0.06 <= above <= 1.05 * true + 0.06, share
        assert float(lower) <= true + 0.06, share
        below = trained_infonce(rho, share, steps=150)[0]
        assert below <= above + 0.03, share
        assert below <= true + 0.06, share


def test_infonce_never_exceeds_the_log_of_its_candidates() -> None:
    images, places = 6, 4
    most = math.log(1 + (images - 1) * places)
    perfect = torch.full((images, images, places), -1e4)
    perfect[range(images), range(images)] = 1e4
    assert float(infonce(perfect).mean()) == pytest.approx(most, rel=1e-6)
    for seed in range(20):
        scores = 50 * torch.randn(images, images, places, generator=torch.Generator().manual_seed(seed))
        assert float(infonce(scores).max()) <= most + 1e-5
    assert float(infonce(torch.zeros(images, images, places)).abs().max()) < 1e-6


def test_infonce_against_a_loop() -> None:
    scores = torch.randn(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = infonce(scores)
    for i in range(4):
        others = [scores[i, m, k].exp() for m in range(4) for k in range(3) if m != i]
        for j in range(3):
            own = scores[i, i, j].exp()
            assert float(found[i, j]) == pytest.approx(float((own / (own + sum(others))).log() + math.log(10)))


def test_the_printed_objective_is_never_positive() -> None:
    """Why it is not built: true pairs only in the denominator, whatever the scores."""
    for seed in range(20):
        scores = 5 * torch.randn(8, 8, 4, generator=torch.Generator().manual_seed(seed))
        true_pairs = scores[range(8), range(8)]
        assert float((true_pairs - true_pairs.flatten().logsumexp(0) + math.log(32)).mean()) <= 1e-6


def test_one_image_has_no_negatives() -> None:
    with pytest.raises(ValueError, match="two images"):
        infonce(torch.zeros(1, 1, 5))


def test_jensen_shannon_trains_towards_the_true_pairs() -> None:
    good, bad = torch.full((3, 3, 2), -5.0), torch.full((3, 3, 2), 5.0)
    good[range(3), range(3)], bad[range(3), range(3)] = 5.0, -5.0
    assert jensen_shannon(good).mean() > jensen_shannon(bad).mean()
    assert jensen_shannon(torch.zeros(3, 3, 2)).mean().item() == pytest.approx(-2 * math.log(2))


def test_divergences_against_torch() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 5, 6)
    head = CategoricalHead(6, 4)
    torch.nn.init.normal_(head.prior)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=head.layers(features)),
        torch.distributions.Categorical(logits=head.prior),
    )
    torch.testing.assert_close(head.divergence(features), expected, rtol=1e-4, atol=1e-6)
    gaussian = GaussianHead(6, 4)
    torch.nn.init.normal_(gaussian.prior_mean)
    torch.nn.init.normal_(gaussian.prior_log_variance)
    mean, log_variance = gaussian.layers(features).chunk(2, -1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()),
        normal(gaussian.prior_mean, (0.5 * gaussian.prior_log_variance).exp()),
    ).sum(-1)
    torch.testing.assert_close(gaussian.divergence(features), expected, rtol=1e-4, atol=1e-5)


def test_bits_of_class_information_are_bounded() -> None:
    head = CategoricalHead(3, 7, learnt_prior=False)
    assert not head.prior.requires_grad
    assert head.divergence(1000 * torch.randn(50, 3)).max().item() <= math.log(7) + 1e-5
