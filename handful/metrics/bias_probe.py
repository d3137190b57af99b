"""Bias probe: does the score of a class change when the region that should decide it is covered or exchanged?"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from handful.blur import gaussian_blur
from handful.conversions import as_labels, as_mask, check_whole
from handful.errors import UserError
from handful.metrics.finite import as_finite
from handful.metrics.plotted import PlottedMetric

#: What a region is filled with: the mean colour, the image blurred, or the same region of an image of another class.
Fill = Literal["mean", "blur", "other"]
FILLS: tuple[Fill, ...] = ("mean", "blur", "other")

#: Blur as a share of the shorter side.
_BLUR = 0.1


def filled(images: Tensor, masks: Tensor, fill: Fill = "mean", others: Tensor | None = None) -> Tensor:
    """Return images whose region inside a mask is filled.

    Args:
        images: `(B, C, H, W)`, normalised.
        masks: bool `(B, H, W)`; other types see `handful.conversions.as_mask`.
        fill: "mean" (0 after normalisation), "blur", or "other".
        others: `(B, C, H, W)`, where the pixels come from with "other".

    Raises:
        UserError: shapes that do not fit one another, or an unknown fill.

    Example:
        >>> mask = torch.tensor([[[True, False]]])
        >>> filled(torch.ones(1, 3, 1, 2), mask)[0, 0].tolist()
        [[0.0, 1.0]]
    """
    images = as_finite(images, (None, None, None, None), "images")
    inside = as_mask(masks).to(images.device)
    if inside.shape != (len(images), *images.shape[2:]):
        raise UserError(f"masks: expected {(len(images), *images.shape[2:])}, got {tuple(inside.shape)}")
    if fill == "mean":
        pixels = torch.zeros_like(images)
    elif fill == "blur":
        pixels = gaussian_blur(images, _BLUR * min(images.shape[2:]))
    elif fill == "other" and others is not None:
        pixels = as_finite(others, tuple(images.shape), "others").to(images)
    else:
        raise UserError(f"fill: {', '.join(FILLS)}, and others with the last; got {fill!r}")
    return torch.where(inside[:, None], pixels, images)


class BiasProbe(PlottedMetric):
    """Measure, per class, how a change of the images changes the score of the class.

    A part that should decide and whose loss changes little, or a region that should not and whose loss changes much,
    shows that the model has learned something else than it seems.

    Args:
        num_classes: C.

    Source: Zhang and Zhu 2018, "Visual interpretability for deep learning: a survey" (arXiv 1802.00614), section 5;
    Zhang et al. 2018, "Examining CNN representations with respect to dataset bias" (arXiv 1710.10577).

    Example:
        >>> probe = BiasProbe(num_classes=2)
        >>> probe.update(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
        >>> {name: round(float(value), 2) for name, value in probe.compute().items()}
        {'score_change': -2.0, 'probability_change': -0.61, 'changed': 1.0}
    """

    higher_is_better = None
    images: Tensor
    sums: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes = check_whole("num_classes", num_classes, 1)
        self.add_state("images", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(num_classes, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, before: Tensor, after: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            before: logits `(B, C)` of the images.
            after: logits `(B, C)` of the changed images.
            labels: int64 `(B,)`, the class whose score is followed.

        Raises:
            UserError: shapes that do not fit one another, logits that are not finite, labels out of range.
        """
        before = as_finite(before, (None, self.num_classes), "before").double()
        after = as_finite(after, tuple(before.shape), "after").double()
        labels = as_labels(labels, len(before), self.num_classes).to(before.device)
        own = labels[:, None]
        change = torch.stack(
            [
                (after - before).gather(1, own)[:, 0],
                (functional.softmax(after, dim=1) - functional.softmax(before, dim=1)).gather(1, own)[:, 0],
                (after.argmax(dim=1) != before.argmax(dim=1)).double(),
            ],
            dim=1,
        )
        self.sums.index_add_(0, labels, change)
        self.images += torch.bincount(labels, minlength=self.num_classes)

    def compute(self) -> dict[str, Tensor]:
        """Return means over all images: change of logit and of probability, share of predictions that changed."""
        means = self.sums.sum(dim=0) / self.images.sum()
        return dict(zip(("score_change", "probability_change", "changed"), means, strict=True))

    def per_class(self) -> Tensor:
        """Return the three means of `compute` per class over all ranks, float64 `(C, 3)`; NaN without images."""
        with self.sync_context():
            return self.sums / self.images[:, None]
