"""From a few plain values to a classifier."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from inspect import signature
from typing import Any

from torch import nn

from handful.errors import UserError
from handful.networks.adapter import AdaptedBackbone, AdapterConfig
from handful.networks.backbone import num_features, register_backbone, registered_backbones
from handful.networks.backbone_options import check_names, is_side, reason
from handful.networks.cifar_resnet import DEPTHS, CifarResNet
from handful.networks.classifier import Classifier
from handful.networks.conv4 import Conv4
from handful.networks.heads import DenseHead

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

register_backbone("conv4")(Conv4)
for _depth in DEPTHS:
    register_backbone(f"cifar_resnet{_depth}")(partial(CifarResNet, _depth))


@dataclass
class NetworkConfig:
    """A network in plain values, as it stands in configs and checkpoints.

    Attributes:
        backbone: `cifar_resnet20|32|44|56|110`, `conv4`, any timm model with a spatial map, or a registered name
            (`register_backbone`).
        pretrained: False, a file of weights, or True for the published ones (name the tag: `resnet50.tv_in1k`), see
            `handful.networks.published`. Only the phase that starts a run reads it.
        reduced_strides: stride 1 in the last two stages, without dilation (ResNets of timm).
        dropout: probability in [0, 1) of dropping a pooled feature before the dense head.
        image_size: side of the images in pixels, or [height, width], for backbones that must know it (ViT, Swin).
        grid: [rows, columns] of tokens of an image of that size, for a network of tokens that does not declare them.
        options: further keyword arguments of the backbone (`drop_path_rate` and the like).
        adapter: sizes of a small network behind the backbone (`features`, `hidden`, `layers`, `dropout`, see
            `handful.networks.adapter`), `{}` for its defaults; none where None.

    Example:
        >>> NetworkConfig.of({"backbone": "conv4", "options": {"width": 4}}).dropout
        0.2
    """

    backbone: str = "resnet50"
    pretrained: bool | str = False
    reduced_strides: bool = False
    dropout: float = 0.2
    image_size: int | list[int] | None = None
    grid: list[int] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] | None = None

    @classmethod
    def of(cls, value: "NetworkConfig | Mapping[str, Any]") -> "NetworkConfig":
        """Return a config unchanged, or build one from a mapping.

        Raises:
            UserError: no mapping, or it has a key that is none of ours.
        """
        if isinstance(value, NetworkConfig):
            value = value.plain()
        if not isinstance(value, Mapping):
            raise UserError(f"network: a mapping of {', '.join(f.name for f in fields(cls))}, not {value!r:.60}")
        known = {f.name for f in fields(cls)}
        unknown = sorted(map(str, set(value) - known))
        if unknown:
            raise UserError(f"network: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        config = cls(**value)
        _check(config)
        if config.image_size is not None and not isinstance(config.image_size, int):
            config.image_size = _pair("image_size", config.image_size)
        if config.grid is not None:
            config.grid = _pair("grid", config.grid)
        return config

    def plain(self) -> dict[str, Any]:
        """The config as a dictionary of plain values."""
        return asdict(self)


def _check(config: NetworkConfig) -> None:
    """Refuse values of other types than the annotations say: a config or a checkpoint may hold anything."""
    if not isinstance(config.backbone, str):
        raise UserError(f"network.backbone: a name, not {config.backbone!r:.80}")
    if not isinstance(config.pretrained, bool | str):
        raise UserError(f"network.pretrained: true, false or a file, not {config.pretrained!r:.80}")
    if not isinstance(config.reduced_strides, bool):
        raise UserError(f"network.reduced_strides: true or false, not {config.reduced_strides!r:.80}")
    if not isinstance(config.dropout, int | float) or not 0 <= config.dropout < 1:
        raise UserError(f"network.dropout: a probability in [0, 1), not {config.dropout!r:.80}")
    if not isinstance(config.options, Mapping):
        raise UserError(f"network.options: names with their values, not {config.options!r:.80}")
    if config.adapter is not None:
        AdapterConfig.of(config.adapter)
    if isinstance(config.image_size, int) and not is_side(config.image_size):
        raise UserError(f"network.image_size: a side in pixels, or [height, width], not {config.image_size!r:.80}")


def _pair(name: str, given: Any) -> list[int]:
    values = list(given) if isinstance(given, Sequence) else []
    if len(values) != 2 or not all(map(is_side, values)):
        raise UserError(f"network.{name}: two whole numbers from 1, not {given!r:.80}")
    return values


def build_backbone(network: NetworkConfig | Mapping[str, Any]) -> nn.Module:
    """A backbone with fresh weights; nothing is downloaded.

    Raises:
        UserError: an unknown backbone, or one without a spatial map.
    """
    network = NetworkConfig.of(network)
    backbone = _build_without_adapter(network)
    return backbone if network.adapter is None else AdaptedBackbone(backbone, AdapterConfig.of(network.adapter))


def _build_without_adapter(network: NetworkConfig) -> nn.Module:
    factory = registered_backbones().get(network.backbone)
    if factory is not None:
        return _build_registered(network, factory)
    if network.backbone.startswith("cifar_resnet"):
        known = ", ".join(f"cifar_resnet{depth}" for depth in DEPTHS)
        raise UserError(f"network.backbone: no {network.backbone!r}; there are {known}")
    check_names(network.backbone, network.options)
    from handful.networks.timm_backbone import TimmBackbone  # timm takes seconds to import

    return TimmBackbone(
        network.backbone,
        network.reduced_strides,
        network.image_size if network.image_size is None or isinstance(network.image_size, int)
        else (network.image_size[0], network.image_size[1]),
        None if network.grid is None else (network.grid[0], network.grid[1]),
        **network.options,
    )  # fmt: skip


def _build_registered(network: NetworkConfig, build: Callable[..., nn.Module]) -> nn.Module:
    """A backbone that is not timm's, from `network.options`."""
    if network.reduced_strides:
        raise UserError("network.reduced_strides: only timm's ResNets offer it")
    if network.grid is not None:
        raise UserError(f"network.grid: {network.backbone} gives maps and no tokens")
    try:
        return build(**network.options)
    except TypeError as error:
        takes = ", ".join(signature(build).parameters) or "nothing"
        raise UserError(f"network.options: {network.backbone} takes {takes} only ({reason(error)})") from error
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"network.options: {network.backbone} cannot be built ({reason(error)})") from error


def build_classifier(network: NetworkConfig | Mapping[str, Any], num_classes: int) -> Classifier:
    """A backbone and a dense head with fresh weights; nothing is downloaded.

    Args:
        network: the network in plain values.
        num_classes: C, at least 2.

    Raises:
        UserError: an unknown backbone, one without a spatial map, or fewer than two classes.

    Example:
        >>> import torch
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
        >>> model.feature_maps(torch.zeros(1, 3, 32, 32)).shape, model(torch.zeros(1, 3, 32, 32)).shape
        (torch.Size([1, 4, 2, 2]), torch.Size([1, 3]))
    """
    if num_classes < 2:
        raise UserError(f"a classifier needs at least two classes; got {num_classes}")
    network = NetworkConfig.of(network)
    backbone = build_backbone(network)
    classifier = Classifier(backbone, DenseHead(num_features(backbone), num_classes, network.dropout))
    classifier.network = network
    return classifier
