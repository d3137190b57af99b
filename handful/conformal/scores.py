"""How strange a class is for an image, by the classifier's probabilities: the larger, the stranger."""

import torch
from torch import Tensor

from handful.conversions import as_float
from handful.errors import UserError

#: Rows of probabilities add up to 1 as closely as half precision allows.
_ROUNDING = 1e-2


def threshold_scores(probabilities: Tensor) -> Tensor:
    """THR: `1 − p (N, C)`. The smallest sets on average.

    Raises:
        UserError: rows that are no probabilities, as logits are none.

    Source: Sadinle et al., "Least ambiguous set-valued classifiers" (JASA 2019).

    Example:
        >>> threshold_scores(torch.tensor([[0.75, 0.25]])).tolist()
        [[0.25, 0.75]]
    """
    return 1 - _checked(probabilities)


def adaptive_scores(probabilities: Tensor, seed: int | None = 0) -> Tensor:
    """APS: the probability of all classes at least as probable `(N, C)`, a random part of the class's own left out.

    Sets grow where the classifier is unsure.

    Args:
        probabilities: `(N, C)`.
        seed: of the random part, one per image in their order; None leaves nothing out, which gives larger sets.

    Raises:
        UserError: rows that are no probabilities.

    Source: Romano et al., "Classification with valid and adaptive coverage" (NeurIPS 2020).

    Example:
        >>> adaptive_scores(torch.tensor([[0.75, 0.25]]), seed=None).tolist()
        [[0.75, 1.0]]
    """
    probabilities = _checked(probabilities)
    sorted_values, order = probabilities.double().sort(dim=1, descending=True, stable=True)
    scores = torch.zeros_like(sorted_values).scatter_(1, order, sorted_values.cumsum(dim=1))
    if seed is None:
        return scores
    part = torch.rand(len(scores), 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores - part.to(scores.device) * probabilities


def _checked(probabilities: Tensor) -> Tensor:
    """Probabilities `(N, C)`, or one sentence."""
    probabilities = as_float(probabilities, (None, None), "probabilities")
    apart = (probabilities.double().sum(dim=1) - 1).abs()
    if not bool(((probabilities >= 0).all(dim=1) & (apart <= _ROUNDING)).all()):
        raise UserError(
            "probabilities: a row is negative, not finite or does not add up to 1; of logits take logits.softmax(1)"
        )
    return probabilities
