"""Are the filters of a class essential? Replace them by noise, and see."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from handful.conversions import as_float, as_index, as_labels
from handful.filters.measures import membership

#: Rows of noise; image i takes row i mod this prime, so that no order of classes falls into step with it.
_ROWS = 1009


class EssentialityTest(Metric):
    """Accuracy with features replaced by noise from N(0, 1), the whole head kept.

    The noise replaces, in turn, the filters of the image's own class, all other features, and as many
    other features as there are filters (drawn once per class, by the seed). The last is the fair comparison: the
    rest is many more features. An image meets the same noise whatever its batch or process.

    Args:
        head: features `(B, F)` → logits `(B, C)`; only read.
        filters: `(C, k2)` int64.
        num_features: F.
        seed: of the noise and of the drawn features.

    Source: the noise test of the authors of arXiv 2112.07719, whose code compares the first two.

    Example:
        >>> head = nn.Linear(4, 2)
        >>> test = EssentialityTest(head, torch.tensor([[0], [1]]), num_features=4)
        >>> test.update(torch.rand(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]), torch.arange(6))
        >>> list(test.compute())
        ['clean', 'filters', 'rest', 'as_many_others']
    """

    full_state_update = False
    CASES = ("clean", "filters", "rest", "as_many_others")
    correct: Tensor
    images: Tensor
    noise: Tensor
    masks: Tensor

    def __init__(self, head: nn.Module, filters: Tensor, num_features: int, seed: int = 0) -> None:
        super().__init__()
        self._head = [head]  # in a list: the head belongs to the model, not to this metric
        filters = as_index(filters, (None, None), num_features, "filters")
        classes, k2 = filters.shape
        generator = torch.Generator().manual_seed(seed)
        own = membership(filters.cpu(), num_features)
        order = torch.rand(own.shape, generator=generator).masked_fill(own, 2.0).argsort(dim=1)
        others = membership(order[:, : min(k2, num_features - k2)], num_features)
        noise = torch.randn(_ROWS, num_features, generator=generator)
        self.register_buffer("noise", noise, persistent=False)
        self.register_buffer("masks", torch.stack((own, ~own, others)), persistent=False)
        self.add_state("correct", torch.zeros(len(self.CASES), classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, index: Tensor) -> None:
        """Take pooled features `(B, F)`, labels `(B,)` and the images' dataset indices `(B,)`, int64.

        Raises:
            UserError: features, labels or indices of another shape, or labels out of range.
        """
        features = as_float(features, (None, self.noise.shape[1]), "features")
        labels = as_labels(labels, len(features), len(self.images)).to(features.device)
        index = as_labels(index, len(features), name="index").to(features.device)
        noise = self.noise[index % _ROWS].to(features.dtype)
        cases = (features, *(torch.where(mask[labels], noise, features) for mask in self.masks))
        for correct, case in zip(self.correct, cases, strict=True):
            correct.index_add_(0, labels, (self._head[0](case).argmax(dim=1) == labels).long())
        self.images.index_add_(0, labels, torch.ones_like(labels))

    def compute(self) -> dict[str, float]:
        """Accuracy, in per cent, of every case (`CASES`); every process must call it."""
        shares = 100 * self.correct.sum(dim=1).double() / self.images.sum()
        return dict(zip(self.CASES, shares.tolist(), strict=True))
