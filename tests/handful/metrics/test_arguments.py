"""Arguments that cannot be: sizes of metrics, options of ROAD, readings, units of receptive fields."""

import inspect

import numpy
import pytest
import torch
from torch import nn

from handful.errors import UserError
from handful.metrics import (
    ActivationThresholds,
    AttributeAlignment,
    BalancedAccuracy,
    BiasProbe,
    ClassIndependence,
    Contrastiveness,
    DiversityAtK,
    FeatureCorrelation,
    Histogram,
    LocationInstability,
    ScaleInvariantDiversity,
    receptive_field,
)
from handful.metrics.faithfulness import perturbation_curve
from handful.metrics.road import ROAD, road_curve
from tests.handful.metrics.every_metric import MODEL, NUMBERS

#: Arguments that say how large a metric is, at least so much.
SIZES = [
    (DiversityAtK, "k", 1), (ScaleInvariantDiversity, "k", 1), (ClassIndependence, "num_features", 0),
    (ClassIndependence, "num_classes", 0), (Contrastiveness, "num_features", 0), (Histogram, "num_features", 0),
    (Histogram, "bins", 8), (FeatureCorrelation, "num_features", 0), (AttributeAlignment, "num_features", 0),
    (AttributeAlignment, "num_attributes", 0), (ActivationThresholds, "num_units", 0),
    (BalancedAccuracy, "num_classes", 1), (BiasProbe, "num_classes", 1),
    (LocationInstability, "num_filters", 0), (LocationInstability, "num_landmarks", 0),
]  # fmt: skip
COUNTED = ("features", "classes", "attributes", "units", "filters", "landmarks")
OTHERS = {f"num_{what}": 2 for what in COUNTED}


@pytest.mark.parametrize("value", ["below", 2.5, "a", None])
@pytest.mark.parametrize(("metric", "name", "least"), SIZES)
def test_sizes_that_cannot_be(metric, name, least, value):
    known = inspect.signature(metric.__init__).parameters
    given = {key: number for key, number in OTHERS.items() if key in known}
    given |= {"size": (8, 8)} if "size" in known else {}
    metric(**given)
    with pytest.raises(UserError, match=f"{name}: expected"):
        metric(**given | {name: least - 1 if value == "below" else value})


@pytest.mark.parametrize(("options", "words"), [
    ({"reading": "probabilities"}, "reading 'probabilities' is unknown: give probability, score, decision"),
    ({"percentages": ()}, "percentages: expected one at least"),
    ({"percentages": 50}, "percentages: expected one at least"),
    ({"percentages": numpy.array([])}, "percentages: expected one at least"),
    ({"percentages": torch.tensor(50.0)}, "percentages: expected one at least"),
    ({"percentages": "50"}, "percentages: expected a number, got '5'"),
    ({"percentages": numpy.array([50, 100])}, "percentages: 100 lies outside"),
    ({"percentages": (50, 100)}, "percentages: 100 lies outside"),
    ({"noise": -1}, "noise"),
])  # fmt: skip
def test_options_of_road_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        ROAD(**options)
    with pytest.raises(UserError, match=words):
        road_curve(MODEL, NUMBERS["images"], NUMBERS["maps"], **options)


@pytest.mark.parametrize("form", [list, numpy.array, torch.tensor, iter])
def test_percentages_of_road_in_any_sequence(form):
    expected = road_curve(MODEL, NUMBERS["images"], NUMBERS["maps"], percentages=(20, 50))
    assert torch.equal(road_curve(MODEL, NUMBERS["images"], NUMBERS["maps"], percentages=form([20, 50])), expected)
    assert ROAD(percentages=form([20, 50])).percentages == (20.0, 50.0)


def test_a_reading_that_is_unknown_is_refused_wherever_it_is_read():
    """It was taken for the decision."""
    with pytest.raises(UserError, match="reading 'logit' is unknown"):
        perturbation_curve(MODEL, NUMBERS["images"], NUMBERS["maps"], reading="logit")


@pytest.mark.parametrize(("unit", "images", "words"), [
    (4, torch.rand(1, 3, 8, 8), "unit: expected 0 to 3, got 4"),
    (-1, torch.rand(1, 3, 8, 8), "unit: expected 0 to 3, got -1"),
    ([0, 99], torch.rand(1, 3, 8, 8), "unit: expected 0 to 3, got 99"),
    (2.5, torch.rand(1, 3, 8, 8), "unit: expected integers"),
    (0, torch.full((1, 3, 8, 8), torch.nan), "images: row 0 holds values that are not finite"),
    (0, torch.rand(1, 3, 8), "images: expected shape"),
])  # fmt: skip
def test_receptive_fields_of_what_is_not_there(unit, images, words):
    with pytest.raises(UserError, match=words):
        receptive_field(nn.Conv2d(3, 4, 3, padding=1), images, unit)
    with pytest.raises(UserError, match="maps: expected shape"):
        receptive_field(lambda batch: batch.mean((2, 3)), torch.rand(1, 3, 8, 8), 0)


@pytest.mark.parametrize("unit", [numpy.int64(1), [1], torch.tensor(1), numpy.array([1, 2])])
def test_units_are_whole_numbers_of_any_kind(unit):
    assert receptive_field(nn.Conv2d(3, 4, 3, padding=1), torch.rand(1, 3, 8, 8), unit)[0].images == 1
