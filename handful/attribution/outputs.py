"""A model's output, read as logits `(B, C)`; nothing else reads it."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from handful.errors import UserError

#: Where the logits lie in an output that names its parts, in order of preference.
_NAMES = ("logits", "out", "output", "outputs", "scores", "prediction", "predictions")

#: What torch says where images are too small, or of another size than the network was made for.
_OTHER_SIZE = (
    "shapes cannot be multiplied", "must match the size of tensor", "Kernel size can't be greater than actual input",
    "Output size is too small", "Padding size should be less than",
)  # fmt: skip

#: Numbers that differ by less are equal.
_SUM_TOLERANCE = 1e-4
#: Rows in [0, 1] whose sum is 1 within this are probabilities, also of half precision; beyond that, they are not.
_HALF_PRECISION, _CLEAR = 1e-2, 0.1

#: Images whose scores must all lie in [0, 1] to be taken for those of a sigmoid.
_FEWEST = 6


class ClassLogits(NamedTuple):
    """Logits of a batch.

    Attributes:
        values: `(B, C)` with C ≥ 2, floating point, float32 at least; `softmax` gives the probabilities.
        single: whether the model gives one logit z per image. It then has two classes, `values` is `(0, z)`, and the
            probabilities are `1 − sigmoid(z)` and `sigmoid(z)`.
    """

    values: Tensor
    single: bool = False


def run_model(model: nn.Module, images: Tensor, *, given_away: bool = False) -> ClassLogits:
    """Run the model on `images (B, C, H, W)` and read its output; see `class_logits`.

    The model gets a copy: one that begins with an operation in place can neither change them nor meet a leaf of a
    graph.

    Args:
        model: to run.
        images: of the model's dtype and on its device.
        given_away: whether nobody else needs the images, so that the model may have them themselves.

    Raises:
        UserError: the images do not have the channels that the model takes, the model cannot run in this form, or its
            output cannot be read as logits.
    """
    with readable_errors(model, images):
        output = model(images if given_away else images.clone())
    return class_logits(output, len(images))


@contextlib.contextmanager
def readable_errors(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Within, a failed forward pass of `images (B, C, H, W)` is a sentence where the user can put it right."""
    try:
        yield
    except (RuntimeError, NotImplementedError, AssertionError, ValueError, TypeError) as error:
        if isinstance(error, UserError) or (reason := _why_it_failed(model, images, error)) is None:
            raise
        raise UserError(reason) from error


def class_logits(output: object, n_images: int) -> ClassLogits:
    """Read a model's output for `n_images` images as logits.

    Accepted are a tensor `(B, C)`; `(B, C, 1, 1)`; one logit per image, `(B,)` or `(B, 1)`; `(C,)` of one image, as
    `squeeze` leaves it; a mapping, dataclass or named tuple with `logits` (or `out`, `output`, `scores`,
    `prediction`); a mapping with a single tensor; and a tuple or list whose tensors `(B, C)` all have the same C, as
    networks with auxiliary classifiers give them: the first counts. Half precision becomes float32.

    Args:
        output: what the model gave.
        n_images: B.

    Raises:
        UserError: anything else; whole numbers; NaN, +∞, or −∞ for every class of an image.

    Example:
        >>> import torch
        >>> class_logits({"logits": torch.zeros(2, 3), "features": torch.zeros(2, 8)}, 2).values.shape
        torch.Size([2, 3])
        >>> class_logits(torch.tensor([[0.0], [2.0]]), 2).values.softmax(dim=1)[:, 1]
        tensor([0.5000, 0.8808])
    """
    given = _find_tensor(output, n_images)
    if given.is_nested or given.is_meta or given.is_quantized:
        kind = "nested" if given.is_nested else "meta" if given.is_meta else "quantised"
        raise UserError(f"the model gives a {kind} tensor, and a plain one of logits (B, C) is needed")
    shape = tuple(given.shape)
    scores = _as_rows(given if given.layout == torch.strided else given.to_dense(), n_images)
    if scores.ndim != 2 or len(scores) != n_images or scores.shape[1] == 0:
        advice = "; average them over the positions first" if scores.ndim == 4 else ""
        raise UserError(
            f"the model gives {shape} for {n_images} images, and logits of shape (B, C), one per class, are needed"
            f"{advice}"
        )
    if not scores.is_floating_point():
        raise UserError(
            f"the model gives {scores.dtype} numbers {shape}, and floating-point logits are needed: leave out the "
            "argmax or threshold at its end"
        )
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if not bool(scores.isfinite().all()):
        _refuse_out_of_range(scores)
    if scores.shape[1] == 1:
        return ClassLogits(torch.cat([torch.zeros_like(scores), scores], dim=1), single=True)
    return ClassLogits(scores)


