"""The mutual-channel loss, a baseline for L_div."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.conversions import as_float, as_labels
from handful.errors import UserError


class MutualChannelLoss(nn.Module):
    """Let each class own `channels` maps that should each suffice for it and look at different positions.

    `discriminality · CE(mean over positions of the channel-max of randomly masked groups) + diversity · (1 − mean of
    the channel-max of spatial softmaxes / channels)`, to be added to the cross-entropy.

    Args:
        num_classes: C.
        channels: maps per class; the backbone must have at least `C · channels` maps, the first ones are used.
        discriminality: weight of the first term (1.5 in the authors' code).
        diversity: weight of the second term (20 there).

    Source: Chang et al., "The Devil is in the Channels" (IEEE TIP 2020).

    Example:
        >>> loss = MutualChannelLoss(num_classes=2, channels=3)
        >>> loss(torch.rand(4, 6, 5, 5), torch.tensor([0, 1, 1, 0])).shape
        torch.Size([])
    """

    def __init__(
        self, num_classes: int, channels: int = 3, discriminality: float = 1.5, diversity: float = 20.0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.channels = channels
        self.discriminality = discriminality
        self.diversity = diversity

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of maps `(B, F, h, w)` and labels int64 `(B,)`.

        Raises:
            UserError: there are fewer maps than `num_classes · channels`, or labels of other images.
        """
        as_float(maps, (None, None, None, None), "maps")
        labels = as_labels(labels, len(maps), self.num_classes).to(maps.device)
        used = self.num_classes * self.channels
        if maps.shape[1] < used:
            raise UserError(f"the mutual-channel loss needs {used} feature maps; the backbone has {maps.shape[1]}")
        groups = maps[:, :used].flatten(2).unflatten(1, (self.num_classes, self.channels))
        # a third of every class's channels is left out, drawn for each class and batch
        order = torch.rand(self.num_classes, self.channels, device=maps.device).argsort(dim=1)
        mask = (order < max(1, round(2 * self.channels / 3))).to(maps.dtype)
        scores = (groups * mask[None, :, :, None]).amax(dim=2).mean(dim=2)
        spread = torch.softmax(groups, dim=3).amax(dim=2).sum(dim=2).mean() / self.channels
        return self.discriminality * functional.cross_entropy(scores, labels) + self.diversity * (1 - spread)
