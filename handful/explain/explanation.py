"""Why a model decides about one image as it does: numbers, maps, and the ways to look at them."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from handful.atomic import atomic
from handful.attribution import Contributions
from handful.explain.comparison import RunnerUp
from handful.explain.feature_names import feature_label
from handful.explain.hierarchy import Level, steps_in_words
from handful.explain.possible import Possible
from handful.explain.scores import ClassScore, Contribution
from handful.report.explain_page import Pictures, explain_page
from handful.report.overlays import Backdrop

#: Side of the pictures: maps are laid over the photograph, not over the few pixels that the model saw.
SIDE = 224

#: A feature whose contribution, or whose share of the lead, is a smaller part of the largest is not drawn.
SMALL = 0.01


@dataclass(frozen=True)
class MethodMap:
    """What one attribution method found in one image.

    Attributes:
        title: of the method.
        map: `(H, W)` at the size of the image, channels reduced.
        raw: as it came out.
        signed: whether the sign means for or against the class.
        target: name of the explained class.
        score: what was explained, the class's logit.
        details: what else the method recorded: `completeness`, `r2`, options.

    Example:
        >>> import torch
        >>> from handful import Inputs, build_classifier, explain
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.5,) * 3)
        >>> why = explain(model, torch.zeros(3, 32, 32), methods="cam")
        >>> why.methods["cam"].map.shape
        torch.Size([32, 32])
    """

    title: str
    map: Tensor
    raw: Tensor
    signed: bool
    target: str
    score: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The numbers in plain values."""
        return {"title": self.title, "target": self.target, "score": self.score, **self.details}


