"""The images that drive a feature most, against a full sort."""

import torch

from handful.filters import StrongestImages
from tests.handful.filters.planted import features_with_ties
from tests.helpers.two_processes import on_two_processes


def run(rank=0, step=1, batch=9):
    features, _ = features_with_ties(images=41)
    strongest = StrongestImages(12, 4)
    for part in torch.arange(41)[rank::step].split(batch):
        strongest.update(features[part], part)
    return strongest.compute()


def test_it_is_the_top_of_a_full_sort_with_ties_by_index():
    features, _ = features_with_ties(images=41)
    values, index = run()
    for f in range(12):
        order = sorted(range(41), key=lambda i: (-features[i, f].item(), i))[:4]
        assert index[f].tolist() == order
        assert values[f].tolist() == features[order, f].tolist()


def test_batches_and_processes_do_not_matter():
    whole = run()
    for other in (run(batch=2), *on_two_processes(lambda rank: run(rank, 2))):
        assert torch.equal(other[0], whole[0])
        assert torch.equal(other[1], whole[1])


def test_fewer_images_than_places_leave_minus_one():
    strongest = StrongestImages(2, 3)
    strongest.update(torch.tensor([[1.0, 2.0]]), torch.tensor([6]))
    assert strongest.compute()[1].tolist() == [[6, -1, -1]] * 2


def test_one_place_for_one_feature_is_still_a_table():
    strongest = StrongestImages(1, 1)
    strongest.update(torch.tensor([[1.0], [2.0]]), torch.tensor([6, 7]))
    values, index = strongest.compute()
    assert (values.tolist(), index.tolist()) == ([[2.0]], [[7]])
