"""LRP explains a rewritten copy of the network: it must give the network's logits, or the network is refused."""

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional

from handful.attribution import attribute
from handful.attribution.methods.lrp import _compare, _run
from handful.attribution.methods.lrp_graph import explicit_network
from handful.errors import UserError
from tests.handful.attribution.nets import images


def norm(features: int) -> nn.BatchNorm2d:
    """A batch norm with a history."""
    made = nn.BatchNorm2d(features)
    with torch.no_grad():
        made.running_mean.normal_(0, 0.3)
        made.running_var.uniform_(0.4, 2)
        made.weight.uniform_(0.5, 1.5)
        made.bias.normal_(0, 0.2)
    return made


class Net(nn.Module):
    """Two convolutions and a linear layer; the cases below differ in what happens between them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm1, self.norm2 = norm(6), norm(6)
        self.relu = nn.ReLU(inplace=True)
        self.linear, self.wide = nn.Linear(6, 3), nn.Linear(12, 3)

    def head(self, x):
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class SharedConvolution(Net):
    def forward(self, x):
        x = self.norm1(self.one(x)).relu()
        return self.head(self.norm2(self.two(self.norm1(self.two(x)).relu())).relu())


class SharedNorm(Net):
    def forward(self, x):
        return self.head(self.norm1(self.two(self.norm1(self.one(x)).relu())).relu())


class TwoNormsOfOneConvolution(Net):
    def forward(self, x):
        x = self.one(x)
        return self.head((self.norm1(x) + self.norm2(x)).relu())


class Functional(Net):
    def forward(self, x):
        x = functional.relu(self.norm1(self.one(x)), inplace=True)
        return self.linear(functional.avg_pool2d(torch.relu(self.two(x)), 12).view(x.size(0), -1))


class InPlace(Net):
    """The sum sees the convolution's output after the ReLU has overwritten it."""

    def forward(self, x):
        first = self.one(x)
        self.relu(first)
        second = self.two(first)
        second += first
        return self.head(second)


class Residual(Net):
    def forward(self, x):
        x = self.relu(self.norm1(self.one(x)))
        return self.linear(self.relu(self.norm2(self.two(x)) + x).mean((2, 3)))


class Broadcast(Net):
    def forward(self, x):
        x = self.one(x)
        return self.head(x + functional.adaptive_avg_pool2d(x, 1) + self.two(x)[:, :1])


class Concatenation(Net):
    def forward(self, x):
        x = self.relu(self.one(x))
        both = torch.cat([x, self.relu(self.norm1(self.two(x)))], dim=1)
        return self.wide(both.mean(dim=[-2, -1], keepdim=True).flatten(1))


class NormBeforeConvolution(Net):
    def forward(self, x):
        return self.head(self.two(self.relu(self.norm1(self.one(x).relu()))))


class Dropout(Net):
    def forward(self, x):
        x = functional.dropout(self.one(x).relu(), 0.5, self.training)
        return self.head(functional.dropout2d(self.two(x), p=0.5, training=self.training))


class WeightNorm(Net):
    def __init__(self):
        super().__init__()
        torch.nn.utils.parametrizations.weight_norm(self.one)
        torch.nn.utils.parametrizations.spectral_norm(self.two)

    def forward(self, x):
        return self.head(self.norm2(self.two(self.norm1(self.one(x)).relu())))


class OldWeightNorm(WeightNorm):
    def __init__(self):
        Net.__init__(self)
        torch.nn.utils.weight_norm(self.one)
        torch.nn.utils.spectral_norm(self.two)


