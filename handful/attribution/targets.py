"""What is explained: one or several class scores of every image."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from handful.errors import UserError

#: What `target` may be; see `Targets`.
Target = str | int | Sequence[int] | Tensor | Callable[[Tensor], Tensor]


class Targets:
    """The classes to explain, found from the clean prediction once and kept for every later copy of an image.

    Args:
        target: `"pred"` the predicted class; `"label"` the image's label; `"top3"` the three highest classes; an
            int, the same class for all; `(N,)` one class an image; `(N, T)` T classes an image; or a function of
            the logits `(B, C)` that gives one score a row `(B,)`.
        n_images: N.
        labels: `(N,)`, needed for `"label"`.

    Attributes:
        index: int64 `(N, T)`, filled as images are seen; None for a function.
        count: T.
        single: whether the answer has no T dimension.

    Raises:
        UserError: unknown word, missing labels, wrong number of targets; later, a class out of range.
    """

    def __init__(self, target: Target, n_images: int, labels: Tensor | None = None) -> None:
        self.function: Callable[[Tensor], Tensor] | None = None
        self.index: Tensor | None = None
        self.count = 1
        self.single = True
        self._top = 0
        if callable(target) and not isinstance(target, Tensor):
            self.function = target
            return
        if isinstance(target, str):
            if target == "label":
                if labels is None:
                    raise UserError('target "label" needs the images\' labels, and none were given')
                self.index = _classes(labels, n_images)
            elif target == "pred":
                self._top = 1
            elif match := re.fullmatch(r"top([1-9]\d*)", target):
                self._top = self.count = int(match[1])
                self.single = False
            else:
                raise UserError(f'target "{target}" is unknown: give pred, label, top3 (any number) or a class number')
        elif isinstance(target, bool):
            raise UserError(f"target {target} is no class: give pred, label, top3 (any number) or a class number")
        elif isinstance(target, int):
            self.index = torch.full((n_images, 1), target)
        else:
            given = torch.as_tensor(target)
            self.index = _classes(given, n_images)
            self.single = given.ndim == 1
            self.count = self.index.shape[1]
        if self.index is None:
            self.index = torch.full((n_images, self.count), -1)

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
        wrong = given[(given < 0) | (given >= classes)]
        if len(wrong):
            raise UserError(
                f"target class {int(wrong[0])} is out of range: the model has {classes} classes, 0 to {classes - 1}"
            )

    def score(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Scores `(B, T)` of logits `(B, C)` that belong to the images `rows (B,)`."""
        if self.function is not None:
            scores = self.function(logits)
            if scores.shape != logits.shape[:1]:
                raise UserError(
                    f"the target function must give one score a row: it made {tuple(scores.shape)} of logits "
                    f"{tuple(logits.shape)}"
                )
            return scores[:, None]
        return logits.gather(1, self.of(rows, logits.device))

    def of(self, rows: Tensor, device: torch.device) -> Tensor:
        """Class numbers `(B, T)` of the images `rows (B,)`, on `device`.

        Raises:
            UserError: the target is a function and no class.
        """
        if self.index is None:
            raise UserError("this method explains a class; a function of the logits is not one")
        return self.index[rows.cpu()].to(device)


def _classes(given: Tensor, n_images: int) -> Tensor:
    """Given classes as int64 `(N, T)` of its own memory."""
    if given.ndim not in (1, 2) or given.is_floating_point():
        raise UserError(
            f"targets must be whole numbers of shape (N,) or (N, T), not {tuple(given.shape)} {given.dtype}"
        )
    if len(given) != n_images:
        raise UserError(f"{len(given)} targets for {n_images} images: give one (or one row) an image")
    return given.detach().cpu().long().reshape(n_images, -1).clone()
