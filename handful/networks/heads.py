"""The dense and the sparse head."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.conversions import as_index
from handful.errors import UserError
from handful.networks.head import Head, register_head

#: A standard deviation is never divided by less than this (as in the reference implementation).
MIN_STD = 1e-6


@register_head("dense")
class DenseHead(Head):
    """Dropout and one linear layer over all features.

    Args:
        num_features: F.
        num_classes: C.
        dropout: probability in [0, 1) of dropping a pooled feature in training.

    Example:
        >>> head = DenseHead(4, 2).eval()
        >>> features = torch.rand(3, 4)
        >>> weight, bias = head.class_weights()
        >>> torch.allclose(head(features), features @ weight.T + bias)
        True
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__(num_features, num_classes, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> "DenseHead":
        """The head of one linear layer, whose parameters it shares."""
        with torch.device("meta"):  # draws no random numbers
            head = cls(linear.in_features, linear.out_features).train(linear.training)
        head.linear = linear
        return head

    def class_weights(self) -> tuple[Tensor, Tensor]:
        """`W (C, F)` and `b (C,)` with `head(f) == f @ W.T + b` in evaluation mode."""
        bias: Tensor | None = self.linear.bias
        weight = self.linear.weight
        return weight, weight.new_zeros(len(weight)) if bias is None else bias

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, F)` → logits `(B, C)`."""
        return self.linear(self.dropout(features))


@register_head("sparse")
class SparseHead(Head):
    """The readable last layer: a few selected features, standardised, and a sparse weight matrix.

    `logits = ((f[:, selection] − mean) / max(std, 1e-6)) Wᵀ + b`. All parts are sized by the arguments, so a
    checkpoint alone rebuilds the head. The values come from `fill`.

    Args:
        num_features: F of the backbone.
        num_classes: C.
        n_selected: S, the number of selected features; at most F.
        dropout: probability in [0, 1) of dropping a selected feature in training.
        train_normalisation: whether `mean` and `std` are trained, as the reference does.

    Source: SLDD-Model ("Take 5", arXiv 2303.13166); `weight` and `bias` stay frozen while finetuning.

    Example:
        >>> head = SparseHead(num_features=4, num_classes=2, n_selected=2)
        >>> weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> head.fill(torch.tensor([3, 1]), torch.zeros(2), torch.ones(2), weight, torch.zeros(2))
        >>> head(torch.tensor([[9.0, 5.0, 9.0, 7.0]])).tolist(), head.n_features, head.features_per_class
        ([[7.0, 10.0]], 2, 1.0)
    """

    selection: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        n_selected: int,
        dropout: float = 0.0,
        train_normalisation: bool = True,
    ) -> None:
        super().__init__(
            num_features,
            num_classes,
            n_selected=n_selected,
            dropout=dropout,
            train_normalisation=train_normalisation,
        )
        if not 1 <= n_selected <= num_features:
            raise UserError(f"n_selected must lie in 1…{num_features}, the backbone's features; got {n_selected}")
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("selection", torch.arange(n_selected))
        self.register_buffer("weight", torch.zeros(num_classes, n_selected))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.mean = nn.Parameter(torch.zeros(n_selected), requires_grad=train_normalisation)
        self.std = nn.Parameter(torch.ones(n_selected), requires_grad=train_normalisation)

    @torch.no_grad()
    def fill(self, selection: Tensor, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Copy a solved sparse layer in: `selection (S,)`, `mean (S,)`, `std (S,)`, `weight (C, S)`, `bias (C,)`."""
        for name, value in (
            ("selection", selection), ("mean", mean), ("std", std), ("weight", weight), ("bias", bias)
        ):  # fmt: skip
            target = getattr(self, name)
            if target.shape != value.shape:
                raise UserError(f"{name} has shape {tuple(value.shape)}, the head holds {tuple(target.shape)}")
            target.copy_(value)

    def check(self) -> None:
        """Refuse a selection of features that there are not, or of one twice."""
        as_index(self.selection, (None,), self.num_features, "head: selection")
        if len(self.selection.unique()) < len(self.selection):
            raise UserError("head: selection: a feature is selected twice")

    def class_weights(self) -> tuple[Tensor, Tensor]:
        """`W (C, F)` and `b (C,)` with `head(f) == f @ W.T + b` in evaluation mode, on the raw pooled features."""
        scaled = self.weight / self.std.clamp(min=MIN_STD)
        full = scaled.new_zeros(self.num_classes, self.num_features)
        full = full.index_copy(1, self.selection, scaled)
        return full, self.bias - scaled @ self.mean

    def standardise(self, features: Tensor) -> Tensor:
        """Features `(B, F)` → selected features in units of their standard deviation `(B, S)`."""
        return (features[:, self.selection] - self.mean) / self.std.clamp(min=MIN_STD)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, F)` → logits `(B, C)`."""
        return functional.linear(self.dropout(self.standardise(features)), self.weight, self.bias)

    def deciding_maps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The selected maps, and the weights on standardised features, as L_div and diversity@k of the reference."""
        return maps[:, self.selection], self.weight
