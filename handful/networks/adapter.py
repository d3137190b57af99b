"""A small network behind a backbone that is not trained: the same function of the maps at every position."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.conversions import check_real, check_whole
from handful.errors import UserError
from handful.networks.backbone import feature_maps, num_features

#: The largest number of half precision, in which maps are stored.
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class AdapterConfig:
    """An adapter in plain values.

    Attributes:
        features: feature maps that it gives.
        hidden: units of the layers between.
        layers: linear layers, from 1.
        dropout: probability in [0, 1) of dropping a unit between them.

    Example:
        >>> AdapterConfig.of({"features": 64}).hidden
        512
    """

    features: int = 256
    hidden: int = 512
    layers: int = 2
    dropout: float = 0.1

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "AdapterConfig":
        """Read a mapping.

        Raises:
            UserError: no mapping, an unknown key, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise UserError(f"network.adapter: a mapping of {', '.join(known)}, not {value!r:.60}")
        unknown = sorted(map(str, set(value) - set(known)))
        if unknown:
            raise UserError(f"network.adapter: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        config = cls(**value)
        for name in ("features", "hidden", "layers"):
            check_whole(f"network.adapter.{name}", getattr(config, name), 1)
        check_real("network.adapter.dropout", config.dropout, 0, 1, open_above=True)
        return config

    def plain(self) -> dict[str, Any]:
        """The config as a dictionary of plain values."""
        return asdict(self)


class Adapter(nn.Module):
    """Linear layers with GELU between them at every position, after a layer norm; what they give is not negative.

    Args:
        num_features: F of the maps that come in.
        config: sizes.

    Source: DINO-QPM (CVPR workshops 2026), whose adapter has four layers of 2,048 units and gives 512 features.

    Example:
        >>> Adapter(8, AdapterConfig(features=3, hidden=4)).eval()(torch.rand(2, 8, 5, 5)).shape
        torch.Size([2, 3, 5, 5])
    """

    def __init__(self, num_features: int, config: AdapterConfig) -> None:
        super().__init__()
        widths = [num_features, *[config.hidden] * (config.layers - 1), config.features]
        parts: list[nn.Module] = [nn.LayerNorm(num_features)]
        for place, (before, after) in enumerate(pairwise(widths)):
            parts += [nn.GELU(), nn.Dropout(config.dropout)] if place else []
            parts.append(nn.Linear(before, after))
        self.layers = nn.Sequential(*parts)
        self.num_features = config.features

    def forward(self, maps: Tensor) -> Tensor:
        """Maps `(B, F, h, w)` → maps `(B, features, h, w)`, at least 0."""
        found: Tensor = self.layers(maps.permute(0, 2, 3, 1))
        return functional.relu(found).permute(0, 3, 1, 2)


class AdaptedBackbone(nn.Module):
    """A backbone and an adapter behind it, as one backbone.

    The adapter sees the maps in half precision, as they are stored for a frozen backbone: what is computed from stored
    maps is what is computed from the images.

    Args:
        inner: the backbone.
        config: sizes of the adapter.

    Attributes:
        num_features: of the adapter.

    Example:
        >>> from handful.networks.build import build_backbone
        >>> network = {"backbone": "conv4", "options": {"width": 4}, "adapter": {"features": 6}}
        >>> backbone = build_backbone(network).eval()
        >>> backbone(torch.rand(1, 3, 32, 32)).shape, backbone.inner.num_features
        (torch.Size([1, 6, 2, 2]), 4)
    """

    def __init__(self, inner: nn.Module, config: AdapterConfig) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = Adapter(num_features(inner), config)
        self.num_features = config.features
        channels = getattr(inner, "in_channels", None)
        if channels is not None:
            self.in_channels = channels

    def adapt(self, maps: Tensor) -> Tensor:
        """The backbone's own maps `(B, F, h, w)`, of any precision → the adapter's `(B, features, h, w)`."""
        halved = maps.clamp(-_LARGEST, _LARGEST).half()
        found: Tensor = self.adapter(halved.to(next(self.adapter.parameters()).dtype))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → the adapter's maps `(B, features, h, w)`."""
        return self.adapt(feature_maps(self.inner, images))


def without_adapter(backbone: nn.Module) -> nn.Module:
    """The backbone itself, which has published weights and may be frozen.

    Example:
        >>> from handful.networks.build import build_backbone
        >>> plain = build_backbone({"backbone": "conv4"})
        >>> without_adapter(plain) is plain
        True
    """
    return backbone.inner if isinstance(backbone, AdaptedBackbone) else backbone