@dataclass(frozen=True)
class Explanation:
    """Why a model decides about one image as it does.

    Attributes:
        name: of the image.
        prediction: the predicted class.
        explained: the class explained, by default the predicted one.
        top: the classes of the highest scores.
        image: `(3, S, S)` in [0, 1], the part of the picture that the model sees.
        contributions: of the features that the explained class weighs, largest first; their sum plus `bias` is
            `explained.logit`.
        bias: of the explained class.
        runner_up: the strongest other class.
        methods: attribution method → what it found.
        parts: the contributions as tensors, of this one image.
        true: name of the true class, where it is known.
        file: where the image comes from.
        shown_features: how many features are drawn at most.
        feature_names: feature → name that a person gave it.
        possible: the classes that it may be of, where sets are calibrated.
        hierarchy: the steps from all classes to the predicted one, where the head is binary.

    Example:
        >>> import torch
        >>> from handful import Inputs, build_classifier, explain
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.5,) * 3)
        >>> why = explain(model, torch.zeros(3, 32, 32), methods="cam")
        >>> total = sum(one.contribution for one in why.contributions) + why.bias
        >>> abs(total - why.explained.logit) < 1e-9
        True
    """

    name: str
    prediction: ClassScore
    explained: ClassScore
    top: tuple[ClassScore, ...]
    image: Tensor
    contributions: tuple[Contribution, ...]
    bias: float
    runner_up: RunnerUp
    methods: Mapping[str, MethodMap]
    parts: Contributions
    true: str | None = None
    file: str | None = None
    shown_features: int = 5
    feature_names: Mapping[int, str] = field(default_factory=dict)
    hierarchy: tuple[Level, ...] = ()
    possible: Possible | None = None

    @property
    def maps(self) -> dict[str, Tensor]:
        """Attribution method → its map `(H, W)`."""
        return {name: found.map for name, found in self.methods.items()}

    @property
    def features(self) -> dict[int, Tensor]:
        """Feature → where it looked, `w·A (h, w)`, the strongest first; the spatial mean is its contribution."""
        return {f: self.parts.map_of(0, f) for f in self.parts.strongest(0, self.shown_features).tolist()}

    @property
    def steps(self) -> str:
        """The steps from all classes to the predicted one in one line; empty where the head is not binary."""
        if not self.hierarchy:
            return ""
        return steps_in_words(self.hierarchy, self.parts.logits.shape[1], self.feature_names)

    @property
    def correct(self) -> bool | None:
        """Whether the prediction is the true class; None where that is not known."""
        return None if self.true is None else self.true == self.prediction.name

    def to_dict(self) -> dict[str, Any]:
        """All numbers in plain values."""
        record: dict[str, Any] = {"name": self.name, "file": self.file}
        record |= {"predicted": self.prediction.to_dict(), "explained": self.explained.to_dict()}
        record["top"] = [one.to_dict() for one in self.top]
        if self.true is not None:
            record |= {"true": self.true, "correct": self.correct}
        record["explained"]["bias"] = self.bias
        record["contributions"] = [one.to_dict() for one in self.contributions]
        if self.feature_names:
            record["feature_names"] = {str(feature): name for feature, name in self.feature_names.items()}
        record["runner_up"] = self.runner_up.to_dict()
        if self.possible is not None:
            record["possible"] = self.possible.to_dict() | {"in_words": self.possible.sentence(self.feature_names)}
        record["hierarchy"] = [level.to_dict() for level in self.hierarchy]
        if self.hierarchy:
            record["hierarchy_in_words"] = self.steps
        record["methods"] = {name: found.to_dict() for name, found in self.methods.items()}
        return record

    def pictures(self) -> Pictures:
        """The image, and every map laid over it."""
        below = Backdrop(self.image, SIDE)
        drawn = Pictures(below.picture)
        noticeable = {part.feature for part in self._noticeable}
        for feature, values in self.features.items():
            if feature in noticeable:
                drawn.features[feature] = below.overlay(values, True)
        parting = self.parts.strongest_lead(0, self.shown_features)
        leads = self.parts.lead[0, parting].abs()
        for feature in parting[leads >= SMALL * leads.max()].tolist() if len(parting) else []:
            if feature in drawn.features and self.parts.other_weights[0, feature] == 0:
                drawn.repeated.append(feature)
                continue
            drawn.lead[feature] = below.overlay(self.parts.lead_map_of(0, feature), True)
        for level in self.hierarchy:
            drawn.steps[level.feature] = below.overlay(self.parts.maps[0, level.feature])
        for name, found in self.methods.items():
            drawn.methods[name] = below.overlay(found.map, found.signed)
        return drawn

    @property
    def _noticeable(self) -> tuple[Contribution, ...]:
        """The contributions but for those that are next to nothing beside the largest, as of features that are 0."""
        least = SMALL * max((abs(part.contribution) for part in self.contributions), default=0.0)
        return tuple(part for part in self.contributions if abs(part.contribution) >= least)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the explanation as a page that needs nothing but itself.

        Args:
            path: a file to write it to as well.
        """
        page = explain_page(f"Why {self.prediction.name}", [], [self.to_dict()], [self.pictures()])
        if path is not None:
            with atomic(Path(path)) as file:
                file.write(page.encode("utf-8"))
        return page

    def _repr_html_(self) -> str:
        """The page, inside a frame of its own and as high as it is, as notebooks show it."""
        page, title = (html.escape(text) for text in (self.to_html(), f"Why {self.prediction.name}"))
        high = "this.style.height=this.contentDocument.documentElement.scrollHeight+'px'"
        style = "width:100%;height:720px;border:0"
        return f'<iframe srcdoc="{page}" title="{title}" onload="{high}" style="{style}"></iframe>'

    def show(self) -> Figure:
        """Draw the explanation with matplotlib: the image, the contributions, where the features looked, the maps."""
        from handful.explain.figure import explanation_figure

        return explanation_figure(self)

    def __str__(self) -> str:
        """One image in one line, for the terminal."""
        text = f"{self.name}: {self.prediction.name} ({100 * self.prediction.probability:.1f} %)"
        if self.true is not None:
            text += " ✓" if self.correct else f" ✗ {self.true}"
        if self.contributions:
            parts = [(feature_label(p.feature, self.feature_names), p.contribution) for p in self._noticeable[:3]]
            if self.explained.name != self.prediction.name:
                text += f"; {self.explained.name} ({100 * self.explained.probability:.1f} %) has {_listed(parts)}"
                text += f"; strongest other {self.runner_up.name}"
            else:
                for_it = [part for part in parts if part[1] > 0] or [("its bias", self.bias)] * (self.bias > 0)
                against = [part for part in parts if part[1] < 0]
                text += f" because of {_listed(for_it)}" if for_it else ""
                text += f"{',' if for_it else ''} in spite of {_listed(against)}" if against else ""
                text += f"; next {self.runner_up.name}"
        return text

    @property
    def in_lines(self) -> list[str]:
        """The image for the terminal: why, then its set of classes and the steps to its class, where there are any."""
        sets = [] if self.possible is None else [f"  {self.possible.sentence(self.feature_names)}"]
        return [str(self), *sets, *([f"  {self.steps}"] if self.hierarchy else [])]


def _listed(parts: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{label} ({value:+.2f})" for label, value in parts)
