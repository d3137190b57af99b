"""Gradient and input × gradient: one forward and one backward pass an image."""

from torch import Tensor

from handful.attribution.job import Job, gradients
from handful.attribution.registry import register


def input_gradient(job: Job) -> Tensor:
    """∂score/∂image, `(N, T, C, H, W)`; the forward pass is also the one that finds the targets."""
    raw = job.empty(*job.images.shape[1:])

    def work(start: int, stop: int) -> None:
        images = job.images[start:stop].detach().requires_grad_()
        scores = job.observe(start, job.model(images))
        raw[start:stop] = gradients(scores, images)

    job.over_images(work)
    return raw


@register("gradient", reduction="max_abs")
def gradient(job: Job) -> Tensor:
    """Saliency (Simonyan et al. 2014, arXiv 1312.6034, section 3): ∂s/∂x; the map is the largest |∂s/∂x| by pixel."""
    return input_gradient(job)


@register("input_x_gradient", title="input × gradient", reduction="sum", signed=True)
def input_x_gradient(job: Job) -> Tensor:
    """Image × gradient, x · ∂s/∂x (Shrikumar et al. 2016, arXiv 1605.01713).

    In a linear model, the share of each value in the score.
    """
    return job.images[:, None] * input_gradient(job)
