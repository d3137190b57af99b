"""Heads are linear in the raw pooled features, and say so exactly."""

import json

import pytest
import torch

from handful.attribution import contributions
from handful.errors import UserError
from handful.networks import Classifier, DecomposedHead, DenseHead, Head, SparseHead, build_head, register_head
from handful.networks.conv4 import Conv4


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
    chosen, weight = head.deciding_maps(maps)
    assert torch.equal(chosen, maps[:, [7, 2, 5]])
    assert weight is head.weight


def test_every_head_is_rebuilt_from_its_description_and_state():
    for head in (DenseHead(10, 4, 0.5), sparse_head(), DecomposedHead(10, 4, 2)):
        again = build_head(json.loads(json.dumps(head.describe())))
        again.load_state_dict(head.state_dict())
        assert type(again) is type(head)
        assert all(torch.equal(a, b) for a, b in zip(again.class_weights(), head.class_weights(), strict=True))


def test_a_head_can_be_added_from_outside():
    @register_head("test_signed")
    class SignedHead(Head):
        def __init__(self, num_features: int, num_classes: int) -> None:
            super().__init__(num_features, num_classes)
            self.register_buffer("sign", torch.zeros(num_classes, num_features))

        def class_weights(self):
            return self.sign, self.sign.new_zeros(self.num_classes)

    head = build_head({"kind": "test_signed", "num_features": 4, "num_classes": 3})
    head.sign[:, 1:3] = torch.tensor([1.0, -1.0])
    assert (head.n_features, head.features_per_class) == (2, 2.0)
    model = Classifier(Conv4(4), head).eval()
    parts = contributions(model, torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(parts.values.sum(1) + parts.bias, parts.logits.gather(1, parts.classes[:, None])[:, 0])
    with pytest.raises(ValueError, match="registered already"):
        register_head("dense")(SignedHead)


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({"kind": "spars", "num_features": 4, "num_classes": 3}, "no kind 'spars'.* did you mean 'sparse'"),
        ({"num_features": 4}, "no kind None"),
        ({"kind": "sparse", "num_features": 4, "num_classes": 3}, "n_selected"),
        ({"kind": "sparse", "num_features": 4, "num_classes": 3, "n_selected": 5}, "n_selected must lie in 1…4"),
    ],
)
def test_a_head_that_cannot_be_built(description, sentence):
    with pytest.raises(UserError, match=sentence):
        build_head(description)


def test_one_linear_layer_becomes_a_head_without_random_numbers():
    linear = torch.nn.Linear(4, 3, bias=False)
    backbone = Conv4(4)
    before = torch.get_rng_state()
    model = Classifier(backbone, linear)
    assert torch.get_rng_state().equal(before)
    assert model.head.linear is linear
    assert not model.head.class_weights()[1].any()
    assert sum(p.numel() for p in model.head.parameters()) == 12
