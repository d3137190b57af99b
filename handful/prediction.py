"""What a classifier takes pictures for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from handful.errors import UserError
from handful.images.model_inputs import Inputs
from handful.images.reading import open_image, upright_rgb

if TYPE_CHECKING:
    from handful.networks.classifier import Classifier

#: Anything that shows pictures: files, Pillow images, or normalised images `(N, 3, H, W)`.
PictureSource = str | Path | Image.Image
Pictures = PictureSource | Sequence[PictureSource] | Tensor


@dataclass(frozen=True)
class Prediction:
    """The classes of N pictures.

    Attributes:
        names: of the pictures: their paths, or their numbers.
        classes: name of the most probable class of each.
        labels: int64 `(N,)`, its number.
        probabilities: float32 `(N, C)`.
        class_names: of all C classes.

    Example:
        >>> found = Prediction(["a.jpg"], ["wren"], torch.tensor([1]), torch.tensor([[0.25, 0.75]]), ["owl", "wren"])
        >>> found.top(2)
        [[('wren', 0.75), ('owl', 0.25)]]
        >>> print(found)
        a.jpg: wren (75.0 %)
    """

    names: Sequence[str]
    classes: Sequence[str]
    labels: Tensor
    probabilities: Tensor
    class_names: Sequence[str]

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    def top(self, k: int = 3) -> list[list[tuple[str, float]]]:
        """The `k` most probable classes of every picture with their probabilities, most probable first."""
        best = self.probabilities.topk(min(k, len(self.class_names)), dim=1)
        return [
            [(self.class_names[label], value) for label, value in zip(labels, values, strict=True)]
            for labels, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def __str__(self) -> str:
        pairs = zip(self.names, self.top(1), strict=True)
        return "\n".join(f"{name}: {best[0][0]} ({100 * best[0][1]:.1f} %)" for name, best in pairs)


def inputs_of(model: "Classifier") -> Inputs:
    """What the model knows about its images.

    Raises:
        UserError: nothing.
    """
    if model.inputs is None:
        raise UserError(
            "this model does not know its class names, image size and normalisation; "
            "set model.inputs = handful.Inputs(class_names, image_size, mean, std)"
        )
    return model.inputs


def read_pictures(pictures: Pictures, inputs: Inputs) -> tuple[list[str], Iterable[Tensor]]:
    """Names of the pictures, and each as the image `(3, size, size)` that the model sees.

    Raises:
        UserError: nothing given; while iterating, a file that is missing or cannot be read.
    """
    if isinstance(pictures, Tensor):
        if pictures.ndim not in (3, 4) or not pictures.is_floating_point():
            raise UserError(f"images must be normalised floating point (N, 3, H, W), not {tuple(pictures.shape)}")
        images = pictures if pictures.ndim == 4 else pictures[None]
        return [str(number) for number in range(len(images))], images
    alone = not isinstance(pictures, Sequence) or isinstance(pictures, str)
    given: list[Any] = [pictures] if alone else list(pictures)  # type: ignore[arg-type]
    for one in given:
        if not isinstance(one, str | Path | Image.Image):
            raise UserError(f"a picture is a file, a Pillow image or a tensor, not {type(one).__name__}")
    names = [f"{number}" if isinstance(one, Image.Image) else str(one) for number, one in enumerate(given)]
    return names, (inputs.image(_open(one, inputs)) for one in given)


def _open(picture: PictureSource, inputs: Inputs) -> Image.Image:
    if isinstance(picture, Image.Image):
        return upright_rgb(picture, inputs.white)
    return open_image(Path(picture).expanduser(), str(picture), white=inputs.white, least=inputs.image_size)


@torch.no_grad()
def predict(model: "Classifier", pictures: Pictures, batch_size: int = 32) -> Prediction:
    """Classify pictures in evaluation mode, on the model's device; the model is left as it was.

    Raises:
        UserError: no picture, one that cannot be read, or a model that does not know its classes.
    """
    inputs = inputs_of(model)
    names, images = read_pictures(pictures, inputs)
    if not names:
        raise UserError("no pictures were given")
    parameter = next(model.parameters())
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    parts: list[Tensor] = []
    waiting: list[Tensor] = []
    try:
        for number, image in enumerate(images, start=1):
            waiting.append(image)
            if len(waiting) == batch_size or number == len(names):
                logits = model(torch.stack(waiting).to(parameter))
                parts.append(logits.float().softmax(dim=1).cpu())
                waiting = []
    finally:
        for module, flag in training:
            module.training = flag
    probabilities = torch.cat(parts)
    if not bool(torch.isfinite(probabilities).all()):
        raise UserError("the model gives logits that are not finite numbers, so nothing can be predicted")
    labels = probabilities.argmax(dim=1)
    return Prediction(names, [inputs.class_names[label] for label in labels], labels, probabilities, inputs.class_names)
