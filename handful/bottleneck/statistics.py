"""Mean and spread of features: gathered batch by batch, merged over processes, kept in the checkpoint."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class RunningStatistics(nn.Module):
    """Mean and standard deviation of a stream of features, in float64.

    Batches are merged by the pairwise formula of Chan, Golub and LeVeque (1983), which loses no digits however
    long the stream and makes the order of batches and the number of processes irrelevant but for rounding.

    Args:
        shape: shape of one sample's statistics: ``(C,)`` for one value per channel (all positions pooled),
            ``(C, H, W)`` for one value per neuron.
        min_std: floor of the standard deviation, so that dead channels do not blow up when normalised.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    lowest: Tensor

    def __init__(self, shape: tuple[int, ...], min_std: float = 1e-2) -> None:
        super().__init__()
        self.min_std = min_std
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("lowest", torch.full((), torch.inf, dtype=torch.float64))

    @property
    def ready(self) -> bool:
        """Whether any sample has been seen."""
        return bool(self.count > 0)

    @property
    def std(self) -> Tensor:
        """Standard deviation (population), not below `min_std`; float64, of `shape`."""
        return (self.squares / self.count.clamp_min(1.0)).sqrt().clamp_min(self.min_std)

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Take in a batch: ``(B, *shape)`` or, for per-channel statistics, ``(B, C, ...)``."""
        samples = features.detach().to(torch.float64)
        if self.mean.dim() == 1 and samples.dim() > 2:
            samples = samples.transpose(0, 1).flatten(1).transpose(0, 1)
        if samples.shape[1:] != self.mean.shape:
            raise ValueError(f"features of shape {tuple(features.shape)} do not fit statistics of shape "
                             f"{tuple(self.mean.shape)}")  # fmt: skip
        if not len(samples):
            return
        mean = samples.mean(0)
        count = torch.tensor(float(len(samples)), dtype=torch.float64, device=samples.device)
        self._merge(count, mean, (samples - mean).square().sum(0), samples.min())

    @torch.no_grad()
    def synchronise(self) -> None:
        """Merge what all processes have seen; afterwards every process holds the same values."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return
        packed = torch.cat([self.count[None], self.lowest[None], self.mean.flatten(), self.squares.flatten()])
        gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, packed)
        self.reset()
        for part in gathered:  # in the order of ranks, hence the same rounding everywhere
            mean, squares = part[2:].chunk(2)
            self._merge(part[0], mean.view_as(self.mean), squares.view_as(self.squares), part[1])

    def reset(self) -> None:
        """Forget everything seen."""
        self.count.zero_()
        self.mean.zero_()
        self.squares.zero_()
        self.lowest.fill_(torch.inf)

    def normalise(self, features: Tensor) -> Tensor:
        """``(features - mean) / std``, in the features' own type."""
        mean, std = self._like(features)
        return (features - mean) / std

    def restore(self, normalised: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        mean, std = self._like(normalised)
        return normalised * std + mean

    def _like(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.mean.to(features.dtype), self.std.to(features.dtype)
        if mean.dim() == 1:
            shape = (-1, *[1] * (features.dim() - 2))
            mean, std = mean.view(shape), std.view(shape)
        return mean, std

    def _merge(self, count: Tensor, mean: Tensor, squares: Tensor, lowest: Tensor) -> None:
        total = self.count + count
        if total == 0:
            return
        delta = mean - self.mean
        self.squares += squares + delta.square() * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count.copy_(total)
        self.lowest.copy_(torch.minimum(self.lowest, lowest))


class PrincipalCode(nn.Module):
    """Standardised principal components of a stream of vectors: the code a Gaussian head predicts.

    Args:
        features: length ``D`` of the vectors.
        components: how many components are kept; at most ``D``.
        min_std: floor of a component's standard deviation.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, features: int, components: int = 32, min_std: float = 1e-2) -> None:
        super().__init__()
        self.min_std = min_std
        kept = min(components, features)
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("basis", torch.zeros(kept, features, dtype=torch.float64))
        # needed while gathering only: D x D numbers belong in no checkpoint
        self._count: Tensor | None = None
        self._scatter: Tensor | None = None

    @property
    def components(self) -> int:
        """Number of components."""
        return self.basis.shape[0]

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Take in a batch ``(B, D)``."""
        samples = vectors.detach().to(torch.float64)
        if len(samples):
            mean = samples.mean(0)
            self._merge(samples.new_tensor(float(len(samples))), mean, (samples - mean).T @ (samples - mean))

    @torch.no_grad()
    def finish(self) -> None:
        """Merge over processes, find the components, let go of what was gathered."""
        features = self.mean.shape[0]
        count, scatter = self._state()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            packed = torch.cat([count[None], self.mean, scatter.flatten()])
            gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, packed)
            self._count = self._scatter = None
            self.mean.zero_()
            for part in gathered:
                self._merge(part[0], part[1 : 1 + features], part[1 + features :].view(features, features))
            count, scatter = self._state()
        # on the CPU whatever the device: solvers differ in the signs of eigenvectors and the order of ties
        values, vectors = torch.linalg.eigh((scatter / count.clamp_min(1.0)).cpu())
        values, vectors = values.flip(0)[: self.components], vectors.flip(1)[:, : self.components]
        signs = torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
        std = values.clamp_min(0.0).sqrt().clamp_min(self.min_std)
        self.basis.copy_((vectors * signs / std).T)
        self._count = self._scatter = None

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors ``(B, D)`` -> standardised components ``(B, components)``."""
        return (vectors - self.mean.to(vectors.dtype)) @ self.basis.to(vectors.dtype).T

    def _state(self) -> tuple[Tensor, Tensor]:
        features = self.mean.shape[0]
        count = self.mean.new_zeros(()) if self._count is None else self._count
        scatter = self.mean.new_zeros(features, features) if self._scatter is None else self._scatter
        return count, scatter

    def _merge(self, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
        seen, spread = self._state()
        total = seen + count
        if total == 0:
            return
        delta = mean - self.mean
        self._scatter = spread + scatter + torch.outer(delta, delta) * (seen * count / total)
        self.mean += delta * (count / total)
        self._count = total
