"""A classifier with its normalisation inside, as it is handed on."""

import torch
from torch import Tensor, nn

from handful.errors import UserError
from handful.networks import Classifier


class Deployed(nn.Module):
    """Pixels to logits and features.

    `logits == features @ W.T + b` with the head's weights, so that contributions can be computed from the outputs.

    Args:
        classifier: in evaluation mode, on the CPU; knows its inputs.

    Raises:
        UserError: it does not know its class names, image size and normalisation.

    Example:
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.25,) * 3)
        >>> logits, features = Deployed(model)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
        >>> logits.shape, features.shape
        (torch.Size([1, 2]), torch.Size([1, 4]))
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        inputs = classifier.inputs
        if inputs is None:
            raise UserError("the model does not know the names of its classes, its image size and its normalisation")
        self.classifier = classifier
        scale = [1 / (255 * std) for std in inputs.std]
        shift = [-mean / std for mean, std in zip(inputs.mean, inputs.std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels uint8 `(B, 3, S, S)`, RGB → logits `(B, C)` and pooled features `(B, F)`."""
        features = self.classifier.features(pixels.to(torch.float32) * self.scale + self.shift)
        return self.classifier.head(features), features
