"""Losses, measures, filters and few-shot learning: states on the GPU, the CPU's numbers."""

import pytest
import torch
from torch import nn

from handful.attribution import attribute
from handful.birds import ToyBirdsDataset
from handful.fewshot.prototypes import Embedding, QueryScores, SupportScores, contrast, episode_scores
from handful.filters import AccuracyGrid, EssentialityTest, StatisticsCollector, StrongestImages, select_filters
from handful.losses import MutualChannelLoss, feature_diversity_loss
from handful.losses.class_weights import loss_weights
from handful.metrics import BalancedAccuracy, Dependence, DiversityAtK, Mean
from handful.metrics.boxes import BoxRatio
from handful.metrics.degradation import Degradation
from handful.metrics.episodes import EpisodeAccuracy
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.funny_birds import funny_birds, watch_birds
from handful.metrics.infidelity import Infidelity
from handful.metrics.localisation import AreaAboveHalf, EnergyInMask, PointingGame
from handful.metrics.max_sensitivity import MaxSensitivity
from handful.metrics.parameter_randomisation import ParameterRandomisation
from handful.metrics.road import ROAD
from handful.metrics.sensitivity_n import SensitivityN
from handful.metrics.sparseness import Sparseness
from tests.cuda.common import TEST_DEVICE, assert_same, classifier, moved, need_device
from tests.handful.filters.planted import features_with_ties

need_device()


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


LABELS = torch.arange(6) % 4
MASKS = random(6, 8, 8, seed=4) > 0.5


@pytest.mark.parametrize(("make", "arguments"), [
    (lambda: BalancedAccuracy(4), (torch.tensor([0, 1, 2, 3, 1, 1]), LABELS)),
    (Dependence, (random(6, 5), random(6, 4, seed=1), random(4, 5, seed=2))),
    (lambda: DiversityAtK(3), (random(6, 5, 4, 4), random(6, 4, seed=1), random(4, 5, seed=2))),
    (Mean, (random(7),)),
    (EpisodeAccuracy, (random(6, 4), LABELS)),
    (EnergyInMask, (random(6, 8, 8), MASKS)),
    (lambda: PointingGame(1), (random(6, 8, 8), MASKS)),
    (AreaAboveHalf, (random(6, 8, 8),)),
    (BoxRatio, (random(6, 8, 8), MASKS & (random(6, 8, 8, seed=5) > 0.5))),
    (Sparseness, (random(6, 8, 8),)),
    (lambda: StatisticsCollector(3, 12, (4, 0.5)), features_with_ties()),
    (lambda: StrongestImages(12, 3), (features_with_ties()[0], torch.arange(90))),
], ids=lambda value: getattr(value, "__name__", None))  # fmt: skip
def test_a_measure_on_the_device(make, arguments, device):
    def measured(metric, given):
        metric.update(*given)
        metric.update(*given)
        found = metric.compute()
        return found.state() if hasattr(found, "state") else found

    expected = measured(make(), arguments)
    assert_same(measured(make().to(device), moved(arguments, device)), expected, rtol=1e-6, atol=1e-7)
    first, *others = moved(arguments, device)  # labels, indices and masks from a loader
    if not any(one.is_floating_point() for one in others):
        assert_same(measured(make().to(device), (first, *arguments[1:])), expected, rtol=1e-6, atol=1e-7)


def test_a_measure_computed_on_the_device_and_moved_back(device):
    metric = DiversityAtK(3).to(device)
    metric.update(*moved((random(6, 5, 4, 4), random(6, 4, seed=1), random(4, 5, seed=2)), device))
    expected = metric.compute()
    assert_same(metric.cpu().compute(), expected)


def test_faithfulness_of_maps(device):
    model, images, maps = classifier(), random(2, 3, 32, 32), random(2, 32, 32, seed=1)
    for make in (lambda: InsertionAUC(6), lambda: DeletionAUC(6)):
        expected = make()
        expected.update(model, images, maps, torch.tensor([1, 0]))
        found = make().to(device)
        found.update(model.to(device), images, maps.to(device), torch.tensor([1, 0]))
        assert_same(found.compute(), expected.compute())
        model.cpu()


