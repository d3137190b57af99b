"""The CIFAR ResNets of He et al. (2016), section 4.2, named as the public checkpoints name them."""

from torch import Tensor, nn
from torch.nn import functional

DEPTHS = (20, 32, 44, 56, 110)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a parameter-free shortcut (option A: subsample, pad new channels with zeros)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.pad = (channels - in_channels) // 2

    def shortcut(self, x: Tensor) -> Tensor:
        """The identity, subsampled and padded to the block's output shape."""
        if self.stride == 1 and self.pad == 0:
            return x
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, c_in, h, w)` → `(B, c, h/stride, w/stride)`."""
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet for small images: 3 stages of `(depth − 2) / 6` blocks with 16, 32 and 64 channels.

    The map of the last stage has stride 4: 8×8 for 32×32 images. All ReLUs are modules of their own and not in
    place, so that guided backprop can hook each of them.

    Args:
        depth: one of 20, 32, 44, 56, 110.
        width: channels of the first stage; 16 is the paper's.
        in_chans: channels of the images.
    """

    convolves = True

    def __init__(self, depth: int = 20, width: int = 16, in_chans: int = 3) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth must be one of {DEPTHS}; got {depth}")
        blocks = (depth - 2) // 6
        self.num_features = 4 * width
        self.in_channels = in_chans
        self.conv1 = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(width, width, blocks, stride=1)
        self.layer2 = self._stage(width, 2 * width, blocks, stride=2)
        self.layer3 = self._stage(2 * width, 4 * width, blocks, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → feature maps `(B, 4·width, H/4, W/4)`."""
        x = self.relu(self.bn1(self.conv1(images)))
        return self.layer3(self.layer2(self.layer1(x)))
