"""The one kind of last layer: linear in the pooled features, and able to say so in numbers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from handful.errors import UserError, did_you_mean

AnyHead = TypeVar("AnyHead", bound="type[Head]")

_KINDS: dict[str, "type[Head]"] = {}


class Head(nn.Module, ABC):
    """Pooled features `(B, F)` → logits `(B, C)`, linear in evaluation mode, or linear for the features of one image.

    A new head derives from it, registers its kind and says its weights; the rest has a default. Its parts are sized by
    the arguments of the constructor, so that `describe` and the state rebuild it.

    Args:
        num_features: F of the backbone.
        num_classes: C.
        options: the constructor's further arguments, plain values.

    Example:
        >>> import torch
        >>> @register_head("signed_example")
        ... class SignedHead(Head):
        ...     def __init__(self, num_features: int, num_classes: int) -> None:
        ...         super().__init__(num_features, num_classes)
        ...         self.register_buffer("sign", torch.zeros(num_classes, num_features))
        ...
        ...     def class_weights(self):
        ...         return self.sign, self.sign.new_zeros(self.num_classes)
        >>> build_head({"kind": "signed_example", "num_features": 5, "num_classes": 3})(torch.ones(2, 5)).shape
        torch.Size([2, 3])
    """

    #: The registered name; set by `register_head`.
    kind: ClassVar[str] = ""

    def __init__(self, num_features: int, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes
        self.options = options

    @abstractmethod
    def class_weights(self) -> tuple[Tensor, Tensor]:
        """`W (C, F)` and `b (C,)` with `head(f) == f @ W.T + b` in evaluation mode, on the raw pooled features.

        Where `is_linear` is false: the weights of features that are active.
        """

    def check(self) -> None:
        """Refuse values, read from a file, that this head cannot compute with; every value will do by default.

        Raises:
            UserError: names what is wrong.
        """

    @property
    def n_features(self) -> int:
        """How many features have a non-zero weight in any class."""
        return int((self.class_weights()[0] != 0).any(dim=0).sum())

    @property
    def features_per_class(self) -> float:
        """Mean number of non-zero weights per class."""
        return float((self.class_weights()[0] != 0).sum()) / self.num_classes

    def deciding_maps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The maps `(B, S, h, w)` that the head looks at, of all `(B, F, h, w)`, and its weights `(C, S)` for them."""
        return maps, self.class_weights()[0]

    @property
    def is_linear(self) -> bool:
        """Whether `class_weights` hold for all features; else `weights_for` says those of an image."""
        return True

    def weights_for(self, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """`W (B, T, F)`, `b (B, T)` of classes `(B, T)` with `logit = W·f + b` for features `(B, F)`, in their dtype.

        The same for all images unless a head is linear in parts.
        """
        weight, bias = (value.to(features) for value in self.class_weights())
        return weight[classes], bias[classes]

    def least_active(self) -> Tensor | None:
        """The value `(F,)` from which on each feature counts; None where every value does."""
        return None

    def in_float64(self, features: Tensor) -> Tensor:
        """Logits `(B, C)` of features `(B, F)`, computed in float64 on the features' device."""
        weight, bias = (value.detach().to(features.device, torch.float64) for value in self.class_weights())
        return functional.linear(features.double(), weight, bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, F)` → logits `(B, C)`."""
        return functional.linear(features, *self.class_weights())

    def describe(self) -> dict[str, Any]:
        """The head in plain values; `build_head` makes one of the same shape from them."""
        return {"kind": self.kind, "num_features": self.num_features, "num_classes": self.num_classes, **self.options}


def register_head(kind: str) -> Callable[[AnyHead], AnyHead]:
    """Register the decorated `Head` under a name, by which checkpoints rebuild it.

    Raises:
        ValueError: another head has this name already.

    Example:
        >>> import torch
        >>> @register_head("constant_example")
        ... class ConstantHead(Head):
        ...     def class_weights(self):
        ...         return torch.ones(self.num_classes, self.num_features), torch.zeros(self.num_classes)
        >>> ConstantHead(3, 2)(torch.ones(1, 3)).tolist()
        [[3.0, 3.0]]
    """

    def decorate(cls: AnyHead) -> AnyHead:
        known = _KINDS.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"a head {kind!r} is registered already")
        cls.kind = kind
        _KINDS[kind] = cls
        return cls

    return decorate


def head_kinds() -> list[str]:
    """The registered kinds, in alphabetical order."""
    return sorted(_KINDS)


def build_head(description: Mapping[str, Any]) -> Head:
    """A head of the described kind and shape, its values those of a new one.

    Raises:
        UserError: the kind is not registered, or its arguments are others.

    Example:
        >>> build_head({"kind": "dense", "num_features": 4, "num_classes": 2}).describe()
        {'kind': 'dense', 'num_features': 4, 'num_classes': 2, 'dropout': 0.0}
    """
    if not isinstance(description, Mapping):
        raise UserError(f"head: a kind with its arguments, not {description!r:.80}")
    arguments = dict(description)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"head: no kind {kind!r}; there are {', '.join(head_kinds())}{did_you_mean(str(kind), _KINDS)}")
    try:
        return _KINDS[kind](**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"head: a {kind} head cannot be built from {arguments} ({error})") from error


def as_head(module: nn.Module) -> Head:
    """A head, or one linear layer as a head that shares its parameters.

    Raises:
        UserError: the module is anything else, such as several layers or a convolution.
    """
    if isinstance(module, Head):
        return module
    if isinstance(module, nn.Linear):
        from handful.networks.heads import DenseHead

        return DenseHead.from_linear(module)
    raise UserError(
        "only a network whose classifier is one linear layer on the pooled features can be read; this one ends in "
        f"{type(module).__name__}"
    )
