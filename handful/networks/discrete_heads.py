"""Sparse heads whose weights are a few values: ternary (Q-SENN) and binary (QPM, CHiQPM)."""

import torch
from torch import Tensor
from torch.nn import functional

from handful.errors import UserError
from handful.networks.head import register_head
from handful.networks.heads import SparseHead


@register_head("ternary")
class TernaryHead(SparseHead):
    """Every weight is −w, 0 or +w: a feature speaks for a class, against it, or not at all.

    Args:
        num_features: F of the backbone.
        num_classes: C.
        n_selected: n, the number of selected features; at most F.
        dropout: probability in [0, 1) of dropping a selected feature in training.
        train_normalisation: whether `mean` and `std` are trained, as in the SLDD-Model.

    Source: Q-SENN (AAAI 2024).

    Example:
        >>> head = TernaryHead(num_features=3, num_classes=2, n_selected=2)
        >>> sign = torch.tensor([[0.5, -0.5], [0.0, 0.5]])
        >>> head.fill(torch.tensor([0, 2]), torch.zeros(2), torch.ones(2), sign, torch.zeros(2))
        >>> head(torch.tensor([[2.0, 9.0, 4.0]])).tolist()
        [[-1.0, 2.0]]
    """

    @torch.no_grad()
    def fill(self, selection: Tensor, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Copy a layer in; all weights that are not 0 have the same size."""
        sizes = weight[weight != 0].abs()
        if len(sizes) and not bool((sizes == sizes[0]).all()):
            raise UserError("weight: a ternary head has weights of one size")
        super().fill(selection, mean, std, weight, bias)


@register_head("binary")
class BinaryHead(SparseHead):
    """A class is the sum of its features in units of their standard deviations: `logit_c = Σ_{i of c} z_i`.

    `z = (f − mean) / std`, with `relu` at least 0: a feature is then absent or present, never against a class. There is
    no bias, and mean and std stay as they are.

    Args:
        num_features: F of the backbone.
        num_classes: C.
        n_selected: n, the number of selected features; at most F.
        dropout: probability in [0, 1) of dropping a selected feature in training.
        relu: whether features below their mean count as 0 (CHiQPM).

    Source: QPM (ICLR 2025), CHiQPM (NeurIPS 2025).

    Example:
        >>> head = BinaryHead(num_features=3, num_classes=2, n_selected=2, relu=True)
        >>> uses = torch.tensor([[True, False], [True, True]])
        >>> head.assign(torch.tensor([0, 2]), torch.zeros(2), torch.ones(2), uses)
        >>> head(torch.tensor([[2.0, 9.0, -4.0]])).tolist()
        [[2.0, 2.0]]
    """

    def __init__(
        self, num_features: int, num_classes: int, n_selected: int, dropout: float = 0.0, relu: bool = False
    ) -> None:
        super().__init__(num_features, num_classes, n_selected, dropout, train_normalisation=False)
        self.relu = relu
        self.options = {"n_selected": n_selected, "dropout": dropout, "relu": relu}

    def assign(self, selection: Tensor, mean: Tensor, std: Tensor, assignment: Tensor) -> None:
        """Copy a choice in: `selection (n,)`, `mean (n,)`, `std (n,)`, `assignment (C, n)` of Booleans."""
        self.fill(selection, mean, std, assignment.to(self.weight), torch.zeros_like(self.bias))

    @property
    def is_linear(self) -> bool:
        """Whether no feature is cut off."""
        return not self.relu

    def standardise(self, features: Tensor) -> Tensor:
        """Features `(B, F)` → selected ones `(B, n)` in units of their standard deviations, at least 0 by `relu`."""
        found = super().standardise(features)
        return functional.relu(found) if self.relu else found

    def least_active(self) -> Tensor:
        """The value `(F,)` of each feature from which on it counts; minus infinity without `relu`."""
        least = self.mean.new_full((self.num_features,), -torch.inf)
        return least.index_copy(0, self.selection, self.mean.detach()) if self.relu else least

    def weights_for(self, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """`W (B, T, F)` and `b (B, T)` of classes `(B, T)`; features that are cut off have no part in either."""
        if not self.relu:
            return super().weights_for(features, classes)
        active = self._active(features)
        weight = self.class_weights()[0].to(features)[classes] * active[:, None]
        return weight, -weight @ self._means(features)

    def in_float64(self, features: Tensor) -> Tensor:
        """Logits `(B, C)` of features `(B, F)`, computed in float64 on the features' device."""
        if not self.relu:
            return super().in_float64(features)
        features = features.double()
        present = (features - self._means(features)) * self._active(features)
        return present @ self.class_weights()[0].detach().to(features).T

    def _active(self, features: Tensor) -> Tensor:
        return (features > self.least_active().to(features)).to(features)

    def _means(self, features: Tensor) -> Tensor:
        full = self.mean.new_zeros(self.num_features).index_copy(0, self.selection, self.mean.detach())
        return full.to(features)


def ternary_weights(weight: Tensor, count: int) -> Tensor:
    """The `count` largest weights `(C, n)` in size as ± their mean size, the others 0.

    Weights as large as the count-th are kept too.

    Raises:
        UserError: nothing would be left.

    Source: Q-SENN (AAAI 2024).

    Example:
        >>> ternary_weights(torch.tensor([[3.0, -1.0], [0.5, 0.0]]), 2).tolist()
        [[2.0, -2.0], [0.0, 0.0]]
    """
    sizes = weight.abs().flatten().sort(descending=True).values
    count = min(count, int((sizes > 0).sum()))
    if count < 1:
        raise UserError("a ternary layer needs weights that are not 0")
    kept = weight.abs() >= sizes[count - 1]
    return torch.where(kept, weight.sign() * weight.abs()[kept].mean(), 0.0)
