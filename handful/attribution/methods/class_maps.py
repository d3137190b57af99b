"""CAM and Grad-CAM: where on the feature maps a class comes from."""

import warnings

import torch
from torch import Tensor, nn

from handful.attribution.context import AttributionContext, gradients
from handful.attribution.layers import cut_at
from handful.attribution.map_layers import MapLayer, default_map_layer, named_map_layer
from handful.attribution.outputs import readable_errors
from handful.attribution.registry import register
from handful.attribution.state import refuse_without_modules
from handful.errors import UserError
from handful.networks.classifier import Classifier


def class_weights(model: nn.Module, what: str = "this method") -> tuple[Classifier, Tensor, Tensor]:
    """Return the model, its weights `(C, F)` and bias `(C,)` over the pooled feature maps.

    Raises:
        UserError: the model does not pool its feature maps into one linear layer.
    """
    if not isinstance(model, Classifier):
        raise UserError(
            f"{what} needs a model that pools its feature maps into one linear layer, and "
            f"{type(model).__name__} is not known to"
        )
    weights, bias = model.head.class_weights()
    return model, weights, bias


def log_odds_weights(weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `(2, F)` and bias `(2,)` of the log-odds of class 0 and 1, from those `(1, F)`, `(1,)` of one logit."""
    return torch.cat([-weights, weights]), torch.cat([-bias, bias])


@register("cam", title="CAM", signed=True)
def cam(context: AttributionContext) -> Tensor:
    """Σ_k W_ck A_k (Zhou et al. 2016, arXiv 1512.04150, equation 2), `(N, T, h, w)`; one forward pass per image.

    The spatial mean of the map plus the class's bias is the logit; the difference is the completeness error. Of a head
    that cuts features off, those of the image that are cut off have no weight.
    """
    model, weights, bias = class_weights(context.model, "cam (gradcam does without)")
    parts: dict[int, Tensor] = {}
    missed = context.empty()

    @torch.no_grad()
    def work(start: int, stop: int) -> None:
        maps, scores = context.observe_maps(start, stop)
        classes = context.targets.of(torch.arange(start, stop), maps.device)
        if len(weights) > 1:
            own, offset = model.head.weights_for(model.pool(maps), classes)
        else:
            own, offset = (value[classes] for value in log_odds_weights(weights, bias))
        found = torch.einsum("ntf,nfhw->nthw", own, maps)
        missed[start:stop] = found.mean(dim=(2, 3)) + offset - scores
        parts[start] = found

    context.over_images(work)
    context.completeness = missed
    context.notes["layer"] = "feature maps"
    return torch.cat([parts[start] for start in sorted(parts)])


@register("gradcam", title="Grad-CAM")
def gradcam(context: AttributionContext) -> Tensor:
    """ReLU(Σ_k α_k A_k), α_k the spatial mean of ∂s/∂A_k (Selvaraju et al. 2017, arXiv 1610.02391, equations 1, 2).

    The graph is cut at the layer: one forward pass, then a backward pass from each target's score to the layer, so
    that further targets cost no further forward pass and nothing before the layer is recorded.
    """
    model = context.model
    layer = _map_layer(context)
    named = "the feature maps" if layer is None else f'layer "{layer.name}"'
    parts: dict[int, Tensor] = {}
    carried = torch.zeros(len(context), context.targets.count, dtype=torch.bool)

    def work(start: int, stop: int) -> None:
        maps, output = _cut_forward(model, context.images[start:stop], layer)
        scores = context.observe(start, context.read(output, stop - start))
        found = gradients(scores, maps, f"the score does not depend on {named}, or no gradient reaches it")
        carried[start:stop] = (found != 0).flatten(2).any(dim=2).cpu()
        parts[start] = torch.einsum("ntf,nfhw->nthw", found.mean(dim=(3, 4)), maps.detach()).relu()

    context.over_images(work)
    _report_independence(carried, named)
    context.notes["layer"] = "feature maps" if layer is None else layer.name
    return torch.cat([parts[start] for start in sorted(parts)])


def _map_layer(context: AttributionContext) -> MapLayer | None:
    """The layer to look at; None for the feature maps of a `Classifier`."""
    name = context.layer
    if name is None and isinstance(context.model, Classifier):
        return None
    refuse_without_modules(context.model, "gradcam")
    if name is None:
        return default_map_layer(context.model, context.images)
    return named_map_layer(context.model, context.images, name)


def _report_independence(carried: Tensor, named: str) -> None:
    """Say which scores `(N, T)` did not depend on the layer, instead of drawing zeros in silence.

    Raises:
        UserError: none of a target's scores did.
    """
    if not bool(carried.any(dim=0).all()):
        raise UserError(
            f"the score does not depend on {named} for any of the images, so Grad-CAM has nothing to draw: name "
            "another layer or target"
        )
    if not bool(carried.all()):
        count = int((~carried).any(dim=1).sum())
        warnings.warn(
            f"Grad-CAM: the score does not depend on {named} for {count} of {len(carried)} images; their maps are zero",
            stacklevel=2,
        )


def _cut_forward(model: nn.Module, images: Tensor, layer: MapLayer | None) -> tuple[Tensor, object]:
    """The layer's maps, a leaf of the graph, and the model's output computed from them."""
    with readable_errors(model, images):
        if layer is None:
            assert isinstance(model, Classifier)
            with torch.no_grad():
                found = model.feature_maps(images)
            maps = found.detach().requires_grad_()
            return maps, model.head(model.pool(maps))
        with cut_at(model, layer.name, layer.layout) as outputs:
            output = model(images.clone())
        return outputs[0], output
