"""Measures of features against written-out references, at known points, on bad input, and on two processes."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torchmetrics import MetricCollection

from handful.birds import class_table
from handful.errors import UserError
from handful.metrics import (
    AttributeAlignment,
    ClassIndependence,
    Contrastiveness,
    DiversityAtK,
    FeatureCorrelation,
    Plausibility,
    ScaleInvariantDiversity,
    StructuralGrounding,
    grounding_correlation,
    stands_for,
    structural_grounding,
)
from handful.metrics.contrastiveness import gaussian_overlap, two_gaussians
from handful.metrics.histogram import Histogram
from handful.metrics.plausibility import activation_inside
from tests.helpers.two_processes import every_second, on_two_processes

N, S, C, A = 23, 6, 4, 5  # an odd number of images, so that ranks hold different numbers


def made(seed=0):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(N, S, generator=g).exp()
    features[:, 4] = -7.0  # never changes
    return {
        "features": features,
        "labels": torch.randint(0, C, (N,), generator=g),
        "present": torch.rand(N, A, generator=g) > 0.5,
        "certain": torch.rand(N, A, generator=g) > 0.2,
        "maps": torch.randn(N, S, 4, 4, generator=g),
        "logits": torch.randn(N, C, generator=g),
        "weight": torch.randn(C, S, generator=g) * (torch.rand(C, S, generator=g) > 0.4),
        "masks": torch.rand(N, 9, 11, generator=g) > 0.5,
    }


def metrics(weight):
    """Every measure with the names of what it is fed."""
    return {
        "sid": (ScaleInvariantDiversity(3), ("maps", "logits")),
        "independence": (ClassIndependence(S, C), ("features", "labels")),
        "contrastiveness": (Contrastiveness(S, 64), ("features",)),
        "correlation": (FeatureCorrelation(S), ("features",)),
        "alignment": (AttributeAlignment(S, A), ("features", "present", "certain")),
        "grounding": (StructuralGrounding(weight, A), ("present", "labels", "certain")),
        "plausibility": (Plausibility(), ("maps", "logits", "masks")),
    }


def fed(data, own=slice(None), batch=7):
    """The measures fed with some of the data, in batches."""
    found = metrics(data["weight"])
    for metric, names in found.values():
        rows = [data[name][own] for name in names]
        for start in range(0, len(rows[0]), batch):
            part = [row[start : start + batch] for row in rows]
            if isinstance(metric, DiversityAtK | Plausibility):
                part.insert(2, data["weight"])
            metric.update(*part)
    return {name: metric for name, (metric, _) in found.items()}


def values(metric):
    found = metric.compute()
    return [float(v) for v in (found.values() if isinstance(found, dict) else [found])]


def test_against_what_the_authors_code_computes():
    data = made()
    found = fed(data)
    x, y = data["features"].double().numpy(), data["labels"].numpy()
    moving = [0, 1, 2, 3, 5]
    above = x - x.min(axis=0)
    shares = np.stack([above[y == c].sum(axis=0) for c in range(C)])[:, moving] / above.sum(axis=0)[moving]
    assert float(found["independence"].compute()) == pytest.approx(1 - shares.max(axis=0).mean(), rel=1e-12)
    unit = x / np.linalg.norm(x, axis=0)
    cosine = unit.T @ unit - 3 * np.eye(S)
    assert float(found["correlation"].compute()) == pytest.approx(cosine.max(axis=0).mean(), rel=1e-12)
    present, certain = data["present"].numpy(), data["certain"].numpy()
    rows = []
    for a in range(A):
        ok = certain[:, a]
        rows.append(x[ok & present[:, a]].mean(axis=0) - x[ok & ~present[:, a]].mean(axis=0))
    matrix = np.stack(rows)[:, moving] / above.mean(axis=0)[moving]
    assert np.allclose(found["alignment"].matrix().numpy()[:, moving], matrix, rtol=1e-12)
    assert bool(found["alignment"].matrix()[:, 4].isnan().all())
    assert float(found["alignment"].compute()) == pytest.approx(matrix.max(axis=0).mean(), rel=1e-12)


def test_scale_invariant_diversity_against_a_loop():
    data = made()
    result = fed(data)["sid"].compute()
    for k in (1, 2, 3):
        found = []
        for maps, logits in zip(data["maps"], data["logits"], strict=True):
            row = data["weight"][int(logits.argmax())]
            if int((row != 0).sum()) >= k:
                chosen = maps[row.topk(k).indices]
                chosen = chosen / chosen.abs().mean(dim=(1, 2), keepdim=True).clamp(min=1e-5)
                found.append(float(chosen.flatten(1).softmax(dim=1).amax(dim=0).sum()) / k)
        assert float(result[f"sid@{k}"]) == pytest.approx(np.mean(found), rel=1e-6)


def test_structural_grounding_against_the_symmetric_matrix():
    g = torch.Generator().manual_seed(1)
    weight, attributes = torch.randn(12, 5, generator=g), torch.rand(12, 7, generator=g)

    def alike(rows):
        unit = rows.double() / rows.double().norm(dim=1, keepdim=True)
        square = (unit @ unit.T).numpy()
        np.fill_diagonal(square, 0)
        return square.flatten()

    top = np.argsort(alike(attributes))[::-1][:50]
    expected = alike(weight)[top].sum() / alike(attributes)[top].sum()
    assert float(structural_grounding(weight, attributes)) == pytest.approx(expected, rel=1e-12)
    assert float(structural_grounding(3 * attributes, attributes)) == pytest.approx(1)
    assert bool(structural_grounding(torch.ones(1, 5), torch.ones(1, 2)).isnan())


def test_planted_grounding_is_high_and_many_pairs_of_few_classes_hide_it():
    """Ten classes of toy birds, whose weights are their attributes: with any vector added to all rows."""
    table = class_table(10)
    attributes = torch.zeros(10, 6, 8, dtype=torch.float64)
    for row, bird in enumerate(table.classes):
        for place, variant in enumerate(bird.variants.values()):
            attributes[row, place, variant] = 1
    attributes = attributes.flatten(1)
    centred = attributes - attributes.mean(dim=0)  # as a softmax leaves them
    assert float(structural_grounding(attributes, attributes)) == pytest.approx(1)
    assert float(structural_grounding(centred, attributes, pairs=3)) > 0.5
    assert float(structural_grounding(centred, attributes)) < 0.3  # of 45 pairs 25 are not the most alike
    assert float(grounding_correlation(centred, attributes)) == pytest.approx(1)
    assert float(grounding_correlation(attributes + torch.randn(48), attributes)) == pytest.approx(1)
    random = [float(grounding_correlation(torch.randn(10, 64), attributes)) for _ in range(30)]
    assert abs(sum(random) / 30) < 0.1
    assert float(grounding_correlation(torch.ones(10, 3), attributes)) == 0
    assert math.isnan(float(grounding_correlation(torch.eye(2), torch.eye(2))))


def test_the_mixture_is_scikit_learns():
    g = torch.Generator().manual_seed(0)
    columns = [
        torch.cat([torch.randn(600, generator=g) * 0.5, 3 + torch.randn(400, generator=g)]),
        torch.cat([torch.randn(500, generator=g) * 0.2, 1 + torch.randn(500, generator=g) * 0.3]) * 1e-6,
        1e4 + torch.cat([torch.randn(200, generator=g), 5 + torch.randn(800, generator=g)]),
    ]
    data = torch.stack(columns, dim=1).double()
    histogram = Histogram(3, 1024)
    histogram.update(data)
    mean, spread = two_gaussians(*histogram.compute())
    found = gaussian_overlap(mean, spread)
    for feature in range(3):
        column = data[:, feature : feature + 1].numpy()
        scaled = (column - column.mean()) / column.std()
        mixture = GaussianMixture(2, random_state=0, tol=1e-8, max_iter=2000).fit(scaled)
        one, other = (
            NormalDist(float(m), float(v) ** 0.5)
            for m, v in zip(mixture.means_[:, 0], mixture.covariances_[:, 0, 0], strict=True)
        )
        assert float(found[feature]) == pytest.approx(one.overlap(other), abs=3e-3)
        got = gaussian_overlap(torch.tensor([one.mean, other.mean]), torch.tensor([one.stdev, other.stdev]))
        assert float(got) == pytest.approx(one.overlap(other), abs=1e-5)


def test_histograms_count_each_value_once_in_any_order():
    g = torch.Generator().manual_seed(0)
    data = torch.randn(1001, 6, generator=g) * torch.tensor([1, 1e-5, 1e5, 3, 2, 0.0])
    data = data + torch.tensor([0, 0, 0, 1e4, -3, 5.0])
    whole, parts = Histogram(6, 64), Histogram(6, 64)
    whole.update(data)
    for part in torch.randperm(1001, generator=g).split(13):
        parts.update(data[part])
    assert torch.equal(whole.state, parts.state)
    counts, edges = whole.compute()
    for feature in range(6):
        expected, _ = np.histogram(data[:, feature].double().numpy(), bins=edges[feature].numpy())
        assert counts[feature].tolist() == expected.tolist()
    filled = (counts > 0).sum(dim=1)
    assert filled[:5].min() > 64 / 4
    assert filled[5] == 1


def test_known_points():
    independence = ClassIndependence(2, 2)
    independence.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert float(independence.compute()) == 0
    even = ClassIndependence(1, 4)
    even.update(torch.tensor([[0.0], [1.0]] * 4), torch.arange(8) // 2)
    assert float(even.compute()) == pytest.approx(0.75)
    twice = FeatureCorrelation(2)
    twice.update(torch.rand(5, 1).repeat(1, 2))
    assert float(twice.compute()) == pytest.approx(1)
    planted = AttributeAlignment(2, 3)
    present = torch.eye(3)[torch.arange(30) % 3]
    planted.update(torch.stack([present[:, 1], torch.rand(30) * 0.01 + 1], dim=1), present)
    assert planted.matrix()[:, 0].argmax() == 1
    assert float(planted.matrix()[1, 0]) == pytest.approx(3)
    inside = activation_inside(torch.rand(2, 3, 4, 4), torch.ones(2, 8, 8, dtype=torch.bool))
    assert inside.numpy() == pytest.approx(1)


def test_a_share_of_classes_weighs_as_often_as_it_says():
    """Half presence is the same as one image with and one without."""
    soft, hard = AttributeAlignment(2, 1), AttributeAlignment(2, 1)
    features = torch.rand(6, 2)
    soft.update(features, torch.tensor([[0.5], [1.0], [0.0], [0.5], [1.0], [0.0]]))
    hard.update(features.repeat_interleave(2, 0), torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0]]).T)
    assert torch.allclose(soft.matrix(), hard.matrix())


def test_the_rule_of_thirty_per_cent():
    shares = torch.tensor([[0.31, 0.30, 0.0], [0.9, 0.1, 0.0], [0.2, 0.19, 0.0]])
    weight = torch.tensor([[1.0, -1.0], [0.5, 0.0], [0.0, 0.0]])
    assert stands_for(weight, shares).tolist() == [[True, False, False], [False, False, False]]
    assert stands_for(weight, shares, common=0.2).tolist()[1] == [False, True, False]


def test_one_process_and_two_print_the_same_digits():
    data = made()
    single = {name: values(metric) for name, metric in fed(data).items()}
    ranks = on_two_processes(lambda rank: {n: values(m) for n, m in fed(data, every_second(rank)).items()})
    for found in ranks:
        for name, expected in single.items():
            assert found[name] == pytest.approx(expected, rel=1e-13, nan_ok=True), name
            assert [f"{v:.6f}" for v in found[name]] == [f"{v:.6f}" for v in expected], name


def test_in_a_collection_reset_and_plot():
    data = made()
    collection = MetricCollection({"independence": ClassIndependence(S, C)})
    collection.update(data["features"], data["labels"])
    first = collection.compute()
    collection.reset()
    collection.update(data["features"], data["labels"])
    assert collection.compute() == first
    for metric in fed(data).values():
        figure, _ = metric.plot()
        assert figure.axes
        assert isinstance(metric.higher_is_better, bool)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: FeatureCorrelation(2).update(torch.tensor([[1.0, 2.0], [1.0, torch.nan]])), "row 1 holds values"),
        (lambda: Contrastiveness(1).update(torch.tensor([[torch.inf]])), "row 0 holds values"),
        (lambda: ClassIndependence(2, 2).update(torch.rand(2, 2), torch.tensor([0, 2])), "2 lies outside"),
        (lambda: AttributeAlignment(2, 1).update(torch.rand(2, 2), torch.tensor([[2], [0]])), r"in \[0, 1\]"),
        (lambda: AttributeAlignment(2, 1).update(torch.rand(2, 2), torch.zeros(3, 1)), "expected shape"),
        (lambda: Plausibility().update(torch.rand(2, 2, 3, 3), torch.rand(2, 2), torch.eye(2), torch.ones(1, 3, 3)),
         "expected 2 of them"),
        (lambda: activation_inside(torch.rand(1, 1, 2, 2), torch.full((1, 2, 2), 0.3)), "expected 0 and 1"),
        (lambda: stands_for(torch.rand(3, 2), torch.rand(2, 2)), "expected shape"),
    ],
)  # fmt: skip
def test_what_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()


def test_what_is_not_defined_is_no_number():
    for metric in metrics(torch.ones(C, S)).values():
        assert all(np.isnan(v) for v in values(metric[0])), metric[0]
    constant = ClassIndependence(2, 2)
    constant.update(torch.full((4, 2), 0.1), torch.tensor([0, 0, 1, 1]))
    assert np.isnan(float(constant.compute()))
    zero = FeatureCorrelation(3)
    zero.update(torch.zeros(4, 3))
    assert np.isnan(float(zero.compute()))
    alone = FeatureCorrelation(1)
    alone.update(torch.ones(4, 1))
    assert np.isnan(float(alone.compute()))
    inside = activation_inside(torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]), torch.zeros(2, 4, 4).bool())
    assert inside.isnan().all()


def test_one_class_one_logit_and_fewer_than_k_features():
    alone = ClassIndependence(2, 1)
    alone.update(torch.rand(5, 2), torch.zeros(5, dtype=torch.int64))
    assert float(alone.compute()) == pytest.approx(0)
    diverse = ScaleInvariantDiversity(5)
    diverse.update(torch.rand(4, 3, 4, 4), torch.rand(4, 1), torch.ones(1, 3))
    found = [float(value) for value in diverse.compute().values()]
    assert np.isfinite(found[:3]).all()
    assert np.isnan(found[3:]).all()
    plausible = Plausibility()
    plausible.update(torch.ones(2, 3, 4, 4), torch.rand(2, 1), torch.ones(1, 3), torch.ones(2, 8, 8))
    assert float(plausible.compute()) == 1


def test_classes_that_are_left_out_are_not_predicted():
    plausible = Plausibility()
    weight, logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[-torch.inf, 0.0], [1.0, -torch.inf]])
    maps, mask = torch.ones(2, 2, 4, 4), torch.ones(2, 4, 4)
    maps[1, 0, :, :2] = 3  # beside the mask
    mask[1, :, :2] = 0
    plausible.update(maps, logits, weight, mask)
    assert float(plausible.compute()) == pytest.approx((1 + 0.25) / 2)
    with pytest.raises(UserError, match="logits: row 1 holds NaN"):
        plausible.update(maps, torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), weight, mask)


@pytest.mark.parametrize("form", [bool, 255, 1.0])
def test_masks_of_any_form_and_size(form):
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    mask = mask.bool() if form is bool else mask * form
    maps = torch.tensor([[[[1.0, 3.0], [0.0, -5.0]]]])
    assert float(activation_inside(maps, mask)) == pytest.approx(0.25)


@pytest.mark.parametrize("together", [1, 70, 2**17])
def test_features_that_wait_to_be_counted_give_the_same_digits(together, monkeypatch):
    """Contrastiveness in `evaluate`: batch by batch, several at once, all at the end."""
    from types import SimpleNamespace

    from pipelines.measures import features as measures

    monkeypatch.setattr(measures, "COUNTED_TOGETHER", together)
    values = torch.randn(53, 3, generator=torch.Generator().manual_seed(1)).exp()
    measure = measures.Contrast(SimpleNamespace(used=range(3), weight=torch.zeros(2, 3)))
    alone = Contrastiveness(3)
    for rows in values.split(10):
        measure.update(SimpleNamespace(features=rows))
        alone.update(rows)
    assert measure.compute().values == {"contrastiveness": float(alone.compute())}
