"""CAM and Grad-CAM: where on the feature maps a class comes from."""

import torch
from torch import Tensor, nn

from handful.attribution.job import Job, gradients
from handful.attribution.layers import cut_at, find_layer, last_maps_layer
from handful.attribution.registry import register
from handful.errors import UserError
from handful.networks.classifier import Classifier


def class_weights(model: nn.Module, what: str = "this method") -> tuple[Classifier, Tensor, Tensor]:
    """The model, its weights `(C, F)` and bias `(C,)` over the pooled feature maps.

    Raises:
        UserError: the model does not pool its feature maps into one linear layer.
    """
    head = getattr(model, "head", None)
    if not isinstance(model, Classifier) or not hasattr(head, "class_weights"):
        raise UserError(
            f"{what} needs a model that pools its feature maps into one linear layer, and "
            f"{type(model).__name__} is not known to"
        )
    weights, bias = head.class_weights()  # type: ignore[union-attr]
    return model, weights, bias


@register("cam", title="CAM", signed=True)
def cam(job: Job) -> Tensor:
    """Σ_k W_ck A_k (Zhou et al. 2016, arXiv 1512.04150, equation 2), `(N, T, h, w)`; one forward pass an image.

    The spatial mean of the map plus the class's bias is the logit; the difference is the completeness error.
    """
    model, weights, bias = class_weights(job.model, "cam (gradcam does without)")
    parts: dict[int, Tensor] = {}
    missed = job.empty()

    @torch.no_grad()
    def work(start: int, stop: int) -> None:
        maps = model.feature_maps(job.images[start:stop])
        scores = job.observe(start, model.head(model.pool(maps)))
        classes = job.targets.of(torch.arange(start, stop), maps.device)
        found = torch.einsum("ntf,nfhw->nthw", weights[classes], maps)
        missed[start:stop] = found.mean(dim=(2, 3)) + bias[classes] - scores
        parts[start] = found

    job.over_images(work)
    job.completeness = missed
    job.notes["layer"] = "feature maps"
    return torch.cat([parts[start] for start in sorted(parts)])


@register("gradcam", title="Grad-CAM")
def gradcam(job: Job) -> Tensor:
    """ReLU(Σ_k α_k A_k), α_k the spatial mean of ∂s/∂A_k (Selvaraju et al. 2017, arXiv 1610.02391, equations 1, 2).

    The graph is cut at the layer: one forward pass, then a backward pass from each target's score to the layer, so
    that further targets cost no further forward pass and nothing before the layer is recorded.
    """
    model = job.model
    parts: dict[int, Tensor] = {}
    name = job.layer
    if name is None and not isinstance(model, Classifier):
        name = last_maps_layer(model, job.images[:1])
    if name is not None:
        find_layer(model, name)  # a wrong name is told before any work

    def work(start: int, stop: int) -> None:
        maps, logits = _cut_forward(model, job.images[start:stop], name)
        scores = job.observe(start, logits)
        alpha = gradients(scores, maps).mean(dim=(3, 4))
        parts[start] = torch.einsum("ntf,nfhw->nthw", alpha, maps.detach()).relu()

    job.over_images(work)
    job.notes["layer"] = name or "feature maps"
    return torch.cat([parts[start] for start in sorted(parts)])


def _cut_forward(model: nn.Module, images: Tensor, name: str | None) -> tuple[Tensor, Tensor]:
    """The layer's maps, a leaf of the graph, and the logits computed from them."""
    if name is None:
        assert isinstance(model, Classifier)
        with torch.no_grad():
            found = model.feature_maps(images)
        maps = found.detach().requires_grad_()
        return maps, model.head(model.pool(maps))
    with cut_at(model, name, (images.shape[2], images.shape[3])) as outputs:
        logits = model(images)
    if not outputs:
        raise UserError(f'layer "{name}" does not run in a forward pass: name one that does')
    return outputs[0], logits