def _refuse_out_of_range(scores: Tensor) -> None:
    """Refuse NaN, +∞, and −∞ for every class of an image."""
    wrong = scores.isnan() | (scores == torch.inf) | (scores == -torch.inf).all(dim=1, keepdim=True)
    if bool(wrong.any()):
        row = int(wrong.any(dim=1).nonzero()[0])
        raise UserError(
            f"the model gives {scores[row][wrong[row]][0].item()} as a logit of image {row} of a batch of "
            f"{len(scores)}: its weights or the image hold numbers out of range"
        )


def warn_of_probabilities(found: ClassLogits) -> None:
    """Warn where logits of clean images are probabilities: all in [0, 1], every row with the sum 1.

    Numbers in [0, 1] of at least `_FEWEST` images whose sums differ are those of a sigmoid.
    """
    logits = (found.values[:, 1:] if found.single else found.values).detach()
    spread = logits.amax(dim=0 if found.single else 1) - logits.amin(dim=0 if found.single else 1)
    uniform = bool((spread < _SUM_TOLERANCE).all())
    if uniform or not bool(((logits >= 0) & (logits <= 1)).all()):
        return
    beside = (logits.sum(dim=1) - 1).abs()
    if not found.single and bool((beside < _HALF_PRECISION).all()):
        said, last = "gives probabilities and not logits", "softmax"
    elif len(logits) >= _FEWEST and (found.single or bool((beside > _CLEAR).any())):
        said, last = "gives numbers between 0 and 1 only, as behind a sigmoid", "sigmoid"
    else:
        return
    warnings.warn(
        f"the model {said}: attributions explain what it gives, and another {last} flattens every probability; leave "
        f"out the {last} at its end",
        stacklevel=2,
    )


def _find_tensor(output: object, n_images: int) -> Tensor:
    """The tensor of the output that holds the logits."""
    if isinstance(output, Tensor):
        return output
    parts = _named_parts(output)
    if parts is not None:
        for name in _NAMES:
            if isinstance(found := parts.get(name), Tensor):
                return found
        tensors = [part for part in parts.values() if isinstance(part, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
        raise UserError(
            f"the model gives a {type(output).__name__} with {', '.join(map(str, parts)) or 'nothing'}, and none of "
            'them is "logits": let it give logits (B, C)'
        )
    if isinstance(output, tuple | list):
        return _first_of(list(_rows(output, n_images)), output)
    raise UserError(f"the model gives a {type(output).__name__}, and logits (B, C) are needed")


def _as_rows(scores: Tensor, n_images: int) -> Tensor:
    """Scores without sides of one, and with the batch of one image that `squeeze` has taken away."""
    if scores.ndim == 4 and scores.shape[2:] == (1, 1):
        return scores.flatten(1)
    if scores.ndim == 1:
        return scores[:, None] if len(scores) == n_images else scores.reshape(1, -1) if n_images == 1 else scores
    return scores


def _named_parts(output: object) -> dict[str, object] | None:
    """The parts of an output that names them, else None."""
    if isinstance(output, Mapping):
        return {str(name): part for name, part in output.items()}
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    if isinstance(output, tuple) and isinstance(names := getattr(output, "_fields", None), tuple):
        return dict(zip(names, output, strict=True))
    if isinstance(found := getattr(output, "logits", None), Tensor):
        return {"logits": found}
    return None


def _rows(output: tuple[object, ...] | list[object], n_images: int) -> Iterator[Tensor]:
    """Those tensors of a tuple that could be logits: one row per image, or one number per image."""
    for part in output:
        if isinstance(part, Tensor) and part.ndim in (1, 2) and len(part) == n_images:
            yield part


def _first_of(tensors: list[Tensor], output: tuple[object, ...] | list[object]) -> Tensor:
    if not tensors or len({part.shape[1:] for part in tensors}) > 1:
        shapes = ", ".join(
            str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in output
        )
        raise UserError(
            f"the model gives a {type(output).__name__} of {shapes or 'nothing'}, and which of them are the logits "
            "cannot be known: let it give logits (B, C) alone"
        )
    return tensors[0]


def _why_it_failed(model: nn.Module, images: Tensor, error: Exception) -> str | None:
    """What the user can put right about a failed forward pass, or None."""
    text = " ".join(str(error).split())
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != images.shape[1] and "channels" in text:
        return f"images {tuple(images.shape)} have {images.shape[1]} channels, and the model takes {first.in_channels}"
    if "Guard failed" in text or "Expected input at" in text:
        return f"the exported model does not take images {tuple(images.shape)}: export it with a dynamic batch ({text})"
    if any(words in text for words in _OTHER_SIZE):
        return f"the model does not take images {tuple(images.shape)}: {text[:300]}"
    if isinstance(error, TypeError):
        if "required positional argument" not in text or type(model).__name__ not in text:
            return None
        return f"the model takes more than images ({text}): give a module or function of images (B, C, H, W) alone"
    if "Can't call numpy() on Tensor that requires grad" in text:
        return "the model leaves torch for numpy, which no gradient can pass; occlusion and lime do without gradients"
    if "Quantized" in text:
        return f"the quantised model cannot run here: explain the model it was made from ({text[:200]})"
    return None
