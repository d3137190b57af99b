"""Maps in bits of the InfoMax / information-bottleneck plug-in; the model must be one, trained."""

import torch
from torch import Tensor

from handful.attribution.context import AttributionContext
from handful.attribution.registry import register
from handful.bottleneck import InfoMaxBottleneck, InformedClassifier, NoiseBottleneck, per_sample_maps
from handful.errors import UserError


def _plugin(context: AttributionContext, name: str) -> NoiseBottleneck:
    model = context.model.plugin if isinstance(context.model, InformedClassifier) else context.model
    wanted = NoiseBottleneck if name in ("keep", "capacity", "iba") else InfoMaxBottleneck
    if not isinstance(model, wanted):
        raise UserError(
            f"method {name} needs a network with a trained plug-in (the phase of an InfoMaxPlugin), and "
            f"{type(context.model).__name__} has none"
        )
    if not model.local_statistics.ready:
        raise UserError(f"method {name}: the plug-in has not been trained yet")
    return model


def _ids(context: AttributionContext, start: int, stop: int) -> list[int]:
    return [context.generator(image).initial_seed() for image in range(start, stop)]


def _draw(context: AttributionContext, name: str, samples: int) -> Tensor:
    """One of the plug-in's maps `(N, T, h, w)`; it explains the network's decision, hence the same for every target."""
    plugin = _plugin(context, name)
    parts: dict[int, Tensor] = {}

    @torch.no_grad()
    def work(start: int, stop: int) -> None:
        images = context.images[start:stop]
        maps = plugin.maps(images, _ids(context, start, stop), samples=samples, seed=context.seed, resize=False)
        parts[start] = maps[name]

    context.over_images(work)
    context.clean_logits()
    context.notes["layer"] = plugin.local_layer
    found = torch.cat([parts[start] for start in sorted(parts)])
    return found[:, None].expand(-1, context.targets.count, -1, -1).contiguous()


@register("general", title="General information (bits)", signed=True)
def general(context: AttributionContext) -> Tensor:
    """Pointwise mutual information of the clean position and the network's output, in bits: a lower bound (InfoNCE)."""
    return _draw(context, "general", 1)


@register("general_head", title="General information, head (bits)")
def general_head(context: AttributionContext) -> Tensor:
    """Information of the clean position about the output, in bits, by the head that also gives `sufficient`."""
    return _draw(context, "general_head", 1)


@register("sufficient", title="Sufficient information (bits)")
def sufficient(context: AttributionContext, samples: int = 8) -> Tensor:
    """Information of a position about the output under the noise that the decision bears, in bits: an upper bound.

    Args:
        context: the images and targets.
        samples: draws of noise averaged.
    """
    return _draw(context, "sufficient", samples)


@register("redundant", title="Redundant information (bits)", signed=True)
def redundant(context: AttributionContext, samples: int = 8) -> Tensor:
    """Information of the clean position beyond `sufficient`, in bits, by the same head.

    Args:
        context: the images and targets.
        samples: draws of noise averaged.
    """
    return _draw(context, "redundant", samples)


@register("keep", title="Kept share")
def keep(context: AttributionContext) -> Tensor:
    """Share of each position's features that is not noise, in [0, 1]."""
    return _draw(context, "keep", 1)


@register("capacity", title="Capacity (bits)")
def capacity(context: AttributionContext) -> Tensor:
    """Bits that the noised features of a position carry about the clean ones, as in IBA's readout bottleneck."""
    return _draw(context, "capacity", 1)


@register("iba", title="IBA per sample (bits)")
def iba(
    context: AttributionContext, beta: float = 10.0, steps: int = 10, copies: int = 10, smoothing: float = 1.0
) -> Tensor:
    """Information bottleneck fitted to each image and target (Schulz et al. 2020), with the plug-in's statistics.

    Args:
        context: the images and targets.
        beta: weight of the mean capacity of an element.
        steps: steps of Adam, with learning rate 1.
        copies: noised copies per image and step.
        smoothing: blur of the noise logits, in cells.
    """
    plugin = _plugin(context, "iba")
    context.clean_logits()
    parts: dict[tuple[int, int], Tensor] = {}

    def work(start: int, stop: int) -> None:
        images = context.images[start:stop]
        classes = context.targets.of(torch.arange(start, stop), images.device)
        for t in range(context.targets.count):
            parts[start, t] = per_sample_maps(
                plugin, images, classes[:, t], _ids(context, start, stop), beta=beta, steps=steps, copies=copies,
                smoothing=smoothing, seed=context.seed, resize=False,
            )  # fmt: skip

    context.over_images(work)
    context.notes["layer"] = plugin.local_layer
    starts = sorted({start for start, _ in parts})
    columns = [torch.cat([parts[start, t] for start in starts]) for t in range(context.targets.count)]
    return torch.stack(columns, dim=1)
