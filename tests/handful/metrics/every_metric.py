"""Every metric of `handful.metrics`, and what it is fed with: how it is made, and the arguments of some rows."""

import torch
from torch import nn

from handful.annotations import Concept
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
)
from handful.metrics.boxes import BoxRatio
from handful.metrics.degradation import Degradation
from handful.metrics.episodes import EpisodeAccuracy
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.infidelity import Infidelity
from handful.metrics.knockouts import contrasting_classes, sufficient_sets
from handful.metrics.known_truth import Answers, Importances, KnownTruth
from handful.metrics.localisation import AreaAboveHalf, EnergyInMask, PointingGame
from handful.metrics.max_sensitivity import MaxSensitivity
from handful.metrics.means import MeanWhereDefined
from handful.metrics.parameter_randomisation import ParameterRandomisation
from handful.metrics.road import ROAD
from handful.metrics.sensitivity_n import SensitivityN
from handful.metrics.sparseness import Sparseness
from tests.handful.metrics.test_known_truth import additive_birds

N, FEATURES, CLASSES, ATTRIBUTES = 11, 6, 4, 3


def _numbers():
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(N, *shape, generator=generator)

    labels = torch.randint(CLASSES, (N,), generator=generator)
    return {
        "images": uniform(3, 8, 8) - 0.5, "maps": uniform(8, 8), "masks": uniform(8, 8) > 0.7, "classes": labels % 2,
        "feature_maps": uniform(FEATURES, 4, 4), "features": uniform(FEATURES) - 0.5, "logits": uniform(CLASSES),
        "after": uniform(CLASSES), "labels": labels, "present": uniform(ATTRIBUTES), "predicted": labels.flip(0),
        "positions": 8 * uniform(2, 2), "concepts": uniform(2, 8, 8) > 0.6,
    }  # fmt: skip


NUMBERS = _numbers()
WEIGHT = torch.linspace(-1, 2, CLASSES * FEATURES).reshape(CLASSES, FEATURES)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 2))
with torch.no_grad():
    for number, weights in enumerate(MODEL.parameters()):
        weights.copy_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(number)))


def given(**names):
    """A function of rows: arguments of these names, of `NUMBERS` or as they are."""
    return lambda rows: {
        name: NUMBERS[value][rows] if isinstance(value, str) else value for name, value in names.items()
    }


def _known_truth(rows):
    answers, _, variants = additive_birds(N)
    generator = torch.Generator().manual_seed(3)
    said, things = torch.rand(N, 4, 6, generator=generator), torch.rand(N, 4, 3, generator=generator)
    return {
        "answers": Answers(*(getattr(answers, n)[rows] for n in ("labels", "logits", "things", "without_thing"))),
        "importances": Importances(said[rows], things[rows], said.sum(2)[rows]),
        "sets": sufficient_sets(variants), "contrast": contrasting_classes(variants),
    }  # fmt: skip


_of_maps = given(model=MODEL, images="images", maps="maps", classes="classes")
_of_images = given(model=MODEL, images="images", classes="classes")
_masked = given(maps="maps", masks="masks")
_weighted = given(maps="feature_maps", logits="logits", weight=WEIGHT)

EVERY = {
    InsertionAUC: (lambda **kw: InsertionAUC(4, **kw), _of_maps),
    DeletionAUC: (lambda **kw: DeletionAUC(4, **kw), _of_maps),
    Degradation: (lambda **kw: Degradation(2, **kw), _of_maps),
    ROAD: (lambda **kw: ROAD((30, 70), **kw), _of_maps),
    SensitivityN: (lambda **kw: SensitivityN(sizes=2, subsets=5, **kw), _of_maps),
    Infidelity: (lambda **kw: Infidelity(samples=3, **kw), _of_maps),
    MaxSensitivity: (lambda **kw: MaxSensitivity("gradient", samples=2, **kw), _of_images),
    ParameterRandomisation: (lambda **kw: ParameterRandomisation("gradient", ["3", "1"], **kw), _of_images),
    Sparseness: (Sparseness, given(maps="maps")),
    AreaAboveHalf: (AreaAboveHalf, given(maps="maps")),
    EnergyInMask: (EnergyInMask, _masked),
    PointingGame: (lambda **kw: PointingGame(1, **kw), _masked),
    BoxRatio: (lambda **kw: BoxRatio(0.5, **kw), _masked),
    Mean: (Mean, given(values="maps")),
    MeanWhereDefined: (MeanWhereDefined, given(values="maps")),
    DiversityAtK: (lambda **kw: DiversityAtK(3, **kw), _weighted),
    ScaleInvariantDiversity: (lambda **kw: ScaleInvariantDiversity(3, **kw), _weighted),
    Dependence: (Dependence, given(features="features", logits="logits", weight=WEIGHT)),
    ClassIndependence: (
        lambda **kw: ClassIndependence(FEATURES, CLASSES, **kw), given(features="features", labels="labels"),
    ),
    Contrastiveness: (lambda **kw: Contrastiveness(FEATURES, 64, **kw), given(values="features")),
    Histogram: (lambda **kw: Histogram(FEATURES, 64, **kw), given(values="features")),
    FeatureCorrelation: (lambda **kw: FeatureCorrelation(FEATURES, **kw), given(features="features")),
    AttributeAlignment: (
        lambda **kw: AttributeAlignment(FEATURES, ATTRIBUTES, **kw), given(features="features", present="present")
    ),
    StructuralGrounding: (
        lambda **kw: StructuralGrounding(WEIGHT, ATTRIBUTES, **kw), given(present="present", labels="labels")
    ),
    Plausibility: (Plausibility, given(maps="feature_maps", logits="logits", weight=WEIGHT, masks="masks")),
    ActivationThresholds: (lambda **kw: ActivationThresholds(FEATURES, 0.05, 64, **kw), given(maps="feature_maps")),
    NetworkDissection: (
        lambda **kw: NetworkDissection(
            torch.full((FEATURES,), 0.5), [Concept("wing", "part"), Concept("bird", "object")], **kw
        ),
        given(maps="feature_maps", masks="concepts"),
    ),
    LocationInstability: (
        lambda **kw: LocationInstability(FEATURES, 2, (8, 8), **kw), given(maps="feature_maps", positions="positions")
    ),
    BalancedAccuracy: (lambda **kw: BalancedAccuracy(CLASSES, **kw), given(predicted="predicted", labels="labels")),
    BiasProbe: (lambda **kw: BiasProbe(CLASSES, **kw), given(before="logits", after="after", labels="labels")),
    EpisodeAccuracy: (EpisodeAccuracy, given(scores="logits", labels="labels")),
    KnownTruth: (KnownTruth, _known_truth),
}  # fmt: skip


def numbers_of(found):
    """All numbers of a result, float64."""
    if isinstance(found, dict):
        found = tuple(found.values())
    if isinstance(found, tuple):
        return torch.cat([numbers_of(value) for value in found])
    return torch.as_tensor(found).double().reshape(-1)
