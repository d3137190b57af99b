"""The InfoMax / information-bottleneck plug-in: how many bits each position carries, and how many the decision needs.

After a patent whose printed objective cannot be built; what is built, and where it departs:

* The denominator of its InfoNCE pairs locals with *their own* globals, so that it never exceeds 0 for any data.
  Here one global stands against the locals of other images (Deep InfoMax), plus the log of their number.
* The task loss must see the noised features, or nothing keeps the noise from taking over.
* ``p(y | x')`` is left open; here it is a head fitted by likelihood, whose bound may not be lowered by the head.
* The information about the output is no reason to leave the background clean *or* noised; the capacity of the
  noised features (Schulz et al. 2020) is, weighted by beta3. beta3 = 0 is the literal text.
* The text swaps the names of its two maps: *general* belongs to the clean features, *sufficient* to the noised.
* A lower bound minus an upper bound is negative; *redundant* is the difference of one head's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from handful.bottleneck.heads import BottleneckHead, CategoricalHead, GaussianHead, class_targets
from handful.bottleneck.infomax import Estimator, LocalGlobalCritic, ReferenceBank, infonce, jensen_shannon
from handful.bottleneck.noise_bottleneck import (
    BITS,
    NoiseBottleneck,
    Reading,
    TaskLoss,
    Terms,
    Weights,
    prediction_loss,
)
from handful.bottleneck.statistics import PrincipalCode
from handful.bottleneck.two_pass import Recording

HeadKind = Literal["categorical", "gaussian"]

BANK_ROWS_PER_IMAGE = 8

MAP_NAMES = ("general", "sufficient", "redundant", "general_head", "keep", "capacity")


class InfoMaxBottleneck(NoiseBottleneck):
    """The plug-in on a trained network.

    Which term trains what (all else gets no gradient):

    ========================== ========= ====== ==== ==================
    term                       infer net critic head base (if finetune)
    ========================== ========= ====== ==== ==================
    task loss, noised pass     yes       no     no   yes
    InfoMax, clean features    no        yes    no   yes
    misfit of head and prior   no        no     yes  no
    information of noised ones yes       no     no   no
    capacity                   yes       no     no   no
    ========================== ========= ====== ==== ==================

    Args:
        base: see `NoiseBottleneck`.
        head: ``"categorical"`` for class logits (bits of class information), ``"gaussian"`` for embeddings.
        units: length of the critic's encodings.
        hidden: hidden units of the head.
        components: principal components of the representation that the Gaussian head predicts.
        places: spatial positions per image that InfoMax and the head see in one step.
        bank_size: locals in the reference bank.
        estimator: objective of the critic; only ``"infonce"`` is a bound on the mutual information.
        learnt_prior: see the heads.
        bottleneck: arguments of `NoiseBottleneck`.

    Example:
        >>> from handful.networks import build_classifier
        >>> base = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
        >>> layers = [name for name, module in base.named_modules() if isinstance(module, nn.MaxPool2d)]
        >>> plugin = InfoMaxBottleneck(base, local_layer=layers[1], readout_layers=layers[1:], image_size=32)
        >>> plugin.observe(torch.rand(4, 3, 32, 32), ids=range(4))
        >>> plugin.finish_statistics()
        >>> sorted(plugin.maps(torch.rand(1, 3, 32, 32), ids=[0])) == sorted(MAP_NAMES)
        True
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        head: HeadKind = "categorical",
        units: int = 256,
        hidden: int = 128,
        components: int = 32,
        places: int = 64,
        bank_size: int = 4096,
        estimator: Estimator = "infonce",
        learnt_prior: bool = True,
        **bottleneck: Any,
    ) -> None:
        super().__init__(base, **bottleneck)
        self.places = places
        self.estimator = estimator
        self.critic = LocalGlobalCritic(self.local_features, self.global_features, units)
        self.bank = ReferenceBank(bank_size, self.local_features)
        self.code = PrincipalCode(self.global_features, components) if head == "gaussian" else None
        self.head: BottleneckHead
        if self.code is not None:
            self.head = GaussianHead(self.local_features, self.code.components, hidden, learnt_prior=learnt_prior)
        else:
            self.head = CategoricalHead(self.local_features, self.global_features, hidden, learnt_prior=learnt_prior)
        self._gathered: dict[int, tuple[Tensor, Tensor]] = {}

    def terms(self, images: Tensor, task: TaskLoss | None = None, *, share: float | None = None) -> Terms:
        """As `NoiseBottleneck.terms`, with those of InfoMax and the bottleneck head."""
        reading = self.read(images, share)
        noise = torch.randn_like(reading.recording.local)
        noised = self.noised(reading, noise)
        terms = self._task_terms(reading, noised, task or prediction_loss)
        places = torch.randperm(noised.shape[2] * noised.shape[3], device=images.device)[: self.places]

        clean = self._locals(reading.recording.local, places)
        scores = self.critic(clean, reading.representation)
        if len(images) == 1:  # the last, odd image of an epoch: nothing to compare it with
            terms.infomax = 0.0 * scores.mean()
        else:
            terms.infomax = (infonce(scores) if self.estimator == "infonce" else jensen_shannon(scores)).mean()

        # the bottleneck reads the base but never trains it
        if self.finetune:
            noised = self._inject(reading.recording.local.detach(), reading, noise)
        kept = self._locals(noised, places)
        targets = self._targets(reading)
        # fitted on clean features too: the redundant map compares both under this one head
        misfit = self.head.misfit(kept.detach(), targets) + self.head.misfit(clean.detach(), targets)
        terms.fit = misfit.mean() + self.head.prior_misfit(targets).mean()
        terms.compression = self.head.frozen_divergence(kept).mean()
        return terms

    def objective(self, terms: Terms, weights: Weights, warmup: float = 1.0) -> Tensor:
        """``task - beta1 infomax + fit + warmup (beta2 compression + beta3 capacity)``; `warmup` in [0, 1]."""
        assert terms.infomax is not None
        assert terms.fit is not None
        assert terms.compression is not None
        pressure = weights.beta2 * terms.compression + weights.beta3 * terms.capacity
        return terms.task - weights.beta1 * terms.infomax + terms.fit + warmup * pressure

    def finish_statistics(self) -> None:
        """Merge what all processes observed, and fill the reference bank."""
        super().finish_statistics()
        if self.code is not None:
            self.code.finish()
        gathered = self._gathered
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            parts: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, gathered)
            gathered = {identity: rows for part in parts for identity, rows in part.items()}
        # by id: the same bank whichever process saw which image
        rows = torch.cat([gathered[identity][0] for identity in sorted(gathered)])
        cells = torch.cat([gathered[identity][1] for identity in sorted(gathered)])
        size = len(self.bank.features)
        chosen = torch.arange(size) * len(rows) // size
        self.bank.features.copy_(self._normalise_rows(rows[chosen], cells[chosen]))
        self._gathered = {}

    def _observe_more(self, recording: Recording, ids: Sequence[int]) -> None:
        if self.code is not None:
            self.code.update(self._representation(recording))
        features = recording.local.flatten(2)
        for identity, image in zip(ids, features, strict=True):
            draw = torch.Generator().manual_seed(identity)
            cells = torch.randint(image.shape[1], (BANK_ROWS_PER_IMAGE,), generator=draw)
            self._gathered[int(identity)] = (image[:, cells.to(image.device)].T.float().cpu(), cells)

    def _normalise_rows(self, rows: Tensor, cells: Tensor) -> Tensor:
        mean, std = self.local_statistics.mean.cpu(), self.local_statistics.std.cpu()
        if mean.dim() > 1:  # one value per neuron
            mean, std = mean.flatten(1)[:, cells].T, std.flatten(1)[:, cells].T
        return ((rows - mean) / std).to(self.bank.features)

    def _locals(self, maps: Tensor, places: Tensor | None = None) -> Tensor:
        """Maps ``(B, C, H, W)`` -> normalised locals ``(B, places or H W, C)``."""
        features = self.local_statistics.normalise(maps).flatten(2)
        return (features if places is None else features[:, :, places]).transpose(1, 2)

    def _targets(self, reading: Reading) -> Tensor:
        if self.code is not None:
            return self.code(self._representation(reading.recording).detach().float())
        return class_targets(reading.recording.output)

    def _maps(self, reading: Reading, noise: Tensor) -> dict[str, Tensor]:
        local = reading.recording.local
        shape = (len(local), *local.shape[2:])
        clean = self._locals(local)
        general = self.bank.pointwise(self.critic, clean, reading.representation)
        general_head = self.head.divergence(clean)
        sufficient = torch.stack(
            [self.head.divergence(self._locals(self.noised(reading, draw))) for draw in noise]
        ).mean(0)
        maps = {
            "general": general,
            "sufficient": sufficient,
            "redundant": general_head - sufficient,
            "general_head": general_head,
        }
        bits = {name: value.view(shape) * BITS for name, value in maps.items()}
        return {**bits, **super()._maps(reading, noise)}
