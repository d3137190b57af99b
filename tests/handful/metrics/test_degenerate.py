"""What every measure gives for input that says nothing: defined behaviour, for each metric of the package.

Constant, zero and NaN maps and features, empty masks, one class, fewer than k features, one logit. A metric that is
missing from `CASES` fails the first test.
"""

import importlib
import math
import pkgutil

import pytest
import torch
from torch import nn
from torchmetrics import Metric

import handful.metrics
from handful.annotations import Concept
from handful.errors import UserError
from handful.metrics import (
    ActivationThresholds,
    AttributeAlignment,
    BalancedAccuracy,
    BiasProbe,
    ClassIndependence,
    Contrastiveness,
    Dependence,
    DiversityAtK,
    FeatureCorrelation,
    Histogram,
    LocationInstability,
    Mean,
    NetworkDissection,
    Plausibility,
    ScaleInvariantDiversity,
    StructuralGrounding,
    receptive_field,
    structural_grounding,
)
from handful.metrics.boxes import BoxRatio
from handful.metrics.degradation import Degradation
from handful.metrics.episodes import EpisodeAccuracy
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.infidelity import Infidelity
from handful.metrics.known_truth import Importances, KnownTruth
from handful.metrics.localisation import AreaAboveHalf, EnergyInMask, PointingGame
from handful.metrics.max_sensitivity import MaxSensitivity
from handful.metrics.means import MeanWhereDefined
from handful.metrics.parameter_randomisation import ParameterRandomisation
from handful.metrics.plotted import PlottedMetric
from handful.metrics.road import ROAD
from handful.metrics.sensitivity_n import SensitivityN
from handful.metrics.shaped import ShapedMetric
from handful.metrics.sparseness import Sparseness
from tests.handful.metrics.test_known_truth import additive_birds, scored

NAN = math.nan
ANY = object()  # any finite number: defined, and of no known value

torch.manual_seed(0)
IMAGES = torch.rand(3, 3, 8, 8)
CENTRED = IMAGES - IMAGES.mean((2, 3), keepdim=True)  # whose mean colour is 0
ZERO, ONE, NOT = torch.zeros(3, 8, 8), torch.ones(3, 8, 8), torch.full((3, 8, 8), NAN)
NEAR = torch.full((3, 8, 8), 0.3) + 1e-8 * torch.randn(3, 8, 8)  # constant but for rounding
QUARTER = torch.zeros(3, 8, 8, dtype=torch.bool)
QUARTER[:, :4, :4] = True
EMPTY = torch.zeros(3, 8, 8, dtype=torch.bool)
LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
ONE_LOGIT = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
FLAT_MODEL = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
nn.init.normal_(ONE_LOGIT[1].weight)
nn.init.zeros_(FLAT_MODEL[1].weight)
nn.init.zeros_(FLAT_MODEL[1].bias)
LABELS = torch.tensor([0, 1, 0])
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
NAN_LOGITS = torch.full((3, 2), NAN)


def fed(metric, *given, **named):
    metric.update(*given, **named)
    return metric.compute()


def of_maps(make, constant, zero, near, flat_model, one_logit=ANY):
    """Cases of a measure of a model, images and maps."""
    return {
        "constant map": (lambda: fed(make(), LINEAR, IMAGES, ONE), constant),
        "zero map": (lambda: fed(make(), LINEAR, IMAGES, ZERO), zero),
        "map constant but for rounding": (lambda: fed(make(), LINEAR, IMAGES, NEAR), near),
        "model that says the same of all": (lambda: fed(make(), FLAT_MODEL, IMAGES, torch.rand(3, 8, 8)), flat_model),
        "one logit": (lambda: fed(make(), ONE_LOGIT, CENTRED, torch.rand(3, 8, 8)), one_logit),
        "NaN map": (lambda: fed(make(), LINEAR, IMAGES, NOT), "maps"),
        "map of another size": (lambda: fed(make(), LINEAR, IMAGES, ONE[:, :4]), "maps"),
    }


