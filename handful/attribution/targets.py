"""What is explained: one or several class scores of every image."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from handful.conversions import as_classes, as_labels
from handful.errors import UserError

#: What `target` may be; see `Targets`.
Target = str | int | Sequence[int] | Tensor | Callable[[Tensor], Tensor]

_ADVICE = "give pred, label, top3 (any number) or a class number"


class Targets:
    """The classes to explain, found from the clean prediction once and kept for every later copy of an image.

    Args:
        target: `"pred"` the predicted class; `"label"` the image's label; `"top3"` the three highest classes; a class
            number, the same for all; `(N,)` one class per image; `(N, T)` T classes per image; or a function of the
            logits `(B, C)` that gives one score per row, `(B,)`. Class numbers may be of any integer type, arrays,
            lists, or floating-point numbers without a fraction.
        n_images: N.
        labels: `(N,)` or `(N, 1)`, needed for `"label"`.

    Attributes:
        index: int64 `(N, T)`, filled as images are seen; None for a function.
        count: T.
        single: whether the answer has no T dimension.
        single_logit: whether the model gives one logit z; the score of class 1 is then z and that of class 0 is −z.

    Raises:
        UserError: unknown word, missing labels, wrong number of targets; later, a class out of range.

    Example:
        >>> targets = Targets("top2", 1)
        >>> targets.resolve(torch.tensor([[0.1, 3.0, 2.0]]), 0)
        >>> targets.index.tolist()
        [[1, 2]]
    """

    def __init__(self, target: Target, n_images: int, labels: object = None) -> None:
        self.function: Callable[[Tensor], Tensor] | None = None
        self.index: Tensor | None = None
        self.count = 1
        self.single = True
        self.single_logit = False
        self._top = 0
        if isinstance(target, str):
            self._read_word(target.strip(), n_images, labels)
        elif callable(target) and not isinstance(target, Tensor):
            self.function = target
            return
        else:
            given = as_classes(target, "target", f"; {_ADVICE}")
            if given.ndim == 0:
                self.index = given.expand(n_images, 1).clone()
            else:
                self.index = _one_row_per_image(given, n_images)
                self.single = given.ndim == 1
                self.count = self.index.shape[1]
        if self.index is None:
            self.index = torch.full((n_images, self.count), -1)

    def _read_word(self, target: str, n_images: int, labels: object) -> None:
        if target == "label":
            if labels is None:
                raise UserError('target "label" needs the images\' labels, and none were given')
            self.index = as_labels(labels, n_images).cpu()[:, None].clone()
        elif target == "pred":
            self._top = 1
        elif match := re.fullmatch(r"top([1-9]\d*)", target):
            self._top = self.count = int(match[1])
            self.single = False
        elif re.fullmatch(r"[+-]?\d+", target):
            self.index = torch.full((n_images, 1), int(target))
        else:
            raise UserError(f'target "{target}" is unknown: {_ADVICE}')

    def resolve(self, logits: Tensor, start: int) -> None:
        """See the clean logits `(B, C)` of images `start …`: fix the predicted classes, check the given ones."""
        if self.index is None:
            return
        stop, classes = start + len(logits), logits.shape[1]
        if self._top:
            if self._top > classes:
                raise UserError(f'target "top{self._top}" asks for more classes than the {classes} of the model')
            self.index[start:stop] = logits.detach().topk(self._top, dim=1).indices.cpu()
            return
        given = self.index[start:stop]
        check_range(given, classes, "target class")
        if given.shape[1] == classes > 2 and bool(((given == 1).sum(1) == 1).all() and (given <= 1).all()):
            raise UserError(f"target: rows of 0 and 1 for {classes} classes are one-hot; take target.argmax(1)")

    def score(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Scores `(B, T)` of logits `(B, C)` that belong to the images `rows (B,)`.

        The score of a class is its logit; of a model with one logit, the log-odds of the class.
        """
        if self.function is not None:
            scores = self.function(logits)
            if not isinstance(scores, Tensor) or scores.shape not in ((len(logits),), (len(logits), 1)):
                made = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise UserError(
                    f"the target function must give one score per row: it made {made} of logits {tuple(logits.shape)}"
                )
            return scores.reshape(-1, 1)
        classes = self.of(rows, logits.device)
        if self.single_logit:
            return logits.gather(1, classes) - logits.gather(1, 1 - classes)
        return logits.gather(1, classes)

    def of(self, rows: Tensor, device: torch.device) -> Tensor:
        """Class numbers `(B, T)` of the images `rows (B,)`, on `device`.

        Raises:
            UserError: the target is a function and no class.
        """
        if self.index is None:
            raise UserError("this method explains a class; a function of the logits is not one")
        return self.index[rows.cpu()].to(device)


def check_range(classes: Tensor, n_classes: int, what: str) -> None:
    """Refuse class numbers outside 0 … n_classes − 1.

    Raises:
        UserError: there is one; the sentence names it.
    """
    wrong = classes[(classes < 0) | (classes >= n_classes)]
    if len(wrong):
        raise UserError(
            f"{what} {int(wrong[0])} is out of range: the model has {n_classes} classes, 0 to {n_classes - 1}"
        )


def _one_row_per_image(given: Tensor, n_images: int) -> Tensor:
    """Given classes `(N,)` or `(N, T)` as `(N, T)`."""
    if len(given) != n_images or given.numel() == 0:
        raise UserError(f"{len(given)} targets for {n_images} images: give one (or one row) per image")
    return given.reshape(n_images, -1)
