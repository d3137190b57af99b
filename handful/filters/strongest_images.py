"""For every feature, the images that drive it most."""

import torch
from torch import Tensor

from handful.conversions import as_float, as_labels
from handful.metrics.shaped import ShapedMetric


class StrongestImages(ShapedMetric):
    """Keep, for every feature, the `n` images with the highest pooled value, on any number of processes.

    Ties go to the image with the lower dataset index. The memory is `(F, n)`, whatever the number of
    images.

    Args:
        num_features: F.
        n: images per feature.

    Example:
        >>> strongest = StrongestImages(num_features=2, n=1)
        >>> strongest.update(torch.tensor([[1.0, 5.0], [3.0, 2.0]]), torch.tensor([10, 11]))
        >>> strongest.compute()[1].tolist()
        [[11], [10]]
    """

    full_state_update = False
    values: Tensor
    index: Tensor

    def __init__(self, num_features: int, n: int = 5) -> None:
        super().__init__()
        self.n = n
        self.add_state("values", torch.full((num_features, n), -torch.inf), dist_reduce_fx=None)
        self.add_state("index", torch.full((num_features, n), torch.iinfo(torch.int64).max), dist_reduce_fx=None)

    @torch.no_grad()
    def update(self, features: Tensor, index: Tensor) -> None:
        """Take pooled features `(B, F)` and the images' dataset indices `(B,)`, int64.

        Raises:
            UserError: features or indices of another shape.
        """
        features = as_float(features, (None, len(self.values)), "features")
        index = as_labels(index, len(features), name="index").to(features.device)
        columns = index.expand(features.shape[1], -1)
        self.values, self.index = self._best(
            torch.cat((self.values, features.detach().t().to(self.values.dtype)), dim=1),
            torch.cat((self.index, columns), dim=1),
        )

    def compute(self) -> tuple[Tensor, Tensor]:
        """Pooled values `(F, n)` float32, highest first, and dataset indices `(F, n)`, −1 where none is."""
        values, index = self.values, self.index
        if values.dim() == 3:  # one slice per process
            values, index = values.transpose(0, 1).flatten(1), index.transpose(0, 1).flatten(1)
            values, index = self._best(values, index)
        return values, index.where(values > -torch.inf, -1)

    def _best(self, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        early = torch.sort(index, dim=1)
        values = values.gather(1, early.indices)
        best = torch.sort(values, dim=1, descending=True, stable=True).indices[:, : self.n]
        return values.gather(1, best), early.values.gather(1, best)
