"""Attribution methods by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from handful.attribution.context import AttributionContext
from handful.errors import UserError, did_you_mean

#: How the channels of a raw map become one: not at all (it has none), the largest magnitude, or the sum.
Reduction = Literal["none", "max_abs", "sum"]

#: A method: from a context and its own options to raw maps `(N, T, h, w)` or, with channels, `(N, T, C, H, W)`.
Compute = Callable[..., Tensor]


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: as given on the command line.
        title: as written under a picture.
        compute: called with an `AttributionContext` and the method's options; returns raw maps `(N, T, …)`.
        reduction: how channels become one map; `"none"` promises raw maps without channels.
        signed: whether the sign means for or against the target.

    Example:
        >>> from handful.attribution import get
        >>> get("occlusion").reduction
        'none'
    """

    name: str
    title: str
    compute: Compute
    reduction: Reduction
    signed: bool


_METHODS: dict[str, Method] = {}

#: Short names that mean a method as well.
_SHORT = {"ig": "integrated_gradients", "mp": "meaningful_perturbation"}


def register(
    name: str, *, title: str | None = None, reduction: Reduction = "none", signed: bool = False
) -> Callable[[Compute], Compute]:
    """Register the decorated function `compute(context, **options)` as a method.

    Afterwards `attribute(…, method=name)`, the callback and the commands know it, and its keyword arguments are the
    method's options.

    Args:
        name: as given on the command line.
        title: as written under a picture; None takes the name.
        reduction: how channels become one map; `"none"` promises raw maps `(N, T, h, w)` without channels.
        signed: whether the sign means for or against the target.

    Raises:
        ValueError: another function has this name already.

    Example:
        >>> import torch
        >>> from handful.attribution import AttributionContext, attribute, register, unregister
        >>> @register("brightness_of_channel")
        ... def brightness(context: AttributionContext, channel: int = 0) -> torch.Tensor:
        ...     return context.images[:, [channel]].expand(-1, context.targets.count, -1, -1)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> attribute(model, torch.ones(1, 3, 2, 2), method="brightness_of_channel", channel=2).map().shape
        torch.Size([1, 2, 2])
        >>> unregister("brightness_of_channel")
    """

    def decorate(compute: Compute) -> Compute:
        if name in _METHODS and _METHODS[name].compute is not compute:
            raise ValueError(f'an attribution method "{name}" is registered already')
        _METHODS[name] = Method(name, title or name.replace("_", " "), compute, reduction, signed)
        return compute

    return decorate


def unregister(name: str) -> None:
    """Forget a registered method; see `register`.

    Raises:
        UserError: there is none of this name.

    Example:
        >>> from handful.attribution import names, register, unregister
        >>> registered = register("only_an_example")(lambda context: context.images)
        >>> unregister("only_an_example")
        >>> "only_an_example" in names()
        False
    """
    del _METHODS[get(name).name]


def get(name: str) -> Method:
    """Look up the method of this name, or of its short name (`ig`, `mp`).

    Raises:
        UserError: there is none; the sentence lists those there are.

    Example:
        >>> from handful.attribution import get
        >>> get("ig").title
        'integrated gradients'
    """
    name = _SHORT.get(name, name)
    if name not in _METHODS:
        near = did_you_mean(name, [*names(), *_SHORT])
        raise UserError(f'there is no attribution method "{name}": there are {", ".join(names())}{near}')
    return _METHODS[name]


def names() -> list[str]:
    """List the names of all methods, in alphabetical order.

    Example:
        >>> from handful.attribution import names
        >>> "gradcam" in names()
        True
    """
    return sorted(_METHODS)


__all__ = ["AttributionContext", "Compute", "Method", "Reduction", "get", "names", "register", "unregister"]
