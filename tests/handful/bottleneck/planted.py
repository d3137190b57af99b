"""A network and images where it is known which place decides: glyphs in noise, found by matched filters."""

import torch
from torch import Tensor, nn

SIDE, GLYPH, CLASSES = 24, 5, 4


def glyphs() -> Tensor:
    """One pattern of signs and a colour a class, `(4, 3, 5, 5)`."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (CLASSES, 1, GLYPH, GLYPH), generator=generator).float() * 2 - 1
    colours = torch.tensor([[1, 0.2, 0.2], [0.2, 1, 0.2], [0.2, 0.2, 1], [1, 1, 0.2]])
    return signs * colours[:, :, None, None]


def images(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images `(N, 3, 24, 24)`, labels `(N,)` and masks `(N, 24, 24)` of the glyph."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    corners = torch.randint(0, SIDE - GLYPH + 1, (count, 2), generator=generator)
    pictures = 0.6 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    masks = torch.zeros(count, SIDE, SIDE)
    for i, (row, column) in enumerate(corners.tolist()):
        pictures[i, :, row : row + GLYPH, column : column + GLYPH] += glyphs()[labels[i]]
        masks[i, row : row + GLYPH, column : column + GLYPH] = 1
    return pictures, labels, masks


class Matcher(nn.Module):
    """Matched filters, a second look at half resolution, a spatial mean and a linear layer; nothing is trained."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        texture = torch.randn(4, 3, GLYPH, GLYPH, generator=generator) / 4
        templates = glyphs() / glyphs().flatten(1).norm(dim=1)[:, None, None, None]
        first = nn.Conv2d(3, 8, GLYPH, padding=GLYPH // 2)
        second = nn.Conv2d(8, CLASSES, 3, padding=1, stride=2)
        with torch.no_grad():
            first.weight.copy_(torch.cat([templates, texture]))
            first.bias.copy_(torch.tensor([-2.0] * 4 + [0.0] * 4))
            second.weight.zero_()
            second.weight[range(CLASSES), range(CLASSES)] = 1.0
            second.bias.zero_()
        self.layer1 = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU())
        self.layer2 = nn.Sequential(second, nn.ReLU(inplace=True))
        self.fc = nn.Linear(CLASSES, CLASSES)
        with torch.no_grad():
            self.fc.weight.copy_(120 * torch.eye(CLASSES) - 30)
            self.fc.bias.zero_()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(images)).mean((2, 3)))