@pytest.mark.parametrize("make", [
    lambda: Degradation(8), lambda: SensitivityN(8, 2, 6), lambda: Infidelity(samples=4), lambda: ROAD((20, 60)),
    lambda: MaxSensitivity("gradient", samples=2), lambda: ParameterRandomisation("gradient", ["head"]),
], ids=("degradation", "sensitivity-n", "infidelity", "road", "max-sensitivity", "randomisation"))  # fmt: skip
def test_measures_of_attributions(make, device):
    if TEST_DEVICE == "pretended" and isinstance(make(), ParameterRandomisation):
        pytest.skip("networks on a pretended device cannot be copied")
    model, images, maps = classifier(), random(2, 3, 32, 32), random(2, 32, 32, seed=1)
    found = []
    for on in ("cpu", device):
        metric = make().to(on)
        given = {"model": model.to(on), "images": images, "maps": maps.to(on), "classes": torch.tensor([1, 0])}
        metric.update(**metric._filter_kwargs(**given))
        found.append(metric.compute())
    model.cpu()
    assert_same(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_birds_without_their_parts(device):
    birds = ToyBirdsDataset("test", n_classes=4, images_per_class=1, size=32)
    found = []
    for on in ("cpu", device):
        torch.manual_seed(0)
        model = classifier().to(on)
        watched = watch_birds(model, birds, [0, 1], lambda pixels: pixels.float() / 255)
        found.append(torch.tensor(list(funny_birds(model, watched, "gradient").values())))
    assert_same(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_losses_and_their_gradients(device):
    def gradients(on):
        maps = (4 * random(5, 12, 6, 6)).to(on).requires_grad_()
        weight = random(4, 12, seed=2).to(on).requires_grad_()
        logits = maps.mean(dim=(2, 3)) @ weight.T
        loss = feature_diversity_loss(maps, logits, weight)
        loss.backward()
        return loss, maps.grad, weight.grad

    assert_same(gradients(device), gradients("cpu"), rtol=1e-4, atol=1e-6)
    maps = random(5, 12, 6, 6).to(device).requires_grad_()
    loss = MutualChannelLoss(4, 3).to(device)
    loss(maps, LABELS[:5]).backward()  # labels from a loader
    assert torch.isfinite(maps.grad).all()
    assert_same(loss_weights("balanced", LABELS.to(device), 4), loss_weights("balanced", LABELS, 4))


def test_filters_of_classes(device):
    features, labels = features_with_ties()
    weight, bias = random(3, 12, seed=5) - 0.5, random(3, seed=6)
    collector = StatisticsCollector(3, 12, (4, 0.5)).to(device)
    collector.update(features.to(device), labels.to(device))
    statistics = collector.compute()
    for rule in ("frequency", "contribution", "activation", "weight"):
        expected = select_filters(rule, 3, statistics, weight, 4)
        assert_same(select_filters(rule, 3, statistics, weight.to(device), 4), expected)
    grids = []
    for on in ("cpu", device):
        grid = AccuracyGrid(weight.to(on), bias.to(on), statistics, (1, 3)).to(on)
        grid.update(features.to(on), labels)
        grids.append(grid.compute())
    assert_same(grids[1], grids[0])
    filters = select_filters("weight", 3, statistics, weight)
    head = nn.Linear(12, 3)
    tests = []
    for on in ("cpu", device):
        test = EssentialityTest(head.to(on), filters.to(on), 12).to(on)
        test.update(features.to(on), labels.to(on), torch.arange(90))
        tests.append(test.compute())
    assert_same(tests[1], tests[0], atol=1.5)


def test_prototypes(device):
    torch.manual_seed(0)
    embedding = Embedding(classifier().backbone, "flatten").eval()
    images = random(2, 3, 3, 32, 32)
    found = []
    for on in ("cpu", device):
        embedding.to(on)
        with torch.no_grad():
            embedded = embedding(images.flatten(0, 1).to(on)).unflatten(0, (2, 3))
        scores, labels = episode_scores(embedded, shot=1)
        accuracy = EpisodeAccuracy().to(on)
        accuracy.update(scores, labels)
        queries = QueryScores(embedding, embedded[:, :1].mean(1))
        support = SupportScores(embedding, embedded[0, 1], embedded[:, :1], 1)
        maps = [
            attribute(module, images[0, 1:], contrast(0, 1), method="gradient").raw.cpu()
            for module in (queries, support)
        ]
        found.append((scores, labels, accuracy.compute(), maps))
    assert_same(found[1], found[0], rtol=1e-3, atol=1e-4)
