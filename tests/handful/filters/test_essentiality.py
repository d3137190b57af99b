"""The noise test, on a layer that looks at the planted filters and at nothing else."""

import pytest
import torch
from torch import nn

from handful.filters import EssentialityTest
from tests.helpers.two_processes import on_two_processes

CLASSES, WIDTH = 4, 20


def planted():
    filters = torch.arange(CLASSES * 2).view(CLASSES, 2)
    head = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight.scatter_(1, filters, 1.0)
    labels = torch.arange(400) % CLASSES
    features = torch.full((400, WIDTH), 3.0)
    features[:, : CLASSES * 2] = 0
    features.scatter_(1, filters[labels], 5.0)
    return head, filters, features, labels


def run(rank=0, step=1, batch=400):
    head, filters, features, labels = planted()
    test = EssentialityTest(head, filters, WIDTH)
    index = torch.arange(400)
    for part in index[rank::step].split(batch):
        test.update(features[part], labels[part], part)
    return test.compute()


def test_noise_on_the_filters_hurts_and_elsewhere_does_not():
    accuracy = run()
    assert accuracy["clean"] == 100
    # a sum of two N(0, 1) against three zeros is right half the time
    assert accuracy["filters"] == pytest.approx(50, abs=7)
    assert accuracy["as_many_others"] > 98  # the others' filters carry a little noise, never 10
    assert accuracy["rest"] > 98


def test_batches_and_processes_do_not_matter():
    whole = run()
    assert run(batch=7) == whole
    for shared in on_two_processes(lambda rank: run(rank, 2, batch=11)):
        assert shared == whole


def test_the_features_are_left_alone():
    head, filters, features, labels = planted()
    before = features.clone()
    test = EssentialityTest(head, filters, WIDTH)
    test.update(features, labels, torch.arange(400))
    assert torch.equal(features, before)
    assert not list(test.parameters()), "the head stays with its model"


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_is_put_in_the_place_of_the_filters_of_the_own_class(seed):
    seen = []

    class Spy(nn.Module):
        def forward(self, features):
            seen.append(features.clone())
            return torch.zeros(len(features), CLASSES)

    _, filters, features, labels = planted()
    EssentialityTest(Spy(), filters, WIDTH, seed).update(features, labels, torch.arange(400))
    changed = [(case != features) for case in seen]
    own = torch.zeros(400, WIDTH, dtype=torch.bool).scatter_(1, filters[labels], True)
    assert not changed[0].any()
    assert torch.equal(changed[1], own)
    assert torch.equal(changed[2], ~own)
    assert torch.equal(changed[3].sum(1), torch.full((400,), 2))
    assert not (changed[3] & own).any()
    assert abs(float(seen[2][~own].mean())) < 0.05
    assert float(seen[2][~own].std()) == pytest.approx(1, abs=0.05)
