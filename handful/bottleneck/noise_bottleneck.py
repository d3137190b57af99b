"""A noise bottleneck in a trained network: the infer network decides how much noise each position can bear."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.bottleneck.infer import InferNetwork
from handful.bottleneck.noise import NoiseKind, capacity, fixed_share, image_noise, inject
from handful.bottleneck.statistics import RunningStatistics
from handful.bottleneck.two_pass import Recording, TwoPass, layer_shapes
from handful.errors import UserError

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""Takes the outputs of the second (noised) and of the first (clean) pass, gives a scalar."""

BITS = 1.0 / math.log(2.0)


@dataclass
class Reading:
    """What the first pass says about a batch.

    Attributes:
        images: the batch.
        recording: of the first pass.
        representation: global representation ``(B, D)``, normalised.
        share_logit: logit of the noise share, ``(B, 1 or C, H, W)``.
    """

    images: Tensor
    recording: Recording
    representation: Tensor
    share_logit: Tensor


@dataclass(frozen=True)
class Weights:
    """Weights of the objective.

    Attributes:
        beta1: of the mutual information of locals and globals.
        beta2: of the information of a noised local about the output; 1 suits class logits, 0.01 embeddings, whose
            divergence sums over components. It also charges for shares of noise that differ by class: a network has
            a class it sees in pure noise, and without a price images of that class are drowned.
        beta3: of the mean capacity of an element; choose it so that ``5 beta3``, its price at the start, is about
            0.3 to 1 times the log of the number of classes.

    Example:
        >>> Weights(beta3=0.5)
        Weights(beta1=1.0, beta2=1.0, beta3=0.5)
    """

    beta1: float = 1.0
    beta2: float = 1.0
    beta3: float = 0.1


@dataclass
class Terms:
    """The terms of the objective, scalars in nats, before weighting; and what was seen on the way.

    Attributes:
        task: task loss of the noised pass.
        capacity: mean capacity of an element.
        share: mean noise share.
        clean_output: output of the first pass ``(B, D)``.
        noised_output: output of the second pass ``(B, D)``.
        infomax: mean mutual information of locals and globals, lower bound (what is maximised).
        fit: misfit of the bottleneck head and its prior.
        compression: mean information of a noised local, upper bound (what is minimised).

    Example:
        >>> one = torch.tensor(1.0)
        >>> Terms(one, one, one, torch.zeros(2, 3), torch.zeros(2, 3)).infomax is None
        True
    """

    task: Tensor
    capacity: Tensor
    share: Tensor
    clean_output: Tensor
    noised_output: Tensor
    infomax: Tensor | None = None
    fit: Tensor | None = None
    compression: Tensor | None = None


