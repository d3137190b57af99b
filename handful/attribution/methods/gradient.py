"""Gradient and input × gradient: one forward and one backward pass per image."""

from torch import Tensor

from handful.attribution.context import AttributionContext, gradients
from handful.attribution.registry import register


def input_gradient(context: AttributionContext) -> Tensor:
    """∂score/∂image, `(N, T, C, H, W)`; the forward pass is also the one that finds the targets."""
    raw = context.empty(*context.images.shape[1:])

    def work(start: int, stop: int) -> None:
        images = context.images[start:stop].detach().requires_grad_()
        scores = context.observe(start, context.logits(images))
        raw[start:stop] = gradients(scores, images)

    context.over_images(work)
    return raw


@register("gradient", reduction="max_abs")
def gradient(context: AttributionContext) -> Tensor:
    """Saliency (Simonyan et al. 2014, arXiv 1312.6034, section 3): ∂s/∂x; the map is the largest |∂s/∂x| by pixel."""
    return input_gradient(context)


@register("input_x_gradient", title="input × gradient", reduction="sum", signed=True)
def input_x_gradient(context: AttributionContext) -> Tensor:
    """Image × gradient, x · ∂s/∂x (Shrikumar et al. 2016, arXiv 1605.01713).

    In a linear model, the share of each value in the score.
    """
    return context.images[:, None] * input_gradient(context)
