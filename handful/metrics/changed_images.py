"""How a model answers to changed copies of images: what every measure of faithfulness is made of."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from handful.attribution.context import default_chunk
from handful.attribution.images import as_images
from handful.attribution.outputs import ClassLogits, run_model, warn_of_probabilities
from handful.attribution.randomness import pixel_ids, seeded
from handful.attribution.state import model_device, model_dtype, run_in_chunks, undisturbed, unwrap
from handful.attribution.targets import Target, Targets
from handful.conversions import check_whole
from handful.errors import UserError

#: Pixels that a forward pass without gradients holds by default on a CPU, and its most images: small networks spend
#: more on every call than on an image.
_PIXELS, _MOST = 2**17, 256

#: What is read of a logits row: the class's softmax probability, its logit (of one logit, the log-odds), or 1 where
#: the class is the predicted one and 0 elsewhere.
Reading = Literal["probability", "score", "decision"]


class ChangedImages:
    """Images, the class of each, and what the model says of changed copies.

    Made by `changed_images`. The class is found, or checked, on the clean images by one forward pass of each.

    Attributes:
        images: `(N, C, H, W)`, of the model's dtype and on its device.
        classes: int64 `(N,)`.
        passes: images that went through the model so far.
    """

    def __init__(self, model: nn.Module, images: Tensor, classes: Target | None, chunk: int | None) -> None:
        self.images = images
        self.passes = 0
        self._model = model
        self._chunk = _forward_chunk(images) if chunk is None else check_whole("chunk", chunk, 1)
        self._targets = Targets("pred" if classes is None else classes, len(images))
        if self._targets.index is None or not self._targets.single:
            raise UserError("classes must be one class per image")
        logits: dict[int, Tensor] = {}

        def clean(start: int, stop: int) -> None:
            logits[start] = self._logits(images[start:stop])
            if start == 0:
                warn_of_probabilities(ClassLogits(logits[start], self._targets.single_logit))
            self._targets.resolve(logits[start], start)

        self._chunk = run_in_chunks(len(images), self._chunk, clean)
        self._clean = torch.cat([logits[start] for start in sorted(logits)])
        self.classes = self._targets.index[:, 0].to(images.device)
        self._ids: list[str] | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    def clean(self, reading: Reading) -> Tensor:
        """What the unchanged images give, `(N,)`."""
        check_reading(reading)
        return self._read(self._clean, torch.arange(len(self)), reading)

    def answers(self, copies: int, change: Callable[[Tensor, Tensor], Tensor], reading: Reading) -> Tensor:
        """Read the model's answers to `copies` changed copies of every image, `(N, copies)`.

        Args:
            copies: forward passes of each image.
            change: from int64 rows `(B,)`, the images, and steps `(B,)`, in 0 … copies − 1, to images `(B, C, H, W)` in
                memory of their own.
            reading: what is read.

        Raises:
            UserError: an unknown reading.
        """
        check_reading(reading)
        found = self._clean.new_zeros(len(self) * copies)

        def work(start: int, stop: int) -> None:
            unit = torch.arange(start, stop, device=self.images.device)
            rows, steps = unit // copies, unit % copies
            found[start:stop] = self._read(self._logits(change(rows, steps), given_away=True), rows, reading)

        # many copies: batches of one image each, as equal as they can be
        each = copies if copies >= self._chunk else len(found)
        for start in range(0, len(found), max(1, each)):
            chunk = -(-each // -(-each // self._chunk))
            used = run_in_chunks(each, chunk, lambda a, b, start=start: work(start + a, start + b))  # type: ignore[misc]
            if used < chunk:  # memory ran out
                self._chunk = used
        return found.reshape(len(self), copies)

    def generator(self, image: int, purpose: str) -> torch.Generator:
        """Random numbers on the CPU for one image, by its pixels: not by batch, chunk, process or device."""
        if self._ids is None:
            self._ids = pixel_ids(self.images)
        return seeded(f"{purpose}/{self._ids[image]}", torch.device("cpu"))

    def _logits(self, images: Tensor, given_away: bool = False) -> Tensor:
        found = run_model(self._model, images, given_away=given_away)
        self.passes += len(images)
        self._targets.single_logit = found.single
        return found.values

    def _read(self, logits: Tensor, rows: Tensor, reading: Reading) -> Tensor:
        if reading == "score":
            return self._targets.score(logits, rows)[:, 0]
        classes = self._targets.of(rows, logits.device)
        if reading == "probability":
            return logits.softmax(dim=1).gather(1, classes)[:, 0]
        return (logits.argmax(dim=1) == classes[:, 0]).to(logits.dtype)


def check_reading(reading: str) -> None:
    """Refuse what cannot be read of a logits row.

    Raises:
        UserError: lists what can.
    """
    if reading not in get_args(Reading):
        raise UserError(f"reading {reading!r} is unknown: give {', '.join(get_args(Reading))}")


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """Return the rows `(B, …)` of values `(N, …)`; one that broadcasts, without a copy, where all are the same.

    Units of work come image by image, so that most batches of many steps are of one image.

    Args:
        values: on any device.
        rows: int64 `(B,)`, in increasing order, at least one.

    Example:
        >>> rows_of(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 1, 1]))
        tensor([[2.]])
    """
    if rows.device.type != "cpu":  # where reading them would wait for the device
        return values[rows]
    first, last = int(rows[0]), int(rows[-1])
    return values[first : first + 1] if first == last else values[rows]


def _forward_chunk(images: Tensor) -> int:
    fewest = default_chunk(images)
    if images.device.type != "cpu":
        return fewest
    return max(fewest, min(_MOST, _PIXELS // images[0, 0].numel()))


@contextlib.contextmanager
def changed_images(
    model: nn.Module, images: object, classes: Target | None = None, chunk: int | None = None
) -> Iterator[ChangedImages]:
    """Within, watch a model's answers to changed images, without gradients; the model is left as it was found.

    Args:
        model: images to logits, in any form that `class_logits` reads.
        images: `(N, C, H, W)`, normalised.
        classes: one class per image, as `Targets` takes them; None takes the predicted ones.
        chunk: images in a forward pass, halved when memory runs out; None chooses by their size.

    Raises:
        UserError: images, classes or an output that cannot be read.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> with changed_images(model, torch.rand(3, 3, 2, 2)) as watched:
        ...     half = watched.answers(1, lambda rows, steps: watched.images[rows] / 2, "probability")
        >>> half.shape, watched.passes
        (torch.Size([3, 1]), 6)
    """
    model = unwrap(model)
    with undisturbed(model), torch.no_grad():
        yield ChangedImages(model, as_images(images, model_dtype(model), model_device(model)), classes, chunk)


def ranks(values: Tensor, descending: bool = True) -> Tensor:
    """Return the place of each value in its row's order, int64, the shape of `values (N, …)`; ties in reading order.

    Example:
        >>> ranks(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[2, 0, 1]])
    """
    order = values.flatten(1).argsort(dim=1, descending=descending, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places.contiguous()).reshape(values.shape)
