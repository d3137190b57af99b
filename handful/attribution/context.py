"""What every method works with: the model, images, targets, chunks and random numbers of one request."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from handful.attribution.baselines import make_baseline
from handful.attribution.outputs import ClassLogits, class_logits, readable_errors, run_model, warn_of_probabilities
from handful.attribution.randomness import pixel_ids, seeded
from handful.attribution.state import run_in_chunks
from handful.attribution.targets import Targets
from handful.errors import UserError
from handful.networks.classifier import Classifier

_NO_GRADIENT = (
    "this method needs the gradient of the score, and none arrives: the model detaches its computation, runs it under "
    "no_grad, is quantised, or the score does not depend on it; occlusion and lime do without gradients"
)

#: Pixels a forward pass holds by default, and its fewest and most images, by device type. On a CPU more gains no
#: speed; on a GPU, memory that runs out halves it.
_SIZES = {"cpu": (2**17, 8, 64), "cuda": (2**22, 16, 512)}


def default_chunk(images: Tensor) -> int:
    """Return how many images of the size of `images (N, C, H, W)` a forward pass holds by default."""
    pixels, fewest, most = _SIZES.get(images.device.type, _SIZES["cpu"])
    return max(fewest, min(most, pixels // images[0, 0].numel()))


class AttributionContext:
    """What a method works with; it computes `raw (N, T, …)` from a context and its own options.

    The unit of work is one forward pass of one image's copy (an integration step, a window, a mask); `in_chunks`
    runs such units, image by image in order, in forward passes of at most `chunk`.

    Args:
        model: unwrapped, in evaluation mode, inside `undisturbed`.
        images: `(N, C, H, W)`, normalised, of the model's dtype.
        targets: what is explained.
        method: the method's name, part of each image's seed.
        layer: a name from `named_modules()` or None.
        baseline: see `make_baseline`; None leaves it to the method.
        normalisation: `(mean, std)` of the images by channel, or None.
        chunk: units of work in one forward pass; None chooses by image size.
        seed: seeds all random numbers, together with `image_ids` and `method`.
        image_ids: `(N,)` an identifier per image, the same wherever the image appears; None takes a hash of its pixels.
        maps: `(N, F, h, w)`, the feature maps of the images in a `Classifier`, where they are known.

    Attributes:
        notes: what the method wants on the record (`baseline`, `r2`, …), by name.
        completeness: `(N, T)`, what the maps' sum misses of what it should be, where a method has such a law.

    Example:
        >>> from handful.attribution.targets import Targets
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> images = torch.ones(3, 3, 2, 2)
        >>> context = AttributionContext(model, images, Targets("pred", 3), method="example")
        >>> context.clean_scores().shape
        torch.Size([3, 1])
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Targets,
        *,
        method: str,
        layer: str | None = None,
        baseline: str | Tensor | None = None,
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
        chunk: int | None = None,
        seed: int = 0,
        image_ids: Sequence[int | str] | None = None,
        maps: Tensor | None = None,
    ) -> None:
        if chunk is not None and chunk < 1:
            raise UserError(f"chunk must be at least 1, not {chunk}")
        if image_ids is not None and len(image_ids) != len(images):
            raise UserError(f"{len(image_ids)} image_ids for {len(images)} images: give one per image")
        if maps is not None and (not isinstance(model, Classifier) or maps.ndim != 4 or len(maps) != len(images)):
            raise UserError(f"maps: feature maps (N, F, h, w) of the {len(images)} images in a Classifier are needed")
        self.model = model
        self.images = images
        self.targets = targets
        self.method = method
        self._layer = layer
        self._unread = {name for name, given in (("layer", layer), ("baseline", baseline)) if given is not None}
        self.normalisation = normalisation
        self.seed = seed
        self.chunk = chunk or default_chunk(images)
        self.notes: dict[str, Any] = {}
        self.completeness: Tensor | None = None
        self._baseline = baseline
        self._ids = None if image_ids is None else [str(image_id) for image_id in image_ids]
        self._logits: Tensor | None = None
        self._seen = 0
        self._maps = maps

    @property
    def layer(self) -> str | None:
        """The layer that was asked for."""
        self._unread.discard("layer")
        return self._layer

    @property
    def unread(self) -> list[str]:
        """What was asked for and the method never looked at."""
        return sorted(self._unread)

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.images)

    # Forward and backward passes

    def in_chunks(self, total: int, work: Callable[[int, int], None]) -> None:
        """Run `work(start, stop)` over `range(total)`; `work` keeps its results only once it has them all."""
        self.chunk = run_in_chunks(total, self.chunk, work)

    def over_images(self, work: Callable[[int, int], None]) -> None:
        """Run `work(start, stop)` over the images."""
        self.in_chunks(len(self), work)

    def over_copies(self, copies: int, work: Callable[[Tensor, Tensor], None]) -> None:
        """Run `work(rows, steps)` over `copies` units per image: unit u is step `u % copies` of image `u // copies`."""

        def piece(start: int, stop: int) -> None:
            unit = torch.arange(start, stop)
            work(unit // copies, unit % copies)

        self.in_chunks(len(self) * copies, piece)

    def logits(self, images: Tensor) -> Tensor:
        """The model's logits `(B, C)` of any `images (B, C, H, W)`, read by `class_logits`."""
        return self._read(run_model(self.model, images))

    def read(self, output: object, n_images: int) -> Tensor:
        """The logits `(B, C)` in an output of the model's last part, for methods that run the model in parts."""
        return self._read(class_logits(output, n_images))

    def _read(self, found: ClassLogits) -> Tensor:
        self.targets.single_logit = found.single
        return found.values

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        """Scores `(B, T)` of `images (B, C, H, W)`, which are copies of the images `rows (B,)`."""
        return self.targets.score(self.logits(images), rows)

    def observe(self, start: int, logits: Tensor) -> Tensor:
        """Note the clean logits `(B, C)` of images `start …`, fix their targets and give their scores `(B, T)`."""
        if self._logits is None:
            self._logits = logits.new_empty(len(self), logits.shape[1])
        stop = start + len(logits)
        self._logits[start:stop] = logits.detach()
        self._seen = max(self._seen, stop)
        if start == 0:
            warn_of_probabilities(ClassLogits(logits, self.targets.single_logit))
        self.targets.resolve(logits, start)
        return self.targets.score(logits, torch.arange(start, stop))

    def observe_maps(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The feature maps `(B, F, h, w)` of the clean images `start … stop` in a `Classifier`, and their scores."""
        assert isinstance(self.model, Classifier)
        images = self.images[start:stop]
        with readable_errors(self.model, images):
            maps = self.model.feature_maps(images) if self._maps is None else self._maps[start:stop].to(images)
        return maps, self.observe(start, self.read(self.model.head(self.model.pool(maps)), stop - start))

    def clean_logits(self) -> Tensor:
        """The logits `(N, C)` of the unchanged images; a forward pass unless a method has observed them already."""
        if self._logits is None or self._seen < len(self):

            @torch.no_grad()
            def work(start: int, stop: int) -> None:
                if self._maps is None:
                    self.observe(start, self.logits(self.images[start:stop]))
                else:
                    self.observe_maps(start, stop)

            self.over_images(work)
        assert self._logits is not None
        return self._logits

    def clean_scores(self) -> Tensor:
        """The scores `(N, T)` of the unchanged images."""
        return self.targets.score(self.clean_logits(), torch.arange(len(self)))

    def empty(self, *shape: int) -> Tensor:
        """Zeros `(N, T, *shape)` on the images' device, of their dtype but float32 at least."""
        kept = torch.promote_types(self.images.dtype, torch.float32)
        return torch.zeros(len(self), self.targets.count, *shape, dtype=kept, device=self.images.device)

    # Baselines and random numbers

    def baseline(self, default: str) -> Tensor:
        """The baseline `(1 or N, C, H, W)`: the one asked for, else `default`; its name is noted."""
        self._unread.discard("baseline")
        asked = default if self._baseline is None else self._baseline
        values, self.notes["baseline"] = make_baseline(self.images, asked, self.normalisation)
        return values

    @property
    def baseline_given(self) -> bool:
        """Whether the caller asked for a baseline."""
        self._unread.discard("baseline")
        return self._baseline is not None

    def generator(self, image: int, step: int = 0) -> torch.Generator:
        """Random numbers for one unit of work, the same whatever the batch, the chunk or the process."""
        return seeded(f"{self.seed}/{self._id(image)}/{self.method}/{step}", self.images.device)

    def _id(self, image: int) -> str:
        if self._ids is None:
            self._ids = pixel_ids(self.images)
        return self._ids[image]


def gradients(scores: Tensor, inputs: Tensor, otherwise: str | None = None) -> Tensor:
    """Gradients `(B, T, …)` of scores `(B, T)` to their own rows of `inputs (B, …)`; the graph is used up.

    Summing a column's scores is exact because in evaluation mode the rows do not depend on one another.

    Args:
        scores: within the graph.
        inputs: a leaf of the graph.
        otherwise: the sentence for the case that no gradient arrives; None takes a general one.

    Raises:
        UserError: no gradient reaches the inputs.

    Example:
        >>> images = torch.ones(2, 3, requires_grad=True)
        >>> gradients(torch.stack([images.sum(1), 2 * images.sum(1)], dim=1), images)[0].tolist()
        [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    """
    count = scores.shape[1]
    columns = scores.sum(dim=0)
    each = [gradient(columns[t], inputs, keep_graph=t < count - 1, otherwise=otherwise) for t in range(count)]
    return torch.stack(each, dim=1)


def gradient(score: Tensor, inputs: Tensor, keep_graph: bool = False, otherwise: str | None = None) -> Tensor:
    """The gradient of one number to `inputs`, of their shape.

    Raises:
        UserError: no gradient reaches the inputs.
    """
    if score.requires_grad:
        try:
            found = torch.autograd.grad(score, inputs, retain_graph=keep_graph, allow_unused=True)[0]
        except (NotImplementedError, RuntimeError) as error:
            if "use_reentrant" in str(error):
                raise UserError(
                    "the model recomputes layers in the backward pass in a way that no gradient to its images passes: "
                    "switch gradient checkpointing off, or give it use_reentrant=False"
                ) from error
            if "not implemented" not in str(error):
                raise
            raise UserError(f"{_NO_GRADIENT} ({str(error).splitlines()[0]})") from error
        if found is not None:
            return found
    raise UserError(otherwise or _NO_GRADIENT)
