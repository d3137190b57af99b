"""Means: in collections, drawn, with values that are not defined."""

import pickle

import matplotlib.figure
import pytest
import torch
from torchmetrics import MetricCollection

from handful.metrics.localisation import PointingGame
from handful.metrics.means import Mean, MeanWhereDefined


def test_measures_that_begin_with_the_same_sum_stay_apart_in_a_collection():
    """torchmetrics lets metrics of equal states share them from the second batch on."""
    maps, masks = torch.zeros(2, 9, 9), torch.zeros(2, 9, 9, dtype=torch.bool)
    maps[0, 2, 2] = maps[1, 4, 4] = 1
    masks[:, 7, 7] = True
    both = MetricCollection({"on it": PointingGame(0), "near it": PointingGame(2)})
    both.update(maps, masks)  # nothing is hit
    maps[1] = 0
    maps[1, 7, 6] = 1
    both.update(maps, masks)
    assert {name: float(value) for name, value in both.compute().items()} == {"on it": 0, "near it": 0.25}
    assert {name: float(value) for name, value in pickle.loads(pickle.dumps(both)).compute().items()} == {
        "on it": 0, "near it": 0.25,
    }  # fmt: skip
    both.reset()
    assert int(both["near it"].count) == 0


def test_forward_gives_the_value_of_the_batch():
    mean = Mean()
    assert float(mean(torch.tensor([1.0, 3.0]))) == 2
    assert float(mean(torch.tensor([8.0]))) == 8
    assert float(mean.compute()) == 4


def test_values_that_are_not_defined_are_counted():
    mean = MeanWhereDefined()
    mean.update([1.0, float("nan"), 3.0])
    mean.update(torch.full((2,), torch.nan))
    assert (float(mean.compute()), int(mean.count), int(mean.left_out)) == (2, 2, 3)
    assert MeanWhereDefined().compute().isnan()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_mean_draws_itself():
    mean = Mean()
    mean.update(1.0)
    figure, _ = mean.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    matplotlib.pyplot.close(figure)
