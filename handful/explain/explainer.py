"""From images to explanations, a batch at a time."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from handful.attribution import Attribution, Contributions, attribute, contributions, get
from handful.attribution.state import model_device, model_dtype, unwrap
from handful.errors import UserError, did_you_mean
from handful.explain.comparison import compare_with_runner_up
from handful.explain.explanation import SIDE, Explanation, MethodMap
from handful.explain.hierarchy import hierarchy
from handful.explain.possible import Sets, possible_classes
from handful.explain.scores import class_score, feature_contributions, strongest_classes
from handful.images import Inputs, PictureBatch, Pictures, upright_rgb
from handful.networks import Classifier

#: A picture: its file, an image of Pillow, pixels uint8 `(H, W, 3)`, or a normalised image `(3, H, W)`.
Picture = str | Path | Image.Image | np.ndarray | Tensor


class Explainer:
    """Explains images of one classifier.

    Args:
        model: a classifier; left as it was found.
        inputs: class names, image size and normalisation; `model.inputs` where None.
        methods: names of attribution methods.
        target: the class explained: "pred" for each image's predicted one, or a class by name or number.
        features: how many features are drawn at most.
        seed: of methods that draw random numbers.
        sets: calibrated sets of classes, to say which classes an image may be of.

    Raises:
        UserError: no such method or class, a model that is not a classifier, or one that does not know its inputs.

    Example:
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> Explainer(model, Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.5,) * 3), methods="cam,ig").methods
        ['cam', 'integrated_gradients']
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs | None = None,
        methods: Sequence[str] | str = ("cam", "integrated_gradients"),
        target: str | int = "pred",
        features: int = 5,
        seed: int = 0,
        sets: Sets | None = None,
    ) -> None:
        self.methods = method_names(methods)
        if features < 1:
            raise UserError(f"features must be at least 1, not {features}")
        if not 0 <= seed < 2**63:
            raise UserError(f"seed: a whole number from 0 to 2^63 − 1, not {seed}")
        bare = unwrap(model)
        if not isinstance(bare, Classifier):
            raise UserError(f"a {type(bare).__name__} is not a classifier of feature maps that could be explained")
        found = inputs or bare.inputs
        if found is None:
            raise UserError("the model does not know the names of its classes, its image size and its normalisation: "
                            "give inputs=handful.images.Inputs(class_names, image_size, mean, std)")  # fmt: skip
        if len(found.class_names) != bare.num_classes:
            raise UserError(f"{len(found.class_names)} class names are given for a model of {bare.num_classes} classes")
        self.model, self.inputs = bare, found
        self.target = class_number(target, found.class_names)
        self.features, self.seed, self.sets = features, seed, sets

    def explain(self, batch: PictureBatch) -> list[Explanation]:
        """Return the explanation of every image of a batch.

        Args:
            batch: with pictures for the eye, see `Pictures.batches`.

        Raises:
            UserError: logits that are not finite numbers.
        """
        names = self.inputs.class_names
        images = batch.images.to(model_device(self.model), model_dtype(self.model))
        try:
            there = contributions(self.model, images, "pred" if self.target is None else self.target)
        except UserError:
            with torch.no_grad():
                _refuse_broken(self.model(images).cpu(), batch.names)  # by the names of the pictures
            raise
        parts = there.cpu()
        _refuse_broken(parts.logits, batch.names)
        target, predicted = parts.classes, parts.logits.argmax(dim=1)
        logits = self.model.head.in_float64(parts.features)
        found = {name: self._attribute(name, images, target, batch.names, there.maps) for name in self.methods}
        members = None if self.sets is None else self.sets.of(parts.features.float())
        results = []
        for row, name in enumerate(batch.names):
            own = _of_image(parts, row)
            next_best = class_score(int(own.runner_up[0]), logits[row], names)
            label = batch.labels[row]
            results.append(
                Explanation(
                    name=name,
                    prediction=class_score(int(predicted[row]), logits[row], names),
                    explained=class_score(int(target[row]), logits[row], names),
                    top=strongest_classes(logits[row], names),
                    image=self._shown(batch, row),
                    contributions=feature_contributions(own, 0),
                    bias=float(own.bias[0]),
                    runner_up=compare_with_runner_up(own, 0, next_best, self.model.head),
                    methods={method: method_map(one, row, names) for method, one in found.items()},
                    parts=own,
                    true=None if label is None else names[label],
                    file=batch.file_name(row),
                    shown_features=self.features,
                    feature_names=self._names(own, members, row),
                    possible=None if members is None or self.sets is None else possible_classes(
                        members[row], self.sets.coverage, logits[row], self.model.head, names, own.features[0]
                    ),
                    hierarchy=hierarchy(self.model.head, own.features[0], int(predicted[row]), names),
                )
            )
        return results

    def _names(self, own: Contributions, members: Tensor | None, row: int) -> dict[int, str]:
        """Names that a person gave to features of the classes that the explanation of an image speaks of."""
        if not self.model.feature_names:
            return {}
        classes = {int(own.classes[0]), int(own.runner_up[0])}
        classes |= set() if members is None else set(members[row].nonzero()[:, 0].tolist())
        weights = self.model.head.class_weights()[0][sorted(classes)].cpu()
        used = (weights != 0).any(dim=0) | (own.weights[0] != 0)
        return {feature: name for feature, name in self.model.feature_names.items() if used[feature]}

    def _shown(self, batch: PictureBatch, row: int) -> Tensor:
        return self.inputs.denormalise(batch.images[row]) if batch.shown is None else batch.shown[row]

    def _attribute(self, method: str, images: Tensor, target: Tensor, ids: Sequence[str], maps: Tensor) -> Attribution:
        return attribute(
            self.model,
            images,
            target,
            method=method,
            normalisation=(self.inputs.mean, self.inputs.std),
            seed=self.seed,
            image_ids=ids,
            maps=maps,
        ).cpu()