def of_masks(make, constant, zero, near, full=ANY):
    """Cases of a measure of maps and masks."""
    return {
        "constant map": (lambda: fed(make(), ONE, QUARTER), constant),
        "zero map": (lambda: fed(make(), ZERO, QUARTER), zero),
        "map constant but for rounding": (lambda: fed(make(), NEAR, QUARTER), near),
        "NaN map": (lambda: fed(make(), NOT, QUARTER), "maps"),
        "empty mask": (lambda: fed(make(), ONE, EMPTY), NAN),
        "mask of 0 and 255": (lambda: fed(make(), QUARTER.float(), 255 * QUARTER.int()), full),
        "mask of another size": (lambda: fed(make(), ONE, QUARTER[:, :4]), "masks|maps"),
        "soft mask": (lambda: fed(make(), ONE, QUARTER * 0.5), "masks"),
    }


def features(make, constant, zero, nan="features", one_class=ANY):
    """Cases of a measure that is fed with features by the function `make(features, classes)`."""
    return {
        "constant features": (lambda: make(torch.full((3, 2), 0.3), 2), constant),
        "zero features": (lambda: make(torch.zeros(3, 2), 2), zero),
        "NaN features": (lambda: make(torch.full((3, 2), NAN), 2), nan),
        "one class": (lambda: make(torch.rand(3, 2), 1), one_class),
    }


def weighted(metric, maps, classes=2, weight=None):
    weight = torch.ones(classes, maps.shape[1]) if weight is None else weight
    return fed(metric, maps, LOGITS[:, :classes], weight)


def alignment(values, classes):
    return fed(AttributeAlignment(2, classes), values, torch.eye(2)[LABELS][:, :classes])


def dissected(maps, masks, thresholds=(0.5, 0.5)):
    metric = NetworkDissection(torch.tensor(thresholds), [Concept("wing", "part")])
    return fed(metric, maps, masks[:, None])["unique_detectors"]


def located(maps):
    return fed(LocationInstability(1, 1, (8, 8)), maps[:, None], torch.full((len(maps), 1, 2), 2.0))


def known(parts):
    answers, _, variants = additive_birds(20)
    given = parts(torch.rand(20, 4, 6))
    return scored(answers, Importances(given, torch.zeros(20, 4, 3), given.sum(2)), variants)


