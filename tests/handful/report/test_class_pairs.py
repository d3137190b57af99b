"""Which classes are compared: by a loop, also where each has a single feature or none is shared."""

import pytest
import torch

from handful.report.sections.class_pairs import sharing_classes


@pytest.mark.parametrize(("classes", "features", "each"), [(6, 7, 2), (9, 6, 3), (4, 5, 1), (5, 40, 3), (2, 5, 4)])
def test_pairs_are_those_of_a_loop(classes, features, each):
    generator = torch.Generator().manual_seed(classes)
    uses = torch.zeros(classes, features, dtype=torch.bool)
    for row in uses:
        row[torch.randperm(features, generator=generator)[:each]] = True
    labels, predicted = torch.randint(classes, (2, 300), generator=generator)
    expected = {
        (c, d): int(((labels == c) & (predicted == d) | (labels == d) & (predicted == c)).sum())
        for c in range(classes)
        for d in range(c + 1, classes)
        if each > 1 and int((uses[c] & uses[d]).sum()) == each - 1
    }
    found = sharing_classes(uses, labels, predicted)
    assert found == sorted(expected, key=lambda pair: (-expected[pair], pair))


def test_a_class_is_never_compared_with_itself():
    assert sharing_classes(torch.eye(4).bool(), torch.arange(4), torch.arange(4)) == []