def explain(
    model: nn.Module,
    image: Picture,
    methods: Sequence[str] | str = ("cam",),
    target: str | int = "pred",
    features: int = 5,
    seed: int = 0,
    inputs: Inputs | None = None,
) -> Explanation:
    """Explain why a model decides about one image as it does.

    Args:
        model: a classifier, as `handful.load` returns it; left as it was found.
        image: its file; an image of Pillow; pixels uint8 `(H, W, 3)`; or an image `(3, H, W)` or `(1, 3, H, W)`,
            normalised, as the model sees it.
        methods: names of attribution methods, as a sequence or with commas between; "none" or () for no maps.
        target: the class to explain: "pred" for the predicted one, or a class by name or number.
        features: how many features are drawn at most.
        seed: of methods that draw random numbers.
        inputs: class names, image size and normalisation, where the model does not carry them.

    Returns:
        Features, contributions that add up to the class's logit, maps and the runner-up.

    Raises:
        UserError: an image that cannot be read, no such method or class, a model that cannot be explained.

    Example:
        >>> from handful.networks import Classifier, build_classifier
        >>> _ = torch.manual_seed(0)
        >>> model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 3).eval()
        >>> model.inputs = Inputs(["crow", "owl", "wren"], 32, (0.5,) * 3, (0.25,) * 3)
        >>> why = explain(model, Image.new("RGB", (40, 32), "brown"))
        >>> total = sum(part.contribution for part in why.contributions) + why.bias
        >>> abs(total - why.explained.logit) < 1e-9, list(why.maps)
        (True, ['cam'])
    """
    explainer = Explainer(model, inputs, methods, target, features, seed)
    return explainer.explain(_one(image, explainer.inputs))[0]


def _one(image: Picture, inputs: Inputs) -> PictureBatch:
    """A picture of any kind as a batch of one."""
    if isinstance(image, str | Path):
        pictures = Pictures(Path(image).expanduser(), inputs)
        if pictures.where.is_dir():
            raise UserError(f"{image} is a folder; explain takes one image")
        return next(pictures.batches(1, "", SIDE))
    if isinstance(image, Tensor):
        images = image[None] if image.dim() == 3 else image
        if images.dim() != 4 or len(images) != 1 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"image: a normalised image (3, H, W) in floating point is explained, not {image.dtype} "
                f"{tuple(image.shape)}; pixels are given as an array (H, W, 3)"
            )
        return PictureBatch(["image"], [], images.detach().float(), None, [None])
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"image: pixels are uint8 (H, W, 3), not {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise UserError(f"image: a file, a picture, pixels or a normalised image, not {type(image).__name__}")
    upright = upright_rgb(image, inputs.white)
    shown = inputs.shown(upright, SIDE)[None]
    return PictureBatch(["image"], [], inputs.image(upright)[None], shown, [None])


def method_names(methods: Sequence[str] | str) -> list[str]:
    """Full names of attribution methods, each once; "none" names none.

    Raises:
        UserError: there is no such method.

    Example:
        >>> method_names("ig, cam,ig"), method_names("none")
        (['integrated_gradients', 'cam'], [])
    """
    given = methods.split(",") if isinstance(methods, str) else methods
    named = [name.strip() for name in given if name.strip() not in ("", "none")]
    return list(dict.fromkeys(get(name).name for name in named))


def class_number(target: str | int, names: Sequence[str]) -> int | None:
    """The class that a target means; None for "pred", each image's own.

    Raises:
        UserError: there is no such class.
    """
    if target == "pred":
        return None
    if isinstance(target, str) and target in names:
        return list(names).index(target)
    number = int(target) if isinstance(target, int) or target.isdecimal() else -1
    if 0 <= number < len(names):
        return number
    some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    near = did_you_mean(str(target), ["pred", *names])
    raise UserError(f"target: no class {target!r}; give pred, 0 to {len(names) - 1} or a name: {some}{near}")


def method_map(found: Attribution, row: int, names: Sequence[str]) -> MethodMap:
    """What a method found in one image of a batch."""
    assert found.targets is not None
    details: dict[str, Any] = {}
    if found.completeness is not None:
        details["completeness"] = float(found.completeness[row])
    for name, value in found.notes.items():
        details[name] = value[row].item() if isinstance(value, Tensor) else value
    return MethodMap(
        get(found.method).title,
        found.map()[row],
        found.raw[row],
        found.signed,
        names[int(found.targets[row])],
        float(found.scores[row]),
        details,
    )


def _of_image(parts: Contributions, row: int) -> Contributions:
    """One image's part of a batch's contributions."""
    return Contributions(**{f.name: getattr(parts, f.name)[row : row + 1] for f in fields(Contributions)})


def _refuse_broken(logits: Tensor, names: Sequence[str]) -> None:
    """Refuse logits that are not numbers, which would be taken for the first class."""
    broken = (~torch.isfinite(logits).all(dim=1)).nonzero()[:, 0].tolist()
    if broken:
        raise UserError(
            f"the logits of {len(broken)} of {len(logits)} images, {names[broken[0]]} the first, are not finite, so "
            "nothing can be explained; take the weights of an earlier stage"
        )
