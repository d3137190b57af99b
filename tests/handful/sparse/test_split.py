import pytest
import torch

from handful.errors import UserError
from handful.sparse.split import hold_out


def test_a_tenth_of_every_class():
    labels = torch.arange(1000) % 10
    fit, held = hold_out(labels, 0.1, seed=0)
    assert torch.bincount(labels[held]).tolist() == [10] * 10
    assert sorted(torch.cat([fit, held]).tolist()) == list(range(1000))
    assert fit.tolist() == sorted(fit.tolist())


def test_classes_that_are_small_still_give_their_share_and_keep_a_row():
    labels = torch.arange(60) % 20  # 3 a class
    fit, held = hold_out(labels, 0.1, seed=1)
    assert len(held) == 6
    assert torch.bincount(labels[held]).max() == 1
    lonely = torch.tensor([0, 1, 2, 3, 3, 3])
    for fraction in (0.5, 0.9):
        fit, _ = hold_out(lonely, fraction, seed=2)
        assert set(lonely[fit].tolist()) == {0, 1, 2, 3}


def test_seed_decides():
    labels = torch.arange(200) % 4
    assert hold_out(labels, 0.2, 0)[1].tolist() == hold_out(labels, 0.2, 0)[1].tolist()
    assert hold_out(labels, 0.2, 0)[1].tolist() != hold_out(labels, 0.2, 1)[1].tolist()


def test_zero_holds_out_nothing_and_one_is_refused():
    assert len(hold_out(torch.zeros(5, dtype=torch.long), 0.0, 0)[1]) == 0
    with pytest.raises(UserError, match="val_fraction"):
        hold_out(torch.zeros(5, dtype=torch.long), 1.0, 0)
