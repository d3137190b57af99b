"""Run one attribution method on a batch: `attribute(model, images, target, method=…)`."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from handful.attribution import registry
from handful.attribution.context import AttributionContext
from handful.attribution.display import reduce_channels, resize
from handful.attribution.images import as_images
from handful.attribution.state import model_device, model_dtype, undisturbed, unwrap
from handful.attribution.targets import Target, Targets
from handful.errors import UserError


@dataclass(frozen=True)
class Attribution:
    """The maps of one method, unnormalised, and what is needed to read them.

    N images and, where several targets were asked for, T targets each; with one target per image there is no T.

    Attributes:
        raw: signed and unnormalised, `(N, [T], h, w)`, or `(N, [T], C, H, W)` where `reduction` is not `"none"`;
            float32 (float64 for a float64 model), detached, on the images' device.
        method: the method's name.
        targets: int64 `(N, [T])`, the classes explained; None for a function of the logits.
        scores: `(N, [T])`, what was explained: the targets' logits (of a model with one logit, the log-odds of the
            class), or the function's values.
        probabilities: `(N, [T])`, the targets' softmax probabilities; None for a function.
        logits: `(N, C)` of the images as they are; `(0, z)` of a model with one logit z.
        size: `(H, W)` of the images.
        reduction: how `map` makes one channel of several.
        signed: whether the sign means for or against the target.
        completeness: `(N, [T])`, the sum of the map less what it should be, for methods with such a law
            (integrated gradients, CAM, LRP); else None.
        layer: where a map lives that does not live on pixels.
        notes: what else the method recorded: `baseline`, `r2`, options.

    Example:
        >>> from handful.attribution import attribute
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> found = attribute(model, torch.ones(1, 3, 2, 2), method="gradient")
        >>> found.raw.shape, found.map().shape, found.reduction
        (torch.Size([1, 3, 2, 2]), torch.Size([1, 2, 2]), 'max_abs')
    """

    raw: Tensor
    method: str
    targets: Tensor | None
    scores: Tensor
    probabilities: Tensor | None
    logits: Tensor
    size: tuple[int, int]
    reduction: registry.Reduction = "none"
    signed: bool = False
    completeness: Tensor | None = None
    layer: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def predictions(self) -> Tensor:
        """`(N,)`, the predicted classes."""
        return self.logits.argmax(dim=1)

    def map(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return one map per image and target, `(N, [T], H, W)`: channels reduced, then bilinear to `size`.

        Args:
            size: `(H, W)`; None takes the images' own.
        """
        return resize(reduce_channels(self.raw, self.reduction), size or self.size)

    def cpu(self) -> "Attribution":
        """Return a copy on the CPU."""
        return self._with(lambda values: values[0].cpu(), [self])

    @staticmethod
    def concat(parts: "Sequence[Attribution]") -> "Attribution":
        """Join the images of all parts, in order; the parts come from the same request."""
        return parts[0]._with(torch.cat, parts)

    def _with(self, change: Callable[[list[Tensor]], Tensor], parts: "Sequence[Attribution]") -> "Attribution":
        """Replace every tensor, also among the notes, by `change` of the parts' tensors."""
        changed: dict[str, Any] = {
            f.name: change([getattr(part, f.name) for part in parts])
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        changed["notes"] = {
            name: change([part.notes[name] for part in parts]) if isinstance(value, Tensor) else value
            for name, value in self.notes.items()
        }
        return replace(self, **changed)


def attribute(
    model: nn.Module,
    images: Tensor,
    target: Target = "pred",
    *,
    method: str,
    labels: object = None,
    layer: str | None = None,
    baseline: str | Tensor | None = None,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    chunk: int | None = None,
    seed: int = 0,
    image_ids: Sequence[int | str] | None = None,
    maps: Tensor | None = None,
    **options: Any,
) -> Attribution:
    """Find the pixels or cells of `images` that a class score comes from.

    The model is left as it was found: parameters, buffers, `.grad`, `training` flags, hooks and random state. It is
    evaluated in evaluation mode, in its own precision without autocast, also under `torch.no_grad` and
    `torch.inference_mode`, unwrapped from `DistributedDataParallel` and `torch.compile`. The score is the target's
    logit, and the target is found on the clean image once. Random numbers depend on `seed`, the image and the method
    alone: not on the batch, the chunk or the number of processes.

    Args:
        model: images to logits `(N, C)`, in any form that `class_logits` reads; a `Classifier` for those methods that
            need one (CAM). Scripted, exported and quantised models, and functions, where the method needs neither
            hooks nor gradients that they do not have.
        images: `(N, C, H, W)`, normalised: a tensor, an array or a sequence of `(C, H, W)`; taken to the model's
            dtype and device.
        target: `"pred"`, `"label"`, `"top3"`, an int, `(N,)`, `(N, T)` or a function; see `Targets`.
        method: a name of `registry.names()`.
        labels: `(N,)`, for `target="label"`.
        layer: a name from `named_modules()`, for Grad-CAM; None takes the feature maps of a `Classifier`, and of any
            other model the last layer with maps that the score depends on.
        baseline: `"mean"`, `"black"`, `"blur"` or a tensor; None leaves it to the method.
        normalisation: `(mean, std)` by channel, for the black baseline.
        chunk: forward passes of at most this many images; halved when memory runs out. None chooses.
        seed: see above.
        image_ids: `(N,)`, a name of each image that stays the same wherever it appears, for its random numbers; None
            takes a hash of its pixels.
        maps: `(N, F, h, w)`, the feature maps of these images in a `Classifier` where they are known, as
            `contributions` gives them: they spare a forward pass.
        options: the method's own.

    Raises:
        UserError: unknown method, layer, target or option; targets out of range or of the wrong number; images or an
            output of the model that cannot be read; a model that the method cannot look into.

    Example:
        >>> import torch
        >>> from handful import attribute
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        ...     torch.nn.Linear(4, 2),
        ... )
        >>> images = torch.rand(5, 3, 16, 16)
        >>> found = attribute(model, images, method="integrated_gradients", steps=4)
        >>> found.raw.shape, found.map().shape, found.targets.shape
        (torch.Size([5, 3, 16, 16]), torch.Size([5, 16, 16]), torch.Size([5]))
        >>> attribute(model, images, "top2", method="gradcam").raw.shape
        torch.Size([5, 2, 14, 14])
    """
    chosen = registry.get(method)
    model = unwrap(model)
    with undisturbed(model):
        own_images = as_images(images, model_dtype(model), model_device(model))
        targets = Targets(target, len(own_images), labels)
        context = AttributionContext(
            model, own_images, targets, method=method, layer=layer, baseline=baseline, normalisation=normalisation,
            chunk=chunk, seed=seed, image_ids=image_ids, maps=maps,
        )  # fmt: skip
        _check_options(chosen, context, options)
        raw = chosen.compute(context, **options).detach()
        if context.unread:
            raise UserError(f"method {chosen.name} takes no {' and no '.join(context.unread)}")
        logits = context.clean_logits()
        with torch.no_grad():
            return _pack(chosen, context, raw, logits)


def _check_options(chosen: registry.Method, context: AttributionContext, options: dict[str, Any]) -> None:
    try:
        inspect.signature(chosen.compute).bind(context, **options)
    except TypeError as error:
        known = ", ".join(list(inspect.signature(chosen.compute).parameters)[1:]) or "none"
        raise UserError(f"method {chosen.name}: {error}; its options are: {known}") from None


def _pack(chosen: registry.Method, context: AttributionContext, raw: Tensor, logits: Tensor) -> Attribution:
    """The answer, without the T dimension where one target was asked for."""
    index = context.targets.index
    kept = torch.float64 if raw.dtype == torch.float64 else torch.float32

    def trim(values: Tensor) -> Tensor:
        return values[:, 0] if context.targets.single else values

    probabilities = None
    if index is not None:
        index = index.to(raw.device)
        probabilities = trim(logits.to(kept).softmax(dim=1).gather(1, index))
    return Attribution(
        raw=trim(raw.to(kept)),
        method=chosen.name,
        targets=None if index is None else trim(index),
        scores=trim(context.clean_scores().to(kept)),
        probabilities=probabilities,
        logits=logits.to(kept),
        size=(context.images.shape[2], context.images.shape[3]),
        reduction=chosen.reduction,
        signed=chosen.signed,
        completeness=None if context.completeness is None else trim(context.completeness.to(kept)),
        layer=context.notes.pop("layer", None),
        notes=context.notes,
    )
