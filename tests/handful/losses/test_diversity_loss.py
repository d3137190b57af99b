"""L_div against the formula written out in loops, hand cases, and finite differences."""

import pytest
import torch

from handful.losses import MutualChannelLoss, diversity, feature_diversity_loss


def written_out(maps, logits, weight):
    total = 0.0
    for b in range(maps.shape[0]):
        row = weight[int(logits[b].argmax())].abs()
        row = row / (row.norm() + 1e-5)
        average = maps[b].mean(dim=(1, 2))
        strength = average / max(float(average.max()), 1e-6)
        shares = [torch.softmax(m.flatten(), 0) for m in maps[b]]
        for place in range(maps[b, 0].numel()):
            total -= max(float(shares[j][place] * strength[j] * row[j]) for j in range(maps.shape[1]))
    return total / maps.shape[0]


@pytest.mark.parametrize("signed", [False, True])
def test_value(signed):
    torch.manual_seed(0)
    maps = torch.randn(3, 5, 4, 6, dtype=torch.float64) * 3
    maps = maps if signed else maps.relu()
    logits, weight = torch.randn(3, 7), torch.randn(7, 5, dtype=torch.float64)
    assert float(feature_diversity_loss(maps, logits, weight)) == pytest.approx(written_out(maps, logits, weight))


def test_disjoint_maps_are_better_than_equal_ones():
    weight = torch.ones(1, 2)
    logits = torch.zeros(1, 1)
    equal = torch.zeros(1, 2, 4, 4)
    equal[0, :, 0, 0] = 50.0
    disjoint = torch.zeros(1, 2, 4, 4)
    disjoint[0, 0, 0, 0] = disjoint[0, 1, 3, 3] = 50.0
    assert float(feature_diversity_loss(equal, logits, weight)) == pytest.approx(-1 / 2**0.5, rel=1e-4)
    assert float(feature_diversity_loss(disjoint, logits, weight)) == pytest.approx(-2 / 2**0.5, rel=1e-4)


@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_gradients(chunk, monkeypatch):
    monkeypatch.setattr(diversity, "_CHUNK", chunk)
    torch.manual_seed(1)
    maps = torch.rand(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(3, 5)
    assert torch.autograd.gradcheck(lambda m, w: feature_diversity_loss(m, logits, w), (maps, weight))


def test_predicted_class_counts_and_unused_features_do_not():
    torch.manual_seed(2)
    maps = torch.rand(1, 3, 4, 4)
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    first = feature_diversity_loss(maps, torch.tensor([[1.0, 0.0]]), weight)
    changed = maps.clone()
    # the second map has no weight in the first class; its mean stays, so that no strength changes
    changed[0, 1] = changed[0, 1].flip(0)
    assert torch.equal(feature_diversity_loss(changed, torch.tensor([[1.0, 0.0]]), weight), first)
    assert not torch.equal(feature_diversity_loss(maps, torch.tensor([[0.0, 1.0]]), weight), first)


def test_dead_maps_are_no_numbers_trouble():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = feature_diversity_loss(maps, torch.randn(2, 2), torch.zeros(2, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(maps.grad).all()


def test_half_precision_is_summed_in_float32():
    torch.manual_seed(0)
    maps, logits, weight = torch.rand(4, 8, 7, 7), torch.randn(4, 3), torch.randn(3, 8)
    half = feature_diversity_loss(maps.bfloat16(), logits, weight)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(feature_diversity_loss(maps, logits, weight)), rel=2e-2)


def test_mutual_channel_loss():
    torch.manual_seed(0)
    loss = MutualChannelLoss(2, channels=2)
    apart = torch.zeros(1, 4, 4, 4)
    for j, (row, column) in enumerate([(0, 0), (3, 3), (0, 3), (3, 0)]):
        apart[0, j, row, column] = 50.0
    together = torch.zeros(1, 4, 4, 4)
    together[0, :, 0, 0] = 50.0
    assert float(loss(apart, torch.tensor([0]))) < float(loss(together, torch.tensor([0])))
    with pytest.raises(ValueError, match="needs 4 feature maps"):
        loss(torch.zeros(1, 3, 4, 4), torch.tensor([0]))
