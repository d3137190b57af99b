"""What a backbone's publisher does with pictures before the network sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handful.errors import UserError
from handful.images.placement import Framing
from handful.networks.build import IMAGENET_MEAN, IMAGENET_STD, NetworkConfig


@dataclass(frozen=True)
class InputConfig:
    """Normalisation and resizing of a network's images.

    Attributes:
        backbone: whose.
        mean: per channel, for pixels in [0, 1].
        std: per channel.
        framing: how its test images are resized and cropped; None where nobody says so.

    Example:
        >>> InputConfig("conv4").std
        (0.229, 0.224, 0.225)
    """

    backbone: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    framing: Framing | None = None


def input_config(network: NetworkConfig | Mapping[str, Any]) -> InputConfig:
    """Return what timm's data config says of a backbone; ImageNet's statistics for one that is not timm's.

    Raises:
        UserError: the tag behind the point is none of the model's.

    Example:
        >>> str(input_config({"backbone": "efficientnet_lite0"}).framing)
        'crop 0.875 bicubic'
    """
    backbone = NetworkConfig.of(network).backbone
    import timm
    from timm.data.config import resolve_data_config

    from handful.networks.published import published_config

    published = published_config(backbone) if timm.is_model(backbone.split(".")[0]) else None
    if published is None or published.mean is None:
        return InputConfig(backbone)
    found = resolve_data_config(pretrained_cfg=published.to_dict())
    kind = {"center": "crop", "squash": "squash"}.get(found["crop_mode"] or "center")
    framing = None if kind is None else Framing(kind, float(found["crop_pct"]), found["interpolation"])
    return InputConfig(backbone, tuple(published.mean), tuple(published.std), framing)


def publishers_framing(config: InputConfig) -> Framing:
    """Return the framing of a network's publisher.

    Raises:
        UserError: there is none.
    """
    if config.framing is None:
        raise UserError(f"data.fit and data.augmentation: timm says nothing of how images of {config.backbone} are "
                        "resized; choose others than timm")  # fmt: skip
    return config.framing


def input_statistics(
    network: NetworkConfig | Mapping[str, Any],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel, in [0, 1], that the backbone's own config asks for.

    Example:
        >>> input_statistics({"backbone": "conv4"})[0]
        (0.485, 0.456, 0.406)
    """
    found = input_config(network)
    return found.mean, found.std
