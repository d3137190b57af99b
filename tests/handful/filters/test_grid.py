"""The grid of accuracies, against a masked dense layer."""

import copy
import pickle

import pytest
import torch

from handful.filters import AccuracyGrid, StatisticsCollector, select_filters
from tests.handful.filters.planted import features_with_ties
from tests.helpers.two_processes import on_two_processes


def planted():
    features, labels = features_with_ties()
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 12, generator=generator)
    bias = torch.randn(3, generator=generator)
    features = features + 2.0 * torch.nn.functional.one_hot(labels, 12)
    collector = StatisticsCollector(3, 12, (1, 4, 0.5))
    collector.update(features, labels)
    return features, labels, weight, bias, collector.compute()


def test_every_cell_is_the_accuracy_of_the_masked_layer():
    features, labels, weight, bias, statistics = planted()
    grid = AccuracyGrid(weight, bias, statistics, (1, 3, 12))
    for part, of in zip(features.split(8), labels.split(8), strict=True):
        grid.update(part, of)
    table = grid.compute()
    for i, k1 in enumerate(grid.k1s):
        for j, k2 in enumerate(grid.k2s):
            mask = torch.zeros(3, 12).scatter_(1, select_filters("frequency", k2, statistics, k1=k1), 1)
            predicted = (features @ (weight * mask).T + bias).argmax(1)
            torch.testing.assert_close(table[i, j], 100 * (predicted == labels).double().mean())
    assert table.unique().numel() > 2  # a grid of one value would prove nothing


def test_two_processes_fill_the_same_grid():
    features, labels, weight, bias, statistics = planted()

    def fill(rank=0, step=1):
        grid = AccuracyGrid(weight, bias, statistics, (1, 3))
        grid.update(features[rank::step], labels[rank::step])
        return grid.compute()

    for table in on_two_processes(lambda rank: fill(rank, 2)):
        assert torch.equal(table, fill())


@pytest.mark.parametrize(("k1s", "k2s"), [((1,), (1,)), ((1,), (1, 3)), ((1, 4), (3,)), ((1, 4), (1, 3))])
def test_the_grid_has_a_row_per_k1_and_a_column_per_k2(k1s, k2s):
    features, labels, weight, bias, statistics = planted()
    grid = AccuracyGrid(weight, bias, statistics.only(k1s), k2s)
    grid.update(features, labels)
    whole = AccuracyGrid(weight, bias, statistics.only((1, 4)), (1, 3))
    whole.update(features, labels)
    rows, columns = [(1, 4).index(k1) for k1 in k1s], [(1, 3).index(k2) for k2 in k2s]
    expected = whole.compute()[rows][:, columns]
    for metric in (grid, pickle.loads(pickle.dumps(grid)), copy.deepcopy(grid)):
        found = metric.compute()
        assert torch.equal(found, expected)
        found.zero_()  # changes nothing that is kept
        assert torch.equal(metric.compute(), expected)
