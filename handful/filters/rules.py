"""Rules by which a class chooses its few features."""

from typing import Literal, TypeVar, get_args

from torch import Tensor

from handful.conversions import as_float
from handful.errors import UserError
from handful.filters.ranking import top_features
from handful.filters.statistics import FeatureStatistics

Rule = Literal["frequency", "contribution", "activation", "weight", "absolute_weight"]
T = TypeVar("T")
RULES: tuple[Rule, ...] = get_args(Rule)


def score_features(
    rule: Rule,
    statistics: FeatureStatistics | None = None,
    weight: Tensor | None = None,
    k1: float = 5,
) -> Tensor:
    """Score `(C, F)`, on the CPU, of every feature for every class; the highest are the class's filters.

    Args:
        rule: `frequency`: how often the feature is among the strongest `k1` of an image (the paper's);
            `activation`: its mean; `contribution`: its mean times its weight, what it adds to the logit;
            `weight`: its signed weight; `absolute_weight`: the weight's absolute value (the paper's
            comparison). The last two need no images.
        statistics: one pass over images; for `frequency`, `activation` and `contribution`.
        weight: `(C, F)`, the last layer; for the rules that look at it.
        k1: for `frequency`, one of the values counted.

    Raises:
        UserError: an unknown rule, a class without images, or a `k1` that was not counted.
        UserError: the rule needs statistics or a weight that is not given.

    Example:
        >>> import torch
        >>> score_features("absolute_weight", weight=torch.tensor([[-2.0, 1.0]])).tolist()
        [[2.0, 1.0]]
    """
    if rule not in RULES:
        raise UserError(f"rule: no {rule!r}; there are {', '.join(RULES)}")
    if rule in ("weight", "absolute_weight"):
        given = _given(weight, rule, "the weights of the last layer")
        scores = as_float(given, (None, None), "weight").detach().cpu()
        return scores.abs() if rule == "absolute_weight" else scores
    statistics = _given(statistics, rule, "statistics over images")
    empty = (statistics.images == 0).nonzero()
    if len(empty):
        raise UserError(f"no image of class {int(empty[0])} was seen, so its filters cannot be found")
    if rule == "frequency":
        return statistics.counts_of(k1)
    if rule == "activation":
        return statistics.means()
    shape = (statistics.num_classes, statistics.num_features)
    weight = as_float(_given(weight, rule, "the weights of the last layer"), shape, "weight")
    return statistics.means() * weight.detach().cpu().double()


def select_filters(
    rule: Rule,
    k2: int,
    statistics: FeatureStatistics | None = None,
    weight: Tensor | None = None,
    k1: float = 5,
) -> Tensor:
    """The filters of every class: `(C, k2)` int64, best first, ties by index. Arguments as `score_features`.

    Example:
        >>> import torch
        >>> select_filters("weight", 2, weight=torch.tensor([[0.0, 3.0, 1.0]])).tolist()
        [[1, 2]]
    """
    return top_features(score_features(rule, statistics, weight, k1), k2)


def _given(value: T | None, rule: str, what: str) -> T:
    if value is None:
        raise UserError(f"rule {rule!r} needs {what}")
    return value
