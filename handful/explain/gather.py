"""Features of a data set's images, in its order, gathered by one process."""

from typing import Any

import torch
from torch import Tensor

from handful.networks import Classifier
from handful.progress import tracked


@torch.no_grad()
def gather_features(model: Classifier, loader: Any, name: str) -> tuple[Tensor, Tensor]:
    """Pooled features `(N, F)` float32 and labels `(N,)` of all images of a loader, on the CPU.

    Args:
        model: in evaluation mode, on the device to compute on.
        loader: gives `(images, labels)`.
        name: of the images, for the progress bar.
    """
    device = next(model.parameters()).device
    features, labels = [], []
    for images, truth in tracked(loader, f"features of the {name} images", "batches"):
        features.append(model.features(images.to(device)).float().cpu())
        labels.append(truth)
    return torch.cat(features), torch.cat(labels)
