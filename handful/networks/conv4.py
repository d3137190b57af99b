"""Conv-4, the small backbone of few-shot learning (Vinyals et al. 2016; Snell et al. 2017)."""

from torch import Tensor, nn


class Conv4(nn.Module):
    """Four blocks of 3×3 convolution, batch normalisation, ReLU and 2×2 max pooling.

    84×84 images give maps of 5×5. Blocks are named `layer1` to `layer4`.

    Args:
        width: channels of every block.
        in_chans: channels of the images.
    """

    convolves = True

    def __init__(self, width: int = 64, in_chans: int = 3) -> None:
        super().__init__()
        self.num_features = width
        self.in_channels = in_chans
        self.layer1 = _block(in_chans, width)
        self.layer2 = _block(width, width)
        self.layer3 = _block(width, width)
        self.layer4 = _block(width, width)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → feature maps `(B, width, H // 16, W // 16)`."""
        return self.layer4(self.layer3(self.layer2(self.layer1(images))))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
    )
