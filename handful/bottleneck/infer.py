"""The infer network: from what a first pass saw to the share of noise each position can bear."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.blur import gaussian_blur


class InferNetwork(nn.Module):
    """Three 1x1 convolutions over the first pass's layers, resized and concatenated, and its global output.

    The first convolution is taken layer by layer before resizing, which gives the same numbers: resizing mixes
    positions with weights that sum to one, the convolution mixes channels. The deep layers, which have most channels,
    are so read on their own few positions; on a ResNet-50 this takes a tenth of the operations.

    Args:
        layer_channels: channels of each layer read.
        global_features: length of the global representation; it is repeated at every position.
        outputs: 1 for one share per position, or the channels of the noised layer for one share per element.
        bound: the logit is ``bound * tanh(raw / bound)``: shares stay within ``sigmoid(-bound), sigmoid(bound)``
            and, unlike under a hard clamp, their gradient never vanishes altogether.
        start: logit at the start; -5 leaves 0.7 % noise.
        smoothing: standard deviation in cells of a Gaussian blur of the logits; 0 for none.
    """

    def __init__(
        self,
        layer_channels: Sequence[int],
        global_features: int,
        outputs: int = 1,
        *,
        bound: float = 6.0,
        start: float = -5.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        inputs = sum(layer_channels) + global_features
        hidden = min(max(inputs // 2, 16), 512)
        narrow = min(max(2 * outputs, 32), 512)
        last = nn.Conv2d(narrow, outputs, 1)
        with torch.no_grad():
            last.weight.mul_(1e-3)
            # the bias is that raw value whose bounded logit is `start`
            last.bias.fill_(bound * torch.atanh(torch.tensor(start / bound)).item())  # type: ignore[union-attr]
        self.read_layers = nn.ModuleList(nn.Conv2d(channels, hidden, 1, bias=False) for channels in layer_channels)
        self.read_global = nn.Linear(global_features, hidden)
        # as one convolution over all inputs would be drawn
        for parameter in (*self.read_layers.parameters(), *self.read_global.parameters()):
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5)
        self.decide = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, narrow, 1), nn.ReLU(), last)
        self.bound = bound
        self.smoothing = smoothing

    def forward(self, layers: Sequence[Tensor], representation: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits of the noise share, ``(B, outputs, *size)``, in float32.

        Args:
            layers: normalised maps ``(B, C_s, h_s, w_s)``.
            representation: normalised global representation ``(B, D)``.
            size: height and width of the noised layer.
        """
        hidden = self.read_global(representation)[:, :, None, None]
        for read, layer in zip(self.read_layers, layers, strict=True):
            # channels last, where a 1x1 convolution is a plain product and resizing goes along memory
            maps = read(layer.contiguous(memory_format=torch.channels_last))
            if maps.shape[2:] != size:
                maps = functional.interpolate(maps, size, mode="bilinear", align_corners=False)
            hidden = hidden + maps
        raw = self.decide(hidden).float()
        logits = self.bound * torch.tanh(raw / self.bound)
        return smooth(logits, self.smoothing)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps ``(B, C, H, W)``; `sigma` in cells, cut off at 2σ, edges repeated."""
    return gaussian_blur(maps, sigma, radius=round(2 * sigma), edges="replicate")
