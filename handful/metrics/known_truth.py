"""The FunnyBirds protocol: is an explanation true of a model whose images can be drawn without each part?

Pure functions of numbers: what the model says of every image without each set of parts, and how important an
explanation says each part is. `handful.metrics.funny_birds` gets both from toy birds.

Source: Hesse, Schaub-Meyer and Roth, ICCV 2023, "FunnyBirds" (arXiv 2308.06248), and the authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from handful.conversions import check_whole
from handful.metrics.plotted import PlottedMetric
from handful.metrics.shaped import ShapedMetric
from handful.metrics.similarity import rank_correlation

#: A background thing counts where the score falls by this share without it.
_RELEVANT = 0.05

#: Which class of an image is explained, in this order.
EXPLAINED = ("label", "predicted", "contrast 1", "contrast 2")


@dataclass(frozen=True)
class Answers:
    """What a model says of N images with P parts and at most K background things.

    Attributes:
        labels: int64 `(N,)`.
        logits: `(N, 2 ** P, C)`; bit p of the index says whether part p is there.
        things: bool `(N, K)`, which things there are.
        without_thing: `(N, K, C)`, logits without each.
    """

    labels: Tensor
    logits: Tensor
    things: Tensor
    without_thing: Tensor

    @property
    def whole(self) -> Tensor:
        """Logits `(N, C)` of the whole images."""
        return self.logits[:, -1]

    def explained(self, pairs: Tensor) -> Tensor:
        """The four classes that are explained, int64 `(N, 4)`, of contrasting `pairs (C, 2)`; the label for none."""
        contrast = pairs.to(self.labels.device)[self.labels]
        contrast = torch.where(contrast >= 0, contrast, self.labels[:, None])
        return torch.cat([self.labels[:, None], self.whole.argmax(dim=1, keepdim=True), contrast], dim=1)


@dataclass(frozen=True)
class Importances:
    """How important an explanation says parts and things are for each of the four explained classes.

    Attributes:
        parts: `(N, 4, P)`.
        things: `(N, 4, K)`.
        total: `(N, 4)`, of the whole image.
    """

    parts: Tensor
    things: Tensor
    total: Tensor


def mass_on(maps: Tensor, masks: Tensor, dilation: int = 5) -> Tensor:
    """Return the sum of maps over masks, float64 `(N, G, M)`.

    Args:
        maps: `(N, G, H, W)`.
        masks: bool `(N, M, H, W)`.
        dilation: side in pixels, odd, of the square that masks are grown by; 5 at 256 pixels in the source.

    Example:
        >>> mass_on(torch.ones(1, 1, 3, 3), torch.eye(3, dtype=torch.bool)[None, None], dilation=1)
        tensor([[[3.]]], dtype=torch.float64)
    """
    check_whole("dilation", dilation, 1)
    grown = functional.max_pool2d(masks.float(), dilation, 1, dilation // 2) if masks.shape[1] else masks
    return torch.einsum("nghw,nmhw->ngm", maps.double(), grown.double())


@dataclass(frozen=True)
class Scores:
    """The protocol's scores of each image, float64; NaN where an image does not count.

    Attributes:
        accuracy: `(N,)`, 1 where the prediction is the label.
        controlled: `(N, T)`, the controlled synthetic data check: the largest share of a sufficient set of parts that
            is important; of recognised images.
        preservation: `(N, T)`, 1 where the prediction stays without all that is not important.
        deletion: `(N, T)`, 1 where it changes without all that is important.
        distractibility: `(N, T)`, one less the share of important ones among the parts and things that do not matter.
        single_deletion: `(N,)`, Spearman's correlation of importance and fall of the score, mapped to [0, 1].
        target_sensitivity: `(N,)`, the share of two contrasting classes whose own parts are more important to it.
        background: `(N, K)`, 1 for a thing that does not matter.
    """

    accuracy: Tensor
    controlled: Tensor
    preservation: Tensor
    deletion: Tensor
    distractibility: Tensor
    single_deletion: Tensor
    target_sensitivity: Tensor
    background: Tensor


def protocol(
    answers: Answers,
    importances: Importances,
    sets: Sequence[Tensor],
    contrast: tuple[Tensor, Tensor],
    thresholds: Tensor,
) -> Scores:
    """Score an explanation on each image.

    A part is important where its share of the map exceeds a threshold: one column per threshold.

    Args:
        answers: of the model.
        importances: of the explanation.
        sets: per class, the sufficient sets of parts, bool `(sets, P)`.
        contrast: per class, two contrasting classes int64 `(C, 2)`, −1 for none, and the parts they share with it,
            bool `(C, 2, P)`.
        thresholds: `(T,)`, shares of the map's sum.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [2.0, 0.0]]])  # the second part decides
        >>> nothing = torch.zeros(1, 0, dtype=torch.bool), torch.zeros(1, 0, 2)
        >>> told = Importances(torch.tensor([[[0.0, 1.0]]]).expand(1, 4, 2), torch.zeros(1, 4, 0), torch.ones(1, 4))
        >>> pairs = torch.full((2, 2), -1), torch.zeros(2, 2, 2, dtype=torch.bool)
        >>> sets = [torch.tensor([[False, True]])] * 2
        >>> found = protocol(Answers(torch.tensor([0]), logits, *nothing), told, sets, pairs, torch.tensor([0.5]))
        >>> float(found.controlled), float(found.preservation), round(float(found.single_deletion), 6)
        (1.0, 1.0, 1.0)
    """
    labels, logits = answers.labels, answers.logits.double()
    n_parts = importances.parts.shape[2]
    bits = 2 ** torch.arange(n_parts, device=labels.device)
    rows = torch.arange(len(labels), device=labels.device)
    predictions = logits.argmax(dim=2)
    predicted = predictions[:, -1]
    right = predicted == labels
    important = importances.parts[:, :2, :, None] > thresholds * importances.total[:, :2, None, None]  # (N, 2, P, T)
    codes = (important[:, 1] * bits[:, None]).sum(dim=1)  # (N, T), for the predicted class
    kept = predictions.gather(1, codes) == predicted[:, None]
    lost = predictions.gather(1, 2**n_parts - 1 - codes) != predicted[:, None]
    controlled = torch.stack([_covered(important[row, 0], sets[int(label)]) for row, label in enumerate(labels)])

    score = logits[rows, :, labels]  # (N, 2 ** P)
    whole = score[:, -1:]
    falls = whole - score[:, 2**n_parts - 1 - bits]
    thing_falls = whole - answers.without_thing.double().gather(
        2, labels[:, None, None].expand(-1, answers.things.shape[1], 1)
    ).squeeze(2)
    idle = _idle(torch.cat([falls, thing_falls], dim=1), whole)
    idle &= torch.cat([torch.ones_like(falls, dtype=torch.bool), answers.things], dim=1)
    both = torch.cat([importances.parts[:, 0], importances.things[:, 0]], dim=1)[:, :, None]
    distracted = (both > thresholds * importances.total[:, 0, None, None]) & idle[:, :, None]
    count = idle.sum(dim=1, keepdim=True).double()
    background = _idle(thing_falls, whole).double().masked_fill(~answers.things, torch.nan)
    return Scores(
        accuracy=right.double(),
        controlled=controlled.masked_fill(~right[:, None], torch.nan),
        preservation=kept.double(),
        deletion=lost.double(),
        distractibility=1 - distracted.sum(dim=1) / count,  # NaN where everything matters
        single_deletion=rank_correlation(importances.parts[:, 0], falls) / 2 + 0.5,
        target_sensitivity=_target_sensitivity(logits, labels, importances.parts[:, 2:], contrast),
        background=background,
    )


def _covered(important: Tensor, sets: Tensor) -> Tensor:
    """The largest share `(T,)` of a set `(sets, P)` that is important `(P, T)`."""
    sets = sets.to(important.device).double()
    return (sets @ important.double() / sets.sum(dim=1, keepdim=True)).amax(dim=0)


def _idle(falls: Tensor, whole: Tensor) -> Tensor:
    """Whether the score falls by less than a twentieth of it, stays, as one of 0 does, or rises."""
    return (falls.abs() < _RELEVANT * whole.abs()) | (falls <= 0)


def _target_sensitivity(logits: Tensor, labels: Tensor, parts: Tensor, contrast: tuple[Tensor, Tensor]) -> Tensor:
    """See `Scores`; NaN where the class has no pair, or the model itself does not tell the two apart by the parts."""
    pairs, shared = (one.to(labels.device)[labels] for one in contrast)  # (N, 2), (N, 2, P)
    n_parts = shared.shape[2]
    bits = 2 ** torch.arange(n_parts, device=labels.device)
    without = 2**n_parts - 1 - (shared * bits).sum(dim=2)  # (N, 2): index without the parts of each
    chosen = pairs.clamp_min(0)
    rows = torch.arange(len(labels), device=labels.device)[:, None]
    own, others = logits[rows, without, chosen], logits[rows, without.flip(1), chosen]
    valid = (pairs >= 0).all(dim=1) & (own < others).all(dim=1)
    # importance of the parts that class i shares, said for class i and for the other
    said = torch.einsum("ngp,nsp->nsg", parts.double(), shared.double())  # (N, parts of, class)
    right = torch.stack([said[:, 0, 0] > said[:, 0, 1], said[:, 1, 1] > said[:, 1, 0]], dim=1)
    return right.double().mean(dim=1).masked_fill(~valid, torch.nan)


_BY_THRESHOLD = ("controlled", "preservation", "deletion", "distractibility")
_PLAIN = ("accuracy", "single_deletion", "target_sensitivity", "background")


class KnownTruth(PlottedMetric, ShapedMetric):
    """Average the protocol's scores over images; `compute` puts them together.

    Args:
        thresholds: how many thresholds between 1 % and 50 % of a map's sum are tried; the one where
            `(controlled + preservation + deletion) / 3 + distractibility` is highest counts.

    Example:
        >>> metric = KnownTruth()
        >>> metric.thresholds[[0, -1]].tolist()
        [0.01, 0.5]
    """

    higher_is_better = True
    by_threshold: Tensor
    threshold_counts: Tensor
    plain: Tensor
    plain_counts: Tensor

    def __init__(self, thresholds: int = 80, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = torch.linspace(0.01, 0.5, check_whole("thresholds", thresholds, 1), dtype=torch.float64)
        shape = (len(_BY_THRESHOLD), thresholds)
        self.add_state("by_threshold", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("threshold_counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("plain", torch.zeros(len(_PLAIN), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("plain_counts", torch.zeros(len(_PLAIN), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, answers: Answers, importances: Importances, sets: Sequence[Tensor], contrast: tuple[Tensor, Tensor]
    ) -> None:
        """Add images; see `protocol`."""
        if not len(answers.labels):
            return
        found = protocol(answers, importances, sets, contrast, self.thresholds.to(answers.labels.device))
        for number, name in enumerate(_BY_THRESHOLD):
            values = getattr(found, name).to(self.plain.device)
            self.by_threshold[number] += values.nansum(dim=0)
            self.threshold_counts[number] += (~values.isnan()).sum(dim=0)
        for number, name in enumerate(_PLAIN):
            values = getattr(found, name).to(self.plain.device)
            self.plain[number] += values.nansum()
            self.plain_counts[number] += (~values.isnan()).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, float64 in [0, 1]; NaN where no image counted.

        `accuracy` and `background_independence` are the model's. `completeness` is the mean of two: the mean of
        `controlled`, `preservation` and `deletion`, and `distractibility`, all at the best `threshold`. `correctness`
        is single deletion, `contrastivity` target sensitivity, `explainability` the mean of the three.
        """
        means = self.by_threshold / self.threshold_counts
        accuracy, correctness, contrastivity, background = self.plain / self.plain_counts
        complete = means[:3].mean(dim=0) + means[3]
        best = int(complete.nan_to_num(-1).argmax())
        at_best = {name: means[number, best] for number, name in enumerate(_BY_THRESHOLD)}
        completeness = complete[best] / 2
        return {
            "accuracy": accuracy,
            "background_independence": background,
            **at_best,
            "threshold": self.thresholds[best].to(completeness.device),
            "completeness": completeness,
            "correctness": correctness,
            "contrastivity": contrastivity,
            "explainability": torch.stack([completeness, correctness, contrastivity]).mean(),
        }
