"""Random numbers that belong to an image: the same whatever the batch, the chunk or the process."""

import hashlib

import torch
from torch import Tensor


def pixel_ids(images: Tensor) -> list[str]:
    """Return a hash of each image's pixels, for images `(N, C, H, W)`."""
    pixels = images.detach().float().cpu().contiguous()
    return [hashlib.blake2b(one.numpy().tobytes(), digest_size=8).hexdigest() for one in pixels]


def seeded(text: str, device: torch.device) -> torch.Generator:
    """Return a random generator seeded with a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    generator = torch.Generator(device)
    generator.manual_seed(int.from_bytes(digest, "big") >> 1)
    return generator
