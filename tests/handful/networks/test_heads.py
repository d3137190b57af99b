"""Heads are linear in the raw pooled features, and say so exactly."""

import pytest
import torch

from handful.networks import DenseHead, SparseHead
from handful.networks.heads import deciding_maps


def sparse_head() -> SparseHead:
    torch.manual_seed(1)
    head = SparseHead(10, 4, 3)
    weight = torch.tensor([[1.0, 0, -2], [0, 0, 3], [0, 0.5, 0], [0, 0, 0]])
    head.fill(torch.tensor([7, 2, 5]), torch.randn(3), torch.rand(3) + 0.5, weight, torch.randn(4))
    return head.eval()


@pytest.mark.parametrize("head", [DenseHead(10, 4, 0.5).eval(), sparse_head()])
def test_class_weights_reproduce_the_logits(head):
    features = torch.randn(6, 10)
    weight, bias = head.class_weights()
    assert weight.shape == (4, 10)
    torch.testing.assert_close(features @ weight.T + bias, head(features))


def test_sparse_head_by_hand():
    head = sparse_head()
    features = torch.randn(2, 10)
    expected = torch.stack(
        [
            sum(head.weight[c, s] * (features[:, j] - head.mean[s]) / head.std[s] for s, j in enumerate([7, 2, 5]))
            + head.bias[c]
            for c in range(4)
        ],
        dim=1,
    )
    torch.testing.assert_close(head(features), expected)
    assert head.n_features == 3
    assert head.features_per_class == 1.0


def test_sparse_head_lives_in_its_state():
    head = sparse_head()
    again = SparseHead(10, 4, 3)
    again.load_state_dict(head.state_dict())
    features = torch.randn(2, 10)
    torch.testing.assert_close(again.eval()(features), head(features), rtol=0, atol=0)


def test_frozen_and_trained_parts():
    names = {n for n, p in SparseHead(10, 4, 3).named_parameters() if p.requires_grad}
    assert names == {"mean", "std"}
    assert not [p for p in SparseHead(10, 4, 3, train_normalisation=False).parameters() if p.requires_grad]


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="n_selected"):
        SparseHead(10, 4, 11)
    with pytest.raises(ValueError, match="weight has shape"):
        SparseHead(10, 4, 3).fill(
            torch.arange(3), torch.zeros(3), torch.ones(3), torch.zeros(3, 4), torch.zeros(4)
        )


def test_deciding_maps_are_the_selected_ones():
    head = sparse_head()
    maps = torch.randn(2, 10, 3, 3)
    chosen, weight = deciding_maps(head, maps)
    assert torch.equal(chosen, maps[:, [7, 2, 5]])
    assert weight is head.weight
