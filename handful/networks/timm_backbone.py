"""Any timm network with a spatial map, as a backbone that speaks NCHW."""

import difflib
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from handful.errors import UserError
from handful.networks.backbone_options import build_with_options, check_names, refuse_options
from handful.networks.layouts import GivenGrid, output_layout
from handful.networks.published import published_config, published_weights


class TimmBackbone(nn.Module):
    """`timm.create_model(name, num_classes=0)`, pooled by us.

    A network whose own head has a norm between pool and classifier (ConvNeXt, ViT) gets our plain linear head:
    the class score is then linear in the spatial mean for every backbone.

    Args:
        name: a timm model name, with a pretrained tag where weights are wanted (`resnet50.tv_in1k`).
        reduced_strides: stride 1 in the last two stages without dilation, as the reference implementation has
            it (ResNets only); the map grows by 4 in each direction.
        in_size: side, or height and width, of the images in pixels; the model's own size where it is fixed.
        grid: rows and columns of tokens of an image of `in_size`, for a network of tokens that does not declare
            them; other sizes get as many pixels per token.
        options: further keyword arguments of `timm.create_model`, such as `in_chans` or `dynamic_img_size`.

    Attributes:
        num_features: F.
        in_channels: channels of the images.

    Raises:
        UserError: an unknown name, or a network without a spatial map.
    """

    def __init__(
        self,
        name: str,
        reduced_strides: bool = False,
        in_size: int | tuple[int, int] | None = None,
        grid: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not timm.is_model(name.split(".")[0]):
            close = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3))
            raise UserError(f"backbone: timm knows no model {name!r}" + (f"; did you mean {close}?" if close else ""))
        check_names(name, options)
        config = published_config(name)
        meant = {}
        if in_size is not None and config is not None and config.fixed_input_size and "img_size" not in options:
            options["img_size"] = in_size  # transformers build their position grid for one size
            meant["img_size"] = "network.image_size"
        self.options = options
        with torch.inference_mode(False):  # the probe needs parameters that can have gradients
            create = partial(timm.create_model, name, pretrained=False, num_classes=0)
            self.net: Any = build_with_options(name, options, create, meant)
        self.name = name
        self.convolves = sum(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in self.net.modules()) > 1
        self.in_channels = int(options.get("in_chans", 3))
        if reduced_strides:
            reduce_strides(self.net, name)
        self.built_for = size = self._trial_size(in_size)
        self.given_grid = None if grid is None else GivenGrid(grid, size)
        self.num_features = self._probe(size)

    @property
    def _fixed(self) -> bool:
        return bool(self.net.pretrained_cfg.get("fixed_input_size", False))

    def _trial_size(self, in_size: int | tuple[int, int] | None) -> tuple[int, int]:
        """Height and width of the trial image: as built where the size is fixed, small where it is free."""
        own = tuple(self.net.pretrained_cfg.get("input_size", (3, 224, 224))[1:])
        asked = self.options.get("img_size", in_size)
        height, width = own if asked is None else (asked, asked) if isinstance(asked, int) else tuple(asked)
        if self._fixed:
            return int(height), int(width)
        return min(int(height), 96), min(int(width), 96)

    def _probe(self, size: tuple[int, int]) -> int:
        """One tiny forward and backward: the number of channels, and which parameters the maps depend on.

        Batch-norm statistics stay as they are. Parameters behind the maps (a norm before timm's own classifier) would
        never get a gradient, which data-parallel training refuses: they are frozen.
        """
        training = self.net.training
        self.net.eval()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                output = self._output(torch.zeros(1, self.in_channels, *size))
        except UserError:
            raise
        except (RuntimeError, IndexError) as error:
            raise UserError(
                f"backbone: {self.name} does not take {self.in_channels} × {size[0]} × {size[1]} images ({error})"
            ) from error
        except Exception as error:
            if not self.options:
                raise
            refuse_options(self.name, self.options, error)  # a value that only a forward pass reads
        finally:
            self.net.train(training)
        maps = self._maps(output, size)
        if maps[0, 0].numel() == 1 and not self._fixed and max(size) < 384:
            # one cell: too small a trial image, or a network that pools
            return self._probe((384, 384))
        if maps[0, 0].numel() == 1 and not self._fixed:
            raise UserError(_no_map(self.name, maps, size, self.given_grid))
        parameters = list(self.net.parameters())
        with torch.inference_mode(False), torch.enable_grad():
            gradients = torch.autograd.grad(maps.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        return int(maps.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` → feature maps `(B, F, h, w)`.

        Raises:
            UserError: the network does not take images of this size, or gives no maps for them.
        """
        return self._maps(self._output(images), (images.shape[2], images.shape[3]))

    def _output(self, images: Tensor) -> object:
        """What timm's network gives, before it is read as maps."""
        try:
            return self.net.forward_features(images)
        except (AssertionError, RuntimeError) as error:  # timm's check of the size that it was built for, or none
            if isinstance(error, RuntimeError) and (not self._fixed or tuple(images.shape[2:]) == self.built_for):
                raise
            raise UserError(
                f"backbone: {self.name} does not take {images.shape[2]} × {images.shape[3]} images ({error}); build it "
                "for them (network.image_size), or with network.options.dynamic_img_size=true where it has that option"
            ) from error

    def _maps(self, output: Any, size: tuple[int, int]) -> Tensor:
        """The output for images of this height and width as maps `(B, F, h, w)`."""
        layout = output_layout(output, size, self.net, self.given_grid)
        if layout is None:
            raise UserError(_no_map(self.name, output, size, self.given_grid))
        return layout.maps(output)

    def load_published(self) -> str:
        """Take the published weights of the model, from timm's cache, its hub, or an installed package.

        Returns:
            Where they come from, with their digest.

        Raises:
            UserError: the weights are not available.
        """
        state, source = published_weights(self.name, self.options)
        missing, unexpected = self.net.load_state_dict(state, strict=False)
        unknown = [*(key for key in missing if not key.endswith("num_batches_tracked")), *unexpected]
        if unknown:
            raise UserError(f"network.pretrained: weights of another network than {self.name}; see {unknown[0]!r}")
        return source


def _no_map(name: str, output: object, size: tuple[int, int], given: GivenGrid | None) -> str:
    """Why the output of a network is not a map, and what to do."""
    shape = str(tuple(output.shape)) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    image = f"{size[0]} × {size[1]} images"
    if isinstance(output, Tensor) and output.ndim == 3 and output.shape[1] > 2:
        tokens = f"backbone: {name} gives {output.shape[1]} tokens for {image}"
        if given is not None:
            rows, columns = given.of(size)
            return f"{tokens}, which network.grid {rows} × {columns} does not account for"
        return f"{tokens} and does not declare their rows and columns; give them with network.grid [ROWS, COLUMNS]"
    return (
        f"backbone: {name} has no spatial feature map (it gives {shape} for {image}), so no position in the image "
        "could be shown; choose a convolutional network, a Swin or a ViT"
    )


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
