"""The feature grounding loss of CHiQPM."""

import torch
from torch import Tensor

from handful.conversions import as_float, as_labels
from handful.errors import UserError


def feature_grounding_loss(features: Tensor, assignment: Tensor, labels: Tensor) -> Tensor:
    """Return how active a class's own features are against the others: small where they alone are.

    Mean over the batch of `(2 · mean of the features that are not the class's − mean of those that are) / max(max |f|,
    0.01)`, the largest over the batch and without a gradient. The factor 2 is the authors'.

    Args:
        features: `(B, n)`, the chosen features in units of their standard deviations, at least 0.
        assignment: `(C, n)`, not 0 where a feature is a class's.
        labels: int64 `(B,)`.

    Returns:
        A scalar.

    Raises:
        UserError: shapes or labels that do not fit one another.

    Source: CHiQPM (NeurIPS 2025), with weight 3 in the first 30 epochs of finetuning.

    Example:
        >>> assignment = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> float(feature_grounding_loss(torch.tensor([[4.0, 1.0]]), assignment, torch.tensor([0])))
        -0.5
    """
    as_float(features, (None, None), "features")
    if assignment.ndim != 2 or assignment.shape[1] != features.shape[1]:
        raise UserError(f"assignment {tuple(assignment.shape)} does not belong to features {tuple(features.shape)}")
    labels = as_labels(labels, len(features), len(assignment)).to(features.device)
    own = (assignment != 0).to(features)[labels]
    other = 1 - own
    mine = (features * own).sum(dim=1) / own.sum(dim=1).clamp(min=1)
    rest = (features * other).sum(dim=1) / other.sum(dim=1).clamp(min=1)
    largest = features.detach().abs().amax().clamp(min=0.01)
    return torch.mean((2 * rest - mine) / largest)
