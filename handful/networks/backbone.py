"""Backbones by name, and what every backbone must give, checked in one place."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from handful.errors import UserError
from handful.networks.memory_format import for_convolutions

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])

_FACTORIES: dict[str, Callable[..., nn.Module]] = {}


def register_backbone(name: str) -> Callable[[Factory], Factory]:
    """Register the decorated class or function, `network.options` → backbone, under a name for `network.backbone`.

    Raises:
        ValueError: another backbone has this name already.

    Example:
        >>> @register_backbone("pixels_example")
        ... def pixels(stride: int = 4) -> nn.Module:
        ...     net = nn.Conv2d(3, 8, stride, stride=stride)
        ...     net.num_features = 8
        ...     return net
        >>> from handful.networks import build_classifier
        >>> build_classifier({"backbone": "pixels_example", "options": {"stride": 2}}, 3).num_features
        8
    """

    def decorate(factory: Factory) -> Factory:
        if _FACTORIES.setdefault(name, factory) is not factory:
            raise ValueError(f"a backbone {name!r} is registered already")
        return factory

    return decorate


def registered_backbones() -> dict[str, Callable[..., nn.Module]]:
    """Name → factory of the backbones that are not timm's."""
    return dict(_FACTORIES)


def feature_maps(backbone: nn.Module, images: Tensor) -> Tensor:
    """Images `(B, C, H, W)` → the backbone's feature maps `(B, F, h, w)`.

    Args:
        backbone: may declare `num_features` = F and `in_channels` = C, which are compared; and `convolves`, that it
            consists of convolutions, which are given the order in memory that they are fast in.
        images: floating point, normalised.

    Raises:
        UserError: the images are no such batch, or the backbone gives anything but maps of F channels.
    """
    if not images.is_floating_point() or images.ndim != 4:
        raise UserError(f"images must be floating point (B, C, H, W), not {tuple(images.shape)} {images.dtype}")
    channels = getattr(backbone, "in_channels", None)
    if isinstance(channels, int) and images.shape[1] != channels:
        raise UserError(
            f"the backbone takes images of {channels} channels, not {images.shape[1]}; build it for them "
            f"(network.options.in_chans={images.shape[1]})"
        )
    if getattr(backbone, "convolves", False):
        images = for_convolutions(images)
    maps: object = backbone(images)
    name = type(backbone).__name__
    if not isinstance(maps, Tensor):
        raise UserError(f"the backbone {name} gives a {type(maps).__name__}, not feature maps (B, F, h, w)")
    if maps.ndim != 4 or 0 in maps.shape[1:] or maps.shape[0] != images.shape[0] or not maps.is_floating_point():
        raise UserError(
            f"the backbone {name} gives {tuple(maps.shape)} {maps.dtype} for images {tuple(images.shape)}, not feature "
            "maps (B, F, h, w): without a spatial map no position in the image can be shown"
        )
    features = getattr(backbone, "num_features", None)
    if isinstance(features, int) and maps.shape[1] != features:
        hint = "; it seems to give channels last (NHWC)" if maps.shape[3] == features else ""
        raise UserError(f"the backbone {name} gives maps {tuple(maps.shape)}, but its num_features is {features}{hint}")
    return maps


def num_features(backbone: nn.Module) -> int:
    """F, the number of feature maps that a backbone declares.

    Raises:
        UserError: it declares none.
    """
    features = getattr(backbone, "num_features", None)
    if not isinstance(features, int) or features < 1:
        raise UserError(f"the backbone {type(backbone).__name__} must have num_features, the number of its maps")
    return features