CASES = {
    InsertionAUC: of_maps(InsertionAUC, ANY, ANY, ANY, 1 / 3),
    DeletionAUC: of_maps(DeletionAUC, ANY, ANY, ANY, 1 / 3),
    Degradation: of_maps(lambda: Degradation(2), 0.0, 0.0, ANY, NAN),
    ROAD: of_maps(ROAD, ANY, ANY, ANY, 0.0),
    SensitivityN: of_maps(lambda: SensitivityN(2, 2, 4), 0.0, 0.0, ANY, NAN),
    Infidelity: of_maps(lambda: Infidelity(normalise=True), ANY, 1.0, ANY, NAN),
    MaxSensitivity: {
        "zero map": (lambda: fed(MaxSensitivity(lambda m, x, c: x[:, 0] * 0), LINEAR, IMAGES), 0.0),
        "constant map": (lambda: fed(MaxSensitivity(lambda m, x, c: x[:, 0] * 0 + 1), LINEAR, IMAGES), 0.0),
        "NaN map": (lambda: fed(MaxSensitivity(lambda m, x, c: x[:, 0] * NAN), LINEAR, IMAGES), "maps"),
        "one logit": (lambda: fed(MaxSensitivity("gradient"), ONE_LOGIT, IMAGES), 0.0),
    },
    ParameterRandomisation: {
        "zero map": (lambda: fed(ParameterRandomisation("gradient", ["1"]), FLAT_MODEL, IMAGES), NAN),
        "one logit": (lambda: fed(ParameterRandomisation("gradient", ["1"]), ONE_LOGIT, IMAGES), ANY),
    },
    EnergyInMask: of_masks(EnergyInMask, 0.25, 0.0, 0.25, 1.0),
    PointingGame: of_masks(PointingGame, 0.0, 0.0, 0.0, 1.0),
    BoxRatio: of_masks(BoxRatio, 0.25, 0.25, ANY, 1.0),
    AreaAboveHalf: {
        "constant map": (lambda: fed(AreaAboveHalf(), ONE), 1.0),
        "zero map": (lambda: fed(AreaAboveHalf(), ZERO), 1.0),
        "NaN map": (lambda: fed(AreaAboveHalf(), NOT), "maps"),
    },
    Sparseness: {
        "constant map": (lambda: fed(Sparseness(), ONE), 0.0),
        "zero map": (lambda: fed(Sparseness(), ZERO), 0.0),
        "map constant but for rounding": (lambda: round(float(fed(Sparseness(), NEAR)), 6), 0.0),
        "NaN map": (lambda: fed(Sparseness(), NOT), "maps"),
    },
    DiversityAtK: {
        "constant maps": (lambda: weighted(DiversityAtK(2), torch.ones(3, 2, 4, 4))["diversity@2"], 0.5),
        "zero maps": (lambda: weighted(DiversityAtK(2), torch.zeros(3, 2, 4, 4))["diversity@2"], 0.5),
        "NaN maps": (lambda: weighted(DiversityAtK(2), torch.full((3, 2, 4, 4), NAN))["diversity@2"], NAN),
        "one class": (lambda: weighted(DiversityAtK(2), torch.rand(3, 2, 4, 4), 1)["diversity@1"], 1.0),
        "fewer than k features": (lambda: weighted(DiversityAtK(3), torch.rand(3, 2, 4, 4))["diversity@3"], NAN),
        "fewer than k weights": (
            lambda: weighted(DiversityAtK(2), torch.rand(3, 2, 4, 4), 2, torch.eye(2))["diversity@2"], NAN
        ),
    },
    ScaleInvariantDiversity: {
        "constant maps": (lambda: weighted(ScaleInvariantDiversity(2), torch.ones(3, 2, 4, 4))["sid@2"], 0.5),
        "zero maps": (lambda: weighted(ScaleInvariantDiversity(2), torch.zeros(3, 2, 4, 4))["sid@2"], 0.5),
        "NaN maps": (lambda: weighted(ScaleInvariantDiversity(2), torch.full((3, 2, 4, 4), NAN))["sid@2"], NAN),
        "fewer than k features": (lambda: weighted(ScaleInvariantDiversity(3), torch.rand(3, 2, 4, 4))["sid@3"], NAN),
    },
    Dependence: features(lambda x, c: fed(Dependence(), x, LOGITS[:, :c], torch.ones(c, 2)), 0.5, NAN, NAN),
    ClassIndependence: features(lambda x, c: fed(ClassIndependence(2, c), x, LABELS % c), NAN, NAN, one_class=0.0),
    Contrastiveness: features(lambda x, c: fed(Contrastiveness(2), x), NAN, NAN, "values"),
    FeatureCorrelation: features(lambda x, c: fed(FeatureCorrelation(2), x), 1.0, NAN),
    AttributeAlignment: features(alignment, NAN, NAN),
    Plausibility: {
        "constant maps": (lambda: fed(Plausibility(), torch.ones(3, 2, 4, 4), LOGITS, torch.eye(2), QUARTER), 0.25),
        "zero maps": (lambda: fed(Plausibility(), torch.zeros(3, 2, 4, 4), LOGITS, torch.eye(2), QUARTER), NAN),
        "NaN maps": (lambda: fed(Plausibility(), torch.full((3, 2, 4, 4), NAN), LOGITS, torch.eye(2), QUARTER), "maps"),
        "empty mask": (lambda: fed(Plausibility(), torch.rand(3, 2, 4, 4), LOGITS, torch.eye(2), EMPTY), NAN),
        "one class": (
            lambda: fed(Plausibility(), torch.ones(3, 2, 4, 4), LOGITS[:, :1], torch.ones(1, 2), QUARTER), 0.25
        ),
        "no weights": (lambda: fed(Plausibility(), torch.rand(3, 2, 4, 4), LOGITS, torch.zeros(2, 2), QUARTER), NAN),
    },
    StructuralGrounding: {
        "one class": (lambda: fed(StructuralGrounding(torch.ones(1, 2), 2), torch.rand(3, 2), LABELS * 0), NAN),
        "no attribute": (lambda: fed(StructuralGrounding(torch.eye(2), 2), torch.zeros(3, 2), LABELS), NAN),
        "no weights": (lambda: structural_grounding(torch.zeros(2, 2), torch.ones(2, 2)), 0.0),
        "NaN weights": (lambda: structural_grounding(torch.full((2, 2), NAN), torch.ones(2, 2)), "weight"),
        "NaN attributes": (
            lambda: fed(StructuralGrounding(torch.eye(2), 2), torch.full((3, 2), NAN), LABELS), "present|attributes"
        ),
    },
    ActivationThresholds: {
        "constant maps": (lambda: fed(ActivationThresholds(1), torch.ones(3, 1, 4, 4)), math.inf),
        "NaN maps": (lambda: fed(ActivationThresholds(1), torch.full((3, 1, 4, 4), NAN)), "maps"),
    },
    NetworkDissection: {
        "zero maps": (lambda: dissected(torch.zeros(3, 2, 4, 4), QUARTER), 0.0),
        "empty masks": (lambda: dissected(torch.ones(3, 2, 4, 4), EMPTY), 0.0),
        "units that never change": (lambda: dissected(torch.ones(3, 2, 4, 4), QUARTER, (math.inf, math.inf)), 0.0),
        "NaN maps": (lambda: dissected(torch.full((3, 2, 4, 4), NAN), QUARTER), "maps"),
        "NaN thresholds": (lambda: dissected(torch.ones(3, 2, 4, 4), QUARTER, (0.5, NAN)), "thresholds"),
        "soft masks": (lambda: dissected(torch.ones(3, 2, 4, 4), QUARTER * 0.5), "masks"),
    },
    LocationInstability: {
        "constant maps": (lambda: located(ONE), NAN),
        "zero maps": (lambda: located(ZERO), NAN),
        "one image": (lambda: located(torch.rand(1, 8, 8)), NAN),
        "NaN maps": (lambda: located(NOT), "maps"),
    },
    KnownTruth: {
        "equal importances": (lambda: known(torch.ones_like)["correctness"], 0.5),
        "no importances": (lambda: known(torch.zeros_like)["contrastivity"], 0.0),  # equal ones do not tell apart
    },
    BiasProbe: {
        "one class": (lambda: fed(BiasProbe(1), LOGITS[:, :1], LOGITS[:, 1:], LABELS * 0)["probability_change"], 0.0),
        "NaN logits": (lambda: fed(BiasProbe(2), NAN_LOGITS, LOGITS, LABELS), "before"),
    },
    BalancedAccuracy: {
        "one class": (lambda: fed(BalancedAccuracy(1), LABELS * 0, LABELS * 0), 100.0),
        "nothing": (lambda: BalancedAccuracy(2).compute(), NAN),
    },
    EpisodeAccuracy: {
        "one class": (lambda: fed(EpisodeAccuracy(), LOGITS[:, :1], LABELS * 0)["accuracy"], 100.0),
        "NaN scores": (lambda: fed(EpisodeAccuracy(), NAN_LOGITS, LABELS)["accuracy"], NAN),
        "no queries": (lambda: fed(EpisodeAccuracy(), LOGITS[:0], LABELS[:0]), "scores"),
    },
    Histogram: {
        "constant values": (lambda: int(fed(Histogram(1), torch.ones(3, 1))[0].max()), 3),
        "NaN": (lambda: fed(Histogram(1), torch.full((3, 1), NAN)), "values"),
    },
    Mean: {"NaN": (lambda: fed(Mean(), [1.0, NAN]), NAN), "nothing": (lambda: Mean().compute(), NAN)},
    MeanWhereDefined: {"NaN": (lambda: fed(MeanWhereDefined(), [1.0, NAN]), 1.0)},
}  # fmt: skip
WITHOUT_INPUT = {PlottedMetric, ShapedMetric}  # what others are made of


def test_every_metric_of_the_package_has_cases():
    found = set()
    for module in pkgutil.iter_modules(handful.metrics.__path__, "handful.metrics."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Metric) and value.__module__ == module.name:
                found.add(value)
    assert found - WITHOUT_INPUT == set(CASES)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(
    ("work", "expected"),
    [
        pytest.param(*case, id=f"{metric.__name__}: {kind}")
        for metric, cases in CASES.items()
        for kind, case in cases.items()
    ],
)
def test_what_says_nothing_has_a_defined_value(work, expected):
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            work()
        return
    found = float(work())
    if expected is ANY:
        assert math.isfinite(found)
    else:
        assert found == pytest.approx(expected, nan_ok=True)


def test_a_unit_that_never_changes_has_no_receptive_field():
    (field,) = receptive_field(lambda x: x[:, :1] * 0 + 1, IMAGES, 0)
    assert field.size == 0
