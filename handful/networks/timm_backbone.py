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
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        if in_size is not None and config is not None and config.fixed_input_size:
            options.setdefault("img_size", in_size)  # transformers build their position grid for one size
        self.net: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
        self.name = name
        if reduced_strides:
            reduce_strides(self.net, name)
        self.layout, self.num_features = self._probe(in_size)

    def _probe(self, in_size: int | None) -> tuple[str, int]:
        """One tiny forward: layout and channels, without touching batch-norm statistics."""
        size = self.net.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
        fixed = self.net.pretrained_cfg.get("fixed_input_size", False)
        side = in_size or (size if fixed else min(size, 96))
        training = self.net.training
        self.net.eval()
        try:
            with torch.no_grad():
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


def pretrained_state(name: str) -> dict[str, Tensor]:
    """The published weights of timm's model `name`, from timm's hub or its cache.

    Raises:
        UserError: the hub cannot be reached, or the model has no published weights.
    """
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # the hub's client raises many kinds
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise UserError(
            f"network.pretrained: no weights of {name} could be had from timm's hub{offline}; "
            f"give a file instead: --network.pretrained PATH ({type(error).__name__})"
        ) from error
