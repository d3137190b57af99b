"""Few-shot accuracy: the mean over episodes and its interval."""

from typing import Any

import torch
from torch import Tensor

from handful.conversions import as_float, as_labels
from handful.errors import UserError
from handful.metrics.plotted import PlottedMetric


class EpisodeAccuracy(PlottedMetric):
    """Measure the mean accuracy over episodes and half its 95 % interval, both in per cent.

    The interval is the field's, `1.96 · std / sqrt(episodes)`. Scores that are NaN make the result NaN.

    Example:
        >>> metric = EpisodeAccuracy()
        >>> metric.update(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> float(metric.compute()["accuracy"])
        50.0
    """

    higher_is_better = True
    episodes: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("episodes", "total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add one episode.

        Args:
            scores: `(Q, way)`, of its queries.
            labels: int64 `(Q,)`, in [0, way).

        Raises:
            UserError: labels of other queries or classes, an episode without queries.
        """
        scores = as_float(scores, (None, None), "scores")
        if not scores.numel():
            raise UserError(f"scores: expected a query and a class at least, got {tuple(scores.shape)}")
        labels = as_labels(labels, len(scores), scores.shape[1]).to(scores.device)
        accuracy = (scores.argmax(1) == labels).double().mean()
        accuracy = torch.where(scores.isnan().any(), torch.nan, accuracy)
        self.episodes += 1
        self.total += accuracy
        self.squares += accuracy.square()

    def compute(self) -> dict[str, Tensor]:
        """Return `accuracy` and `interval`, in per cent; NaN where there was no episode."""
        mean = self.total / self.episodes
        variance = (self.squares / self.episodes - mean.square()).clamp_min(0.0)
        return {"accuracy": 100 * mean, "interval": 100 * 1.96 * (variance / self.episodes).sqrt()}
