"""Any timm network with a spatial map, as a backbone that speaks NCHW."""

import difflib
import os
from typing import Any

import timm
import torch
from torch import Tensor, nn

from handful.errors import UserError


def _layout(net: nn.Module, maps: Tensor) -> str:
    """Which of timm's layouts `forward_features` answers in: `NCHW`, `NHWC` or `tokens`."""
    if maps.dim() == 4:
        return "NHWC" if str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC") else "NCHW"
    if maps.dim() == 3 and _grid(net) is not None:
        return "tokens"
    return "none"


def _grid(net: nn.Module) -> tuple[int, int] | None:
    """Rows and columns of a token network's patches; timm keeps them in `patch_embed`, mixers in `stem`."""
    for name in ("patch_embed", "stem"):
        grid = getattr(getattr(net, name, None), "grid_size", None)
        if grid is not None:
            return int(grid[0]), int(grid[1])
    return None


class TimmBackbone(nn.Module):
    """`timm.create_model(name, num_classes=0)`, pooled by us.

    A network whose own head has a norm between pool and classifier (ConvNeXt, ViT) gets our plain linear head:
    the class score is then linear in the spatial mean for every backbone.

    Args:
        name: a timm model name, with a pretrained tag where weights are wanted (`resnet50.tv_in1k`).
        reduced_strides: stride 1 in the last two stages without dilation, as the reference implementation has
            it (ResNets only); the map grows by 4 in each direction.
        in_size: side of a trial image in pixels; the model's own size where it is fixed.
        options: further keyword arguments of `timm.create_model`.

    Raises:
        UserError: an unknown name, or a network without a spatial map.
    """

    def __init__(
        self, name: str, reduced_strides: bool = False, in_size: int | None = None, **options: Any
    ) -> None:
        super().__init__()
        if not timm.is_model(name.split(".")[0]):
            close = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3))
            raise UserError(f"backbone: timm knows no model {name!r}" + (f"; did you mean {close}?" if close else ""))
        config = published_config(name)
        if in_size is not None and config is not None and config.fixed_input_size:
            options.setdefault("img_size", in_size)  # transformers build their position grid for one size
        self.options = options
        try:
            self.net: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
        except (TypeError, RuntimeError, AssertionError) as error:
            raise UserError(f"network: {name} cannot be built with options {options or 'none'} ({error})") from error
        self.name = name
        if reduced_strides:
            reduce_strides(self.net, name)
        self.layout, self.num_features = self._probe(in_size)

    def _probe(self, in_size: int | None) -> tuple[str, int]:
        """One tiny forward and backward: layout, channels, and which parameters the maps depend on.

        Batch-norm statistics stay as they are. Parameters behind the maps (a norm before timm's own classifier) would
        never get a gradient, which data-parallel training refuses: they are frozen.
        """
        size = self.net.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
        fixed = self.net.pretrained_cfg.get("fixed_input_size", False)
        side = (in_size or size) if fixed else min(in_size or size, 96)
        training = self.net.training
        self.net.eval()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                maps = self.net.forward_features(torch.zeros(1, 3, side, side))
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"backbone: {self.name} does not take {side}×{side} images ({error})") from error
        finally:
            self.net.train(training)
        layout = _layout(self.net, maps) if isinstance(maps, Tensor) else "none"
        if layout == "none":
            raise UserError(
                f"backbone: {self.name} has no spatial feature map, so no place in the picture could be shown; "
                "choose a convolutional network, a Swin or a ViT"
            )
        parameters = list(self.net.parameters())
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(maps.sum(), parameters, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(gradient is not None)
        return layout, int(maps.shape[{"NCHW": 1, "NHWC": 3, "tokens": 2}[layout]])

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → feature maps `(B, F, h, w)`."""
        maps: Tensor = self.net.forward_features(images)
        if self.layout == "NHWC":
            return maps.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            maps = maps[:, getattr(self.net, "num_prefix_tokens", 0) :]
            return maps.transpose(1, 2).unflatten(2, _grid(self.net))
        return maps

    def load_published(self) -> None:
        """Take the published weights of the model, from timm's hub or its cache.

        Raises:
            UserError: the hub cannot be reached, or the model has no published weights.
        """
        try:
            published = timm.create_model(self.name, pretrained=True, num_classes=0, **self.options)
        except Exception as error:  # the hub's client raises many kinds
            offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
            raise UserError(
                f"network.pretrained: no weights of {self.name} could be had from timm's hub{offline}; "
                f"give a file instead: --network.pretrained PATH ({type(error).__name__})"
            ) from error
        self.net.load_state_dict(published.state_dict())


def published_config(name: str) -> Any:
    """What timm says of a model's published weights: sizes, mean, std; None for a model without any.

    Raises:
        UserError: the tag behind the point is none of the model's.
    """
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        raise UserError(f"network: {name} cannot be built ({error})") from error


def reduce_strides(net: nn.Module, name: str) -> None:
    """Stride 1 in the last two stages, without dilation, as the reference implementation of SLDD has it.

    timm's `output_stride` gives maps of the same size, but dilates: another function of the same weights.

    Raises:
        UserError: the network has no `layer3` and `layer4` whose first block carries the stride.
    """
    for stage in ("layer3", "layer4"):
        blocks = getattr(net, stage, None)
        if not isinstance(blocks, nn.Sequential):
            raise UserError(f"reduced_strides: {name} has no {stage}; only ResNets offer it")
        for module in blocks[0].modules():
            if isinstance(module, nn.Conv2d | nn.AvgPool2d) and module.stride not in (1, (1, 1)):
                if isinstance(module, nn.AvgPool2d):
                    module.kernel_size = module.stride = 1
                else:
                    module.stride = (1, 1)
