"""The decomposed head: values, gradients, isolation of the classes, refusal of other networks."""

import pytest
import torch
from torch import nn

from handful.errors import UserError
from handful.networks import Classifier, DenseHead, SparseHead
from handful.networks.decomposed import DecomposedHead, decompose
from handful.networks.head import Head, as_head


def made(classes=7, width=30, k2=4):
    generator = torch.Generator().manual_seed(0)
    filters = torch.rand(classes, width, generator=generator).argsort(1)[:, :k2]
    weight = torch.randn(classes, width, generator=generator)
    bias = torch.randn(classes, generator=generator)
    return DecomposedHead.from_dense(weight, bias, filters), filters, weight, bias


def features(batch=5, width=30):
    return torch.rand(batch, width, generator=torch.Generator().manual_seed(1))


def test_logits_are_those_of_a_plain_loop():
    head, filters, weight, bias = made()
    x = features()
    for i in range(5):
        for c in range(7):
            expected = bias[c] + sum(weight[c, f] * x[i, f] for f in filters[c])
            torch.testing.assert_close(head(x)[i, c], expected)


def test_gradients_are_those_of_the_masked_dense_layer():
    head, filters, *_ = made()
    dense = head.to_dense()
    x, y = features().requires_grad_(), features().requires_grad_()
    head(x).square().sum().backward()
    dense(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(head.weight.grad, dense.linear.weight.grad.gather(1, filters))
    torch.testing.assert_close(head.bias.grad, dense.linear.bias.grad)


def test_changing_one_class_leaves_every_other_logit_equal_bit_by_bit():
    head, *_ = made(classes=50, width=64, k2=9)
    x = features(33, 64)
    before = head(x)
    with torch.no_grad():
        head.filters[20] = torch.arange(9) + 50
        head.weight[20] += 100
    after = head(x)
    others = torch.arange(50) != 20
    assert torch.equal(after[:, others], before[:, others])
    assert not torch.equal(after[:, 20], before[:, 20])


def test_to_dense_and_back():
    head, filters, weight, bias = made()
    dense = head.to_dense()
    torch.testing.assert_close(dense(features()), head(features()))
    assert int((dense.linear.weight != 0).sum()) == 7 * 4
    again = DecomposedHead.from_dense(*dense.class_weights(), filters)
    assert torch.equal(again.weight, head.weight)
    assert torch.equal(again(features()), head(features()))
    full = DecomposedHead.from_dense(weight, bias, torch.arange(30).repeat(7, 1))
    torch.testing.assert_close(full(features()), features() @ weight.T + bias)


def test_it_tells_what_the_other_heads_tell():
    head, filters, *_ = made()
    assert isinstance(head, Head)
    assert head.n_features == len(set(filters.flatten().tolist()))
    assert head.features_per_class == 4
    assert head.multiplications == 28
    weight, bias = head.class_weights()
    torch.testing.assert_close(features() @ weight.T + bias, head(features()))
    with torch.no_grad():
        head.weight[:, 0] = 0
    assert head.features_per_class == 3
    assert head.n_features == len(set(filters[:, 1:].flatten().tolist()))


def test_a_checkpoint_alone_rebuilds_it(tmp_path):
    head, *_ = made()
    torch.save(head.state_dict(), tmp_path / "head.pt")
    again = DecomposedHead(30, 7, 4)
    again.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    assert torch.equal(again(features()), head(features()))


def test_half_precision_features_are_taken():
    head, *_ = made()
    assert head(features().bfloat16()).dtype == torch.float32
    torch.testing.assert_close(head(features().bfloat16()), head(features()), rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    "value", [SparseHead(30, 7, 6), DenseHead(30, 7), nn.Linear(30, 7), nn.Linear(30, 7, bias=False)]
)
def test_one_linear_layer_is_taken_whatever_its_name(value):
    if isinstance(value, SparseHead):
        value.fill(torch.arange(6) * 2, torch.rand(6), torch.rand(6) + 0.5, torch.randn(7, 6), torch.randn(7))
    weight, bias = as_head(value).class_weights()
    torch.testing.assert_close(features() @ weight.T + bias, value.eval()(features()))


@pytest.mark.parametrize("head", [nn.Sequential(nn.Linear(30, 9), nn.ReLU(), nn.Linear(9, 7)), nn.Conv2d(30, 7, 1)])
def test_other_classifiers_are_refused_with_a_sentence(head):
    backbone = nn.Identity()
    with pytest.raises(UserError, match=f"one linear layer .* ends in {type(head).__name__}"):
        Classifier(backbone, head)


def test_decompose_keeps_the_backbone():
    backbone = nn.Identity()
    classifier = Classifier(backbone, DenseHead(30, 7, dropout=0.5))
    small = decompose(classifier, torch.arange(3).repeat(7, 1))
    assert small.backbone is backbone
    assert small.head.weight.shape == (7, 3)
    maps = features()[:, :, None, None]
    weight = classifier.head.linear.weight[:, :3]
    torch.testing.assert_close(small(maps), features()[:, :3] @ weight.T + classifier.head.linear.bias)


def test_filters_that_make_no_sense_are_refused():
    head = DecomposedHead(5, 2, 2)
    weight, bias = torch.zeros(2, 5), torch.zeros(2)
    with pytest.raises(ValueError, match="twice"):
        head.fill(torch.tensor([[0, 1], [3, 3]]), weight, bias)
    with pytest.raises(ValueError, match="index of one of 5"):
        head.fill(torch.tensor([[0, 1], [3, 5]]), weight, bias)
    with pytest.raises(ValueError, match="weight has shape"):
        head.fill(torch.tensor([[0, 1], [3, 4]]), weight.T, bias)
    with pytest.raises(UserError, match="filters_per_class must lie in 1…5"):
        DecomposedHead(5, 2, 6)