class NoiseBottleneck(nn.Module):
    """A trained network with noise at one of its layers, as much as the decision can bear.

    Alone, trained with the task loss and the capacity, this is the readout variant of the information bottleneck
    for attribution (Schulz et al. 2020). `InfoMaxBottleneck` builds on it.

    The network keeps its parameters, stays in evaluation mode (batch normalisation would otherwise mix the images
    of a batch and take in noised features) and is bit-identical after training unless `finetune`.

    Args:
        base: the trained network, images ``(B, 3, H, W)`` -> ``(B, D)``: class logits or an embedding.
        local_layer: layer whose output is noised; its features are the local representation.
        readout_layers: layers the infer network reads.
        image_size: side of the images, to learn the layers' shapes.
        global_layer: layer whose maps, averaged over space, are the global representation; the output if None.
        share_per_channel: one noise share per element instead of one per position.
        noise: see `inject`.
        statistics: per ``"channel"`` or per ``"neuron"`` (fixes the image size).
        smoothing: see `InferNetwork`.
        finetune: let the task loss train the base too.

    Raises:
        UserError: a layer does not exist or gives no spatial map.

    Example:
        >>> from handful.networks import build_classifier
        >>> base = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
        >>> layers = [name for name, module in base.named_modules() if isinstance(module, nn.MaxPool2d)]
        >>> plugin = NoiseBottleneck(base, local_layer=layers[1], readout_layers=layers[1:], image_size=32)
        >>> plugin.observe(torch.rand(4, 3, 32, 32), ids=range(4))
        >>> plugin.finish_statistics()
        >>> sorted(plugin.maps(torch.rand(1, 3, 32, 32), ids=[0]))
        ['capacity', 'keep']
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        local_layer: str,
        readout_layers: Sequence[str],
        image_size: int,
        global_layer: str | None = None,
        share_per_channel: bool = False,
        noise: NoiseKind = "matched",
        statistics: Literal["channel", "neuron"] = "channel",
        smoothing: float = 0.0,
        finetune: bool = False,
    ) -> None:
        super().__init__()
        for name, module in base.named_modules():
            if getattr(module, "layout", "NCHW") != "NCHW" and local_layer.startswith(f"{name}."):
                raise UserError(f"local_layer '{local_layer}': channels come last there; use '{name}'")
        self.base = base.requires_grad_(finetune).eval()
        self.local_layer = local_layer
        self.readout_layers = list(readout_layers)
        self.global_layer = global_layer
        self.noise = noise
        self.finetune = finetune
        recorded = list(dict.fromkeys([*readout_layers, *([global_layer] if global_layer else [])]))
        self._two_pass = TwoPass(base, local_layer, recorded)
        shapes, output = layer_shapes(base, [local_layer, *recorded], image_size)
        self.local_features = shapes[local_layer][0]
        self.global_features = shapes[global_layer][0] if global_layer else output[0]

        def shape_of(layer: str) -> tuple[int, ...]:
            return tuple(shapes[layer]) if statistics == "neuron" else (shapes[layer][0],)

        self.local_statistics = RunningStatistics(shape_of(local_layer))
        self.readout_statistics = nn.ModuleList(RunningStatistics(shape_of(name)) for name in readout_layers)
        self.global_statistics = RunningStatistics((self.global_features,))
        self.infer = InferNetwork(
            [shapes[name][0] for name in readout_layers],
            self.global_features,
            self.local_features if share_per_channel else 1,
            smoothing=smoothing,
        )

    def forward(self, images: Tensor) -> Tensor:
        """The unchanged network, without noise: images `(B, 3, H, W)` -> output `(B, D)`."""
        return self.base(images)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all parts but the base."""
        super().train(mode)
        self.base.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes; images are taken there."""
        return self.local_statistics.mean.device

    @property
    def rectify(self) -> bool:
        """Whether the noised layer has never been seen negative, as after a ReLU."""
        return bool(self.local_statistics.lowest >= 0)

    @torch.no_grad()
    def observe(self, images: Tensor, ids: Sequence[int]) -> None:
        """Take images into the statistics; call for all of them, then `finish_statistics` once.

        Args:
            images: ``(B, 3, H, W)``.
            ids: one number per image, unique over all processes.
        """
        recording = self._two_pass.record(images.to(self.device))
        self.local_statistics.update(recording.local)
        for name, statistics in zip(self.readout_layers, self._readouts(), strict=True):
            statistics.update(recording.readouts[name])
        self.global_statistics.update(self._representation(recording))
        self._observe_more(recording, ids)

    def finish_statistics(self) -> None:
        """Merge what all processes observed."""
        self.local_statistics.synchronise()
        for statistics in self._readouts():
            statistics.synchronise()
        self.global_statistics.synchronise()

    def read(self, images: Tensor, share: float | None = None) -> Reading:
        """First pass over clean images.

        Args:
            images: ``(B, 3, H, W)``.
            share: noise share by hand, in [0, 1]; inferred if None.
        """
        images = images.to(self.device)
        with nullcontext() if self.finetune else torch.no_grad():
            recording = self._two_pass.record(images)
            representation = self.global_statistics.normalise(self._representation(recording))
            layers = [
                statistics.normalise(recording.readouts[name]).detach()
                for name, statistics in zip(self.readout_layers, self._readouts(), strict=True)
            ]
        height, width = recording.local.shape[2:]
        if share is None:
            share_logit = self.infer(layers, representation.detach(), (height, width))
        else:
            share_logit = fixed_share(share).to(images.device).expand(len(images), 1, height, width)
        return Reading(images, recording, representation, share_logit)

    def noised(self, reading: Reading, noise: Tensor) -> Tensor:
        """Noised local features ``(B, C, H, W)``; `noise` is standard normal, of the same shape."""
        return self._inject(reading.recording.local, reading, noise)

    def second_pass(self, reading: Reading, local: Tensor) -> Tensor:
        """The network's output with other local features; only what follows the local layer is run."""
        return self._two_pass.replay(reading.recording, reading.images, local)

    def terms(self, images: Tensor, task: TaskLoss | None = None, *, share: float | None = None) -> Terms:
        """Both passes and the terms of the objective.

        Args:
            images: ``(B, 3, H, W)``.
            task: task loss; by default the cross-entropy of the noised pass with the clean pass's prediction.
            share: noise share by hand; inferred if None.
        """
        reading = self.read(images, share)
        noise = torch.randn_like(reading.recording.local)
        return self._task_terms(reading, self.noised(reading, noise), task or prediction_loss)

    def objective(self, terms: Terms, weights: Weights, warmup: float = 1.0) -> Tensor:
        """``task + warmup * beta3 * capacity``; `warmup` in [0, 1]."""
        return terms.task + warmup * weights.beta3 * terms.capacity

    @torch.no_grad()
    def noised_outputs(
        self,
        images: Tensor | Reading,
        ids: Sequence[int],
        *,
        samples: int = 8,
        seed: int = 0,
        share: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs under noise ``(samples, B, D)`` and without ``(B, D)``, independent of the rest of the batch.

        Args:
            images: ``(B, 3, H, W)``, or what `read` made of them.
            ids: seeds of the images' noise.
            samples: draws of noise.
            seed: of the noise.
            share: noise share by hand; inferred if None.
        """
        reading = images if isinstance(images, Reading) else self.read(images, share)
        noise = self._sample_noise(reading, ids, samples, seed)
        outputs = [self.second_pass(reading, self.noised(reading, draw)) for draw in noise]
        return torch.stack(outputs), reading.recording.output

    @torch.no_grad()
    def maps(
        self,
        images: Tensor | Reading,
        ids: Sequence[int] | None = None,
        *,
        samples: int = 8,
        seed: int = 0,
        share: float | None = None,
        resize: bool = True,
    ) -> dict[str, Tensor]:
        """Heat maps, each ``(B, H, W)``; an image's map depends on nothing but the image, its id and the seed.

        ``keep`` is the share of the features kept, in [0, 1]; ``capacity`` the information that the noised features
        carry about the clean ones, in bits (a cell's bits, or a pixel's when resized: the sum is conserved).

        Args:
            images: ``(B, 3, H, W)``, or what `read` made of them.
            ids: seeds of the images' noise; all 0 if None.
            samples: draws of noise averaged.
            seed: of the noise.
            share: noise share by hand; inferred if None.
            resize: bilinear to the images' size, otherwise of the local layer's size.
        """
        reading = images if isinstance(images, Reading) else self.read(images, share)
        noise = self._sample_noise(reading, ids or [0] * len(reading.images), samples, seed)
        maps = self._maps(reading, noise)
        if not resize:
            return maps
        height, width = reading.images.shape[2:]
        cells = reading.share_logit.shape[2] * reading.share_logit.shape[3]
        maps["capacity"] = maps["capacity"] * (cells / (height * width))
        return {
            name: functional.interpolate(value[:, None], (height, width), mode="bilinear", align_corners=False).squeeze(
                1
            )
            for name, value in maps.items()
        }

    def _maps(self, reading: Reading, noise: Tensor) -> dict[str, Tensor]:
        bits = capacity(reading.share_logit, self._normalised(reading)).sum(1) * BITS
        return {"keep": 1.0 - torch.sigmoid(reading.share_logit).mean(1), "capacity": bits}

    def _task_terms(self, reading: Reading, local: Tensor, task: TaskLoss) -> Terms:
        output, clean = self.second_pass(reading, local), reading.recording.output
        return Terms(
            task=task(output, clean),
            capacity=capacity(reading.share_logit, self._normalised(reading).detach()).mean(),
            share=torch.sigmoid(reading.share_logit).mean(),
            clean_output=clean,
            noised_output=output,
        )

    def _normalised(self, reading: Reading) -> Tensor:
        return self.local_statistics.normalise(reading.recording.local)

    def _inject(self, local: Tensor, reading: Reading, noise: Tensor) -> Tensor:
        return inject(local, reading.share_logit, self.local_statistics, noise, self.noise, rectify=self.rectify)

    def _sample_noise(self, reading: Reading, ids: Sequence[int], samples: int, seed: int) -> Tensor:
        local = reading.recording.local
        if len(ids) != len(local):
            raise ValueError(f"{len(local)} images, but {len(ids)} ids")
        return image_noise(ids, seed, (samples, *local.shape[1:]), local.device).transpose(0, 1)

    def _representation(self, recording: Recording) -> Tensor:
        return recording.readouts[self.global_layer].mean((2, 3)) if self.global_layer else recording.output

    def _readouts(self) -> list[RunningStatistics]:
        return list(self.readout_statistics)  # type: ignore[arg-type]

    def _observe_more(self, recording: Recording, ids: Sequence[int]) -> None:
        """For what is built on this: more to learn from an observed batch."""


def prediction_loss(noised: Tensor, clean: Tensor) -> Tensor:
    """Cross-entropy of noised logits with the class predicted on the clean image: explains the model's decision."""
    return functional.cross_entropy(noised.float(), clean.detach().argmax(1))
