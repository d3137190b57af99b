"""Small networks whose attributions can be checked by hand."""

import torch
from torch import Tensor, nn

from handful.networks.classifier import Classifier
from handful.networks.heads import DenseHead


def linear_model(size: int = 8, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes)).double()


class ConvBackbone(nn.Sequential):
    def __init__(self, *layers: nn.Module, num_features: int) -> None:
        super().__init__(*layers)
        self.num_features = num_features


def smooth_classifier(classes: int = 4) -> Classifier:
    """Differentiable everywhere, float64."""
    torch.manual_seed(1)
    backbone = ConvBackbone(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 5, 3, stride=2, padding=1), nn.Softplus(), num_features=5
    )
    return Classifier(backbone, DenseHead(5, classes)).double().eval()


def relu_classifier(classes: int = 4, bias: bool = True, inplace: bool = False) -> Classifier:
    """Convolutions, batch norms with a history, ReLUs, dropout; float32, left in training mode."""
    torch.manual_seed(2)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=bias), nn.BatchNorm2d(8), nn.ReLU(inplace),
        nn.Conv2d(8, 6, 3, stride=2, padding=1, bias=bias), nn.BatchNorm2d(6), nn.ReLU(inplace),
    ]  # fmt: skip
    if not bias:
        layers = [layer for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    model = Classifier(ConvBackbone(*layers, num_features=6), DenseHead(6, classes, dropout=0.3))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
        if not bias:
            model.head.linear.bias.zero_()
    return model.train()


def images(count: int = 3, size: int = 12, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(5)).to(dtype)