FOLLOWED = [
    SharedConvolution, SharedNorm, TwoNormsOfOneConvolution, Functional, InPlace, Residual, Broadcast, Concatenation,
    NormBeforeConvolution, Dropout, WeightNorm, OldWeightNorm,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", FOLLOWED)
def test_the_copy_gives_the_networks_logits_and_leaves_the_network_alone(make):
    model, x = make().train(), images()
    expected = model.eval()(x)
    with torch.no_grad():
        model(x)  # the old weight norms keep a weight with a graph otherwise
    torch.testing.assert_close(explicit_network(model)(x), expected, rtol=1e-4, atol=1e-5)
    found = attribute(model.train(), x, "top2", method="lrp", rule="epsilon", epsilon=1e-9)
    torch.testing.assert_close(found.logits, expected.detach())
    torch.testing.assert_close(model.eval()(x), expected)  # the network is as it was
    assert found.raw.abs().max() > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make", [SharedConvolution, Functional, InPlace, Residual, Broadcast, Concatenation, WeightNorm]
)
def test_without_biases_the_epsilon_rule_is_input_times_gradient(make):
    model, x = make().eval(), images()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.bias.zero_()
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
                module.bias.zero_()
    found = attribute(model, x, 1, method="lrp", rule="epsilon", epsilon=1e-9)
    expected = attribute(model, x, 1, method="input_x_gradient").raw
    torch.testing.assert_close(found.raw, expected, rtol=1e-2, atol=1e-4)
    assert found.completeness.abs().max() < 1e-3


class Random(Net):
    def forward(self, x):
        return self.head(functional.dropout(self.one(x), 0.5, True))


class Constant(Net):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.ones(6, 1, 1))

    def forward(self, x):
        return self.head(self.one(x) + self.shift)


class Weighted(Net):
    def forward(self, x):
        x = self.one(x)
        return self.head(torch.add(x, self.two(x), alpha=2))


class Branching(Net):
    def forward(self, x):
        return self.head(self.one(x) if x.sum() > 0 else -self.one(x))


class Aliased(Net):
    """A view is changed through the tensor it looks at."""

    def forward(self, x):
        x = self.one(x)
        view = x.flatten(2)
        x.add_(self.two(x))
        return self.linear(view.unflatten(2, (12, 12)).mean((2, 3)))


class Reread(Net):
    """What `flatten` gives is the same memory; the ReLU in place changes both."""

    def forward(self, x):
        x = self.one(x)
        view = x.view(-1, 6, 12, 12)
        self.relu(x)
        return self.head(view)


REFUSED = [
    (Random, '"dropout"'), (Constant, '"the constant shift"'), (Weighted, '"add"'), (Branching, "cannot follow"),
    (Aliased, "no rule|is lost"), (Reread, "this copy gives a logit of"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "sentence"), REFUSED)
def test_what_the_copy_would_lose_is_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        attribute(make().eval(), images(), method="lrp")


def test_a_hook_that_changes_a_layer_is_noticed():
    model = Residual().eval()
    model.register_forward_hook(lambda module, inputs, output: output + 1)
    with pytest.raises(UserError, match="this copy gives a logit of"):
        attribute(model, images(), method="lrp")


def test_shapes_that_do_not_add_up_are_a_sentence(capsys):
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(4, 5, 3)))
    with pytest.raises(UserError, match="cannot run its rewritten copy"):
        _run(graph, images())
    assert capsys.readouterr().err == ""  # the graph prints its code on its own account


def test_a_copy_that_gives_nan_is_refused():
    with pytest.raises(UserError, match="this copy gives a logit of nan"):
        _compare(torch.tensor([[1.0, float("nan")]]), torch.tensor([[1.0, 2.0]]), 1e-3)


def test_a_plain_stack_agrees_with_captum():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.ReLU()
            )
            self.linear = nn.Linear(36, 3)

        def forward(self, x):
            return self.linear(torch.flatten(self.features(x), 1))

    model = Stack().eval()
    x = images()
    mine = attribute(model, x, 1, method="lrp", rule="epsilon", epsilon=1e-9).raw
    torch.testing.assert_close(mine, captum.attr.LRP(model).attribute(x, 1).detach(), rtol=1e-3, atol=1e-5)
