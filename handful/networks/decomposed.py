"""A last layer cut down to a few features per class."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.errors import UserError
from handful.networks.classifier import Classifier
from handful.networks.head import Head, register_head
from handful.networks.heads import DenseHead


@register_head("decomposed")
class DecomposedHead(Head):
    """One small subspace per class: `logit_c = Σ_j weight[c, j] · f[filters[c, j]] + bias[c]`.

    It costs `C·k2` multiplications per image where a dense layer costs `C·F`: the rows of the transposed features
    are gathered, weighted and summed in one step for the whole batch, and no `C × F` matrix exists. A class's
    logit sees nothing but its own filters, so changing one class leaves every other logit equal bit by bit.

    All parts are sized by the arguments, so a checkpoint alone rebuilds the head. The values come from `fill`.

    Args:
        num_features: F of the backbone.
        num_classes: C.
        filters_per_class: k2, at most F.

    Raises:
        UserError: `filters_per_class` is not in 1…F.

    Source: arXiv 2112.07719, the decomposed final layer.

    Example:
        >>> weight, bias = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.zeros(2)
        >>> head = DecomposedHead.from_dense(weight, bias, torch.tensor([[2, 1], [0, 2]]))
        >>> head(torch.ones(1, 3)).tolist(), head.features_per_class
        ([[5.0, 10.0]], 2.0)
    """

    filters: Tensor

    def __init__(self, num_features: int, num_classes: int, filters_per_class: int) -> None:
        super().__init__(num_features, num_classes, filters_per_class=filters_per_class)
        if not 1 <= filters_per_class <= num_features:
            raise UserError(
                f"filters_per_class must lie in 1…{num_features}, the backbone's features; got {filters_per_class}"
            )
        weight = torch.zeros(num_classes, filters_per_class)
        self.register_buffer("filters", torch.arange(filters_per_class).expand_as(weight).clone())
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @torch.no_grad()
    def fill(self, filters: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Copy the filters `(C, k2)` and their part of a dense layer, `weight (C, F)` and `bias (C,)`, in.

        Raises:
            UserError: a shape differs, a filter is not in 0…F−1, or a class names a filter twice.
        """
        wanted = {"filters": tuple(self.filters.shape), "weight": (self.num_classes, self.num_features)}
        wanted["bias"] = (self.num_classes,)
        for name, value in (("filters", filters), ("weight", weight), ("bias", bias)):
            if tuple(value.shape) != wanted[name]:
                raise UserError(f"{name} has shape {tuple(value.shape)}, the head takes {wanted[name]}")
        self._check(filters)
        self.filters.copy_(filters)
        self.weight.copy_(weight.gather(1, filters.to(weight.device)))
        self.bias.copy_(bias)

    def check(self) -> None:
        """Refuse filters that there are not, or that a class names twice."""
        self._check(self.filters)

    def _check(self, filters: Tensor) -> None:
        ordered = filters.sort(dim=1).values
        if ordered[:, 0].min() < 0 or ordered[:, -1].max() >= self.num_features:
            raise UserError(f"a filter is the index of one of {self.num_features} features, from 0")
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise UserError("a class names one of its filters twice")

    @classmethod
    def from_dense(cls, weight: Tensor, bias: Tensor, filters: Tensor) -> "DecomposedHead":
        """The decomposed form of a dense layer `weight (C, F)`, `bias (C,)`, cut to `filters (C, k2)`."""
        classes, num_features = weight.shape
        head = cls(num_features, classes, filters.shape[1]).to(weight)
        head.fill(filters, weight, bias)
        return head

    def to_dense(self) -> DenseHead:
        """The same function as a dense layer whose other weights are zero."""
        weight, bias = self.class_weights()
        head = DenseHead(self.num_features, self.num_classes).to(weight)
        with torch.no_grad():
            head.linear.weight.copy_(weight)
            head.linear.bias.copy_(bias)
        return head

    @property
    def filters_per_class(self) -> int:
        """k2, the number of filters of every class."""
        return self.filters.shape[1]

    @property
    def multiplications(self) -> int:
        """Multiplications per image, `C·k2`."""
        return self.filters.numel()

    def class_weights(self) -> tuple[Tensor, Tensor]:
        """`W (C, F)`, zero but for the filters, and `b (C,)` with `head(f) == f @ W.T + b`."""
        full = self.weight.new_zeros(self.num_classes, self.num_features)
        return full.scatter(1, self.filters, self.weight), self.bias

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, F)` → logits `(B, C)`, in the precision of the weights."""
        by_feature = features.to(self.weight.dtype).t().contiguous()
        logits = functional.embedding_bag(self.filters, by_feature, per_sample_weights=self.weight, mode="sum")
        return logits.t() + self.bias


def decompose(classifier: Classifier, filters: Tensor) -> Classifier:
    """The classifier on the same backbone, its last layer cut down to `filters (C, k2)`."""
    weight, bias = (value.detach() for value in classifier.head.class_weights())
    return classifier.with_head(DecomposedHead.from_dense(weight, bias, filters))
