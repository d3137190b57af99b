"""The order in memory in which convolutions on a CPU are fast."""

import torch
from torch import Tensor


def for_convolutions(images: Tensor) -> Tensor:
    """Images `(B, C, H, W)` with the channels innermost in memory, on a CPU; the same numbers and shape.

    Every convolution behind keeps the order and is faster for it. Weights and checkpoints stay as they are.

    Example:
        >>> for_convolutions(torch.zeros(2, 3, 8, 8)).stride()
        (192, 1, 24, 3)
    """
    # a copy: an image alone may pass for being in this order already, with strides that torch takes for another
    return images.clone(memory_format=torch.channels_last) if images.device.type == "cpu" else images
