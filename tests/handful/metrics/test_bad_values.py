"""NaN, complex numbers and annotations that say something else: NaN is said, the rest is one sentence."""

import math

import pytest
import torch

from handful.annotations import Concept
from handful.errors import UserError
from handful.metrics import (
    AttributeAlignment,
    ClassIndependence,
    Contrastiveness,
    Dependence,
    DiversityAtK,
    LocationInstability,
    NetworkDissection,
    ScaleInvariantDiversity,
    StructuralGrounding,
)
from tests.handful.metrics.every_metric import numbers_of

FEATURES, MAPS = torch.rand(4, 3), torch.rand(4, 3, 5, 5)
LOGITS, WEIGHT = torch.rand(4, 2), torch.rand(2, 3)
PRESENT = torch.randint(0, 2, (4, 6)).bool()
NAN_LOGITS = LOGITS.clone().index_fill_(0, torch.tensor(2), math.nan)


@pytest.mark.parametrize("logits", [NAN_LOGITS, torch.where(torch.eye(4, 2) > 0, math.nan, LOGITS)])
@pytest.mark.parametrize(("make", "values"), [(Dependence, FEATURES), (lambda: DiversityAtK(2), MAPS)])
def test_an_image_without_a_predicted_class_makes_the_result_nan(make, values, logits):
    metric = make()
    metric.update(values, LOGITS, WEIGHT)
    assert bool(numbers_of(metric.compute()).isfinite().all())
    metric.update(values, logits, WEIGHT)
    assert bool(numbers_of(metric.compute()).isnan().any())


@pytest.mark.parametrize(("make", "values"), [(Dependence, FEATURES), (lambda: DiversityAtK(2), MAPS)])
def test_nan_in_the_weights_of_the_predicted_class_makes_the_result_nan(make, values):
    metric, weight = make(), WEIGHT.clone()
    weight[LOGITS[0].argmax(), 1] = math.nan
    metric.update(values, LOGITS, weight)
    assert bool(numbers_of(metric.compute()).isnan().any())


@pytest.mark.parametrize(
    "present",
    [PRESENT * 2.0, PRESENT.float() - 0.5, torch.full((4, 6), math.nan), PRESENT.to(torch.complex64), PRESENT[:, :5]],
    ids=["two", "negative", "nan", "complex", "shape"],
)
def test_presence_that_is_none(present):
    with pytest.raises(UserError, match="present"):
        AttributeAlignment(3, 6).update(FEATURES, present)
    with pytest.raises(UserError, match="present"):
        StructuralGrounding(WEIGHT, 6).update(present, torch.zeros(4, dtype=torch.long))


def test_certainties_in_the_place_of_whether_they_suffice():
    with pytest.raises(UserError, match="certain: expected whether annotations count"):
        AttributeAlignment(3, 6).update(FEATURES, PRESENT, torch.full((4, 6), 3))


def test_a_seen_landmark_without_a_place():
    metric, places = LocationInstability(3, 2, (20, 20)), torch.rand(4, 2, 2)
    places[1, 0] = math.nan
    seen = torch.ones(4, 2, dtype=torch.bool)
    with pytest.raises(UserError, match="positions"):
        metric.update(MAPS, places, seen)
    seen[1, 0] = False
    metric.update(MAPS, places, seen)


@pytest.mark.parametrize("maps", [torch.rand(4, 3, 0, 5), torch.rand(4, 3, 5, 0)])
@pytest.mark.parametrize("metric", [ScaleInvariantDiversity(2), DiversityAtK(2)])
def test_maps_without_a_position(metric, maps):
    with pytest.raises(UserError, match="expected a position at least"):
        metric.update(maps, LOGITS, WEIGHT)


def test_complex_features():
    features = FEATURES.to(torch.complex64)
    with pytest.raises(UserError, match="features"):
        ClassIndependence(3, 2).update(features, torch.zeros(4, dtype=torch.long))
    with pytest.raises(UserError, match="values"):
        Contrastiveness(3).update(features)


def test_complex_masks():
    with pytest.raises(UserError, match="mask"):
        NetworkDissection(torch.zeros(3), [Concept("beak", "part")]).update(MAPS, torch.zeros(4, 1, 5, 5).cfloat())
