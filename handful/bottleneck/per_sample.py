"""The per-sample information bottleneck for attribution (Schulz et al. 2020): noise fitted to one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from handful.bottleneck.infer import smooth
from handful.bottleneck.noise import capacity, image_noise, inject
from handful.bottleneck.noise_bottleneck import BITS, NoiseBottleneck


def per_sample_maps(
    bottleneck: NoiseBottleneck,
    images: Tensor,
    targets: Tensor,
    ids: Sequence[int] | None = None,
    *,
    beta: float = 10.0,
    steps: int = 10,
    rate: float = 1.0,
    copies: int = 10,
    smoothing: float = 1.0,
    seed: int = 0,
    resize: bool = True,
) -> Tensor:
    """Capacity maps in bits, ``(B, H, W)``, of noise shares optimised image by image.

    Uses the statistics and the layer of a bottleneck, not its infer network. The loss is summed over images and
    the noise seeded by image, so that a batch gives what single images give.

    Args:
        bottleneck: with statistics gathered.
        images: ``(B, 3, H, W)``.
        targets: classes explained, ``(B,)``.
        ids: seeds of the images' noise; all 0 if None.
        beta: weight of the mean capacity of an element.
        steps: steps of Adam.
        rate: its learning rate.
        copies: noised copies per image and step.
        smoothing: blur of the noise logits, in positions of the map.
        seed: of the noise.
        resize: bilinear to the images' size (bits per pixel, their sum conserved), else bits per position.

    Example:
        >>> from torch import nn
        >>> from handful.networks import build_classifier
        >>> base = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
        >>> layers = [name for name, module in base.named_modules() if isinstance(module, nn.MaxPool2d)]
        >>> plugin = NoiseBottleneck(base, local_layer=layers[1], readout_layers=layers[1:], image_size=32)
        >>> plugin.observe(torch.rand(4, 3, 32, 32), ids=range(4))
        >>> plugin.finish_statistics()
        >>> per_sample_maps(plugin, torch.rand(1, 3, 32, 32), torch.tensor([2]), steps=2, copies=2).shape
        torch.Size([1, 32, 32])
    """
    with torch.inference_mode(False), torch.enable_grad():
        images, targets = images.detach().clone(), targets.to(bottleneck.device)
        with torch.no_grad():
            reading = bottleneck.read(images)
            repeated = bottleneck.read(images.repeat_interleave(copies, 0))
            local, statistics = reading.recording.local, bottleneck.local_statistics
            normalised = statistics.normalise(local)
        draws = image_noise(ids or [0] * len(images), seed, (steps, copies, *local.shape[1:]), local.device)
        share = torch.full_like(local, -5.0).requires_grad_()
        optimiser = torch.optim.Adam([share], lr=rate)
        for step in range(steps):
            logit = smooth(share, smoothing)
            noised = inject(
                local.repeat_interleave(copies, 0),
                logit.repeat_interleave(copies, 0),
                statistics,
                draws[:, step].flatten(0, 1),
                rectify=bottleneck.rectify,
            )
            logits = bottleneck.second_pass(repeated, noised)
            misses = functional.cross_entropy(logits.float(), targets.repeat_interleave(copies), reduction="none")
            price = capacity(logit, normalised).flatten(1).mean(1)
            loss = misses.view(-1, copies).mean(1).sum() + beta * price.sum()
            (share.grad,) = torch.autograd.grad(loss, [share])
            optimiser.step()
    with torch.no_grad():
        final = smooth(share, smoothing)
        bits = capacity(final, normalised).sum(1) * BITS
        if not resize:
            return bits
        height, width = images.shape[2:]
        cells = bits.shape[1] * bits.shape[2]
        resized = functional.interpolate(bits[:, None], (height, width), mode="bilinear", align_corners=False)
        return resized[:, 0] * (cells / (height * width))
