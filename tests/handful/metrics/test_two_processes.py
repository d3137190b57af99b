"""One process and two give the same digits on an odd number of images, for every measure of attributions."""

import pytest
import torch
from torch import nn

from handful.metrics.boxes import BoxRatio
from handful.metrics.degradation import Degradation
from handful.metrics.faithfulness import DeletionAUC, InsertionAUC
from handful.metrics.infidelity import Infidelity
from handful.metrics.knockouts import contrasting_classes, sufficient_sets
from handful.metrics.known_truth import Answers, Importances, KnownTruth
from handful.metrics.localisation import EnergyInMask, PointingGame
from handful.metrics.max_sensitivity import MaxSensitivity
from handful.metrics.parameter_randomisation import ParameterRandomisation
from handful.metrics.road import ROAD
from handful.metrics.sensitivity_n import SensitivityN
from handful.metrics.sparseness import Sparseness
from tests.handful.attribution.nets import images
from tests.handful.metrics.passes import additive
from tests.handful.metrics.test_known_truth import additive_birds
from tests.helpers.two_processes import every_second, on_two_processes

COUNT = 5


def measures():
    return {
        "insertion": InsertionAUC(4), "deletion": DeletionAUC(4), "degradation": Degradation(4),
        "sensitivity-n": SensitivityN(sizes=2, subsets=5), "infidelity": Infidelity(samples=3, normalise=True),
        "max-sensitivity": MaxSensitivity("smoothgrad", samples=2), "road": ROAD((30, 70)), "sparseness": Sparseness(),
        "randomisation": ParameterRandomisation("gradient", ["0"]),
        "energy": EnergyInMask(), "pointing": PointingGame(1), "box ratio": BoxRatio(0.5),
    }  # fmt: skip


def measured(rows):
    generator = torch.Generator().manual_seed(0)
    x = images(COUNT).double()
    maps = torch.rand(COUNT, 12, 12, generator=generator).double()
    masks = torch.rand(COUNT, 12, 12, generator=generator) < torch.tensor([0.0, 0.1, 0.2, 0.3, 0.9])[:, None, None]
    model = nn.Sequential(additive(12), nn.Softsign())
    x = x - x.mean((2, 3), keepdim=True)  # whose mean colour has the score 0, as degradation needs it
    x = (x * model(x)[:, 1].sign().reshape(-1, 1, 1, 1)).detach()
    given = {"model": model, "images": x[rows], "maps": maps[rows], "masks": masks[rows], "classes": 1}
    found = measures()
    for metric in found.values():
        metric.update(**metric._filter_kwargs(**given))
    values = {name: [float(v) for v in metric.compute().reshape(-1)] for name, metric in found.items()}
    answers, _, variants = additive_birds(COUNT)
    generator = torch.Generator().manual_seed(3)
    said, things = torch.rand(COUNT, 4, 6, generator=generator), torch.rand(COUNT, 4, 3, generator=generator)
    truth = KnownTruth()
    truth.update(
        Answers(*(getattr(answers, name)[rows] for name in ("labels", "logits", "things", "without_thing"))),
        Importances(said[rows], things[rows], said.sum(2)[rows]), sufficient_sets(variants),
        contrasting_classes(variants),
    )  # fmt: skip
    values["by n"] = found["sensitivity-n"].by_n().tolist()
    return values | {f"truth, {name}": [float(value)] for name, value in truth.compute().items()}


def test_two_processes_give_the_same_digits():
    results = on_two_processes(lambda rank: measured(every_second(rank)))
    expected = measured(slice(None))
    assert results[0] == results[1]
    for name, values in expected.items():
        assert results[0][name] == pytest.approx(values, rel=1e-12, abs=1e-14), name
        assert not any(value != value for value in values), name
