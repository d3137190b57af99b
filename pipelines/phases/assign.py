"""The binary stage: which few features decide, and exactly k of them for every class, by optimisation (QPM)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from handful.assignment import (
    Assignment,
    AssignmentProblem,
    ClassSums,
    LocalitySums,
    Search,
    check_sizes,
    qpm_problem,
    similarity_threshold,
    solve,
    upper_bound,
)
from handful.assignment.constants import check_rho, check_threshold
from handful.atomic import write_json
from handful.conversions import check_real
from handful.errors import UserError
from handful.networks import BinaryHead, Classifier
from handful.networks.heads import MIN_STD
from handful.text import safe_text
from lightning_modules import ClassifierModule, Finetune, Input, load_classifier
from lightning_modules.trained_module import folder_of
from pipelines.phases.base import Phase, Produced
from pipelines.phases.context import Context
from pipelines.phases.dashboards import log_points, log_table


class Assign(Phase):
    """Choose features and assign exactly k of them to every class, on a trained dense classifier.

    Correlations with the classes and the locality of the maps come from one pass through the un-augmented training
    images, as sums over all ranks; rank zero solves. Writes `assignment.json` and `best.ckpt` (a binary classifier)
    into the phase's folder.

    Args:
        n_features: how many features may decide.
        features_per_class: k, of every class.
        source: name of the phase whose classifier is made binary.
        relu: whether a feature below its mean counts as absent (CHiQPM), instead of against its classes.
        rho: int(rho · C) pairs of classes have to share all features but one (0.5 in CHiQPM). Kept as far as it can
            be; the record says how many there are.
        locality: whether features with one clear place on their maps are preferred. With a frozen backbone it costs
            a pass through the images.
        threshold: similarity from which on pairs of features are penalised; the smallest that leaves `n_features`
            mutually dissimilar ones where None.
        restarts: of the search; more take longer.
        seed: of the search.
        bound_seconds: how long a bound on the optimum is looked for, which says how far from it the choice can be; 0
            looks for none.

    Source: QPM (ICLR 2025), CHiQPM (NeurIPS 2025).
    """

    leaves = frozenset({"a network", "a classifier", "a sparse classifier"})
    needs_all_images = True

    def __init__(
        self,
        n_features: int = 50,
        features_per_class: int = 5,
        source: str = "dense",
        relu: bool = False,
        rho: float = 0.0,
        locality: bool = True,
        threshold: float | None = None,
        restarts: int = 30,
        seed: int = 0,
        bound_seconds: float = 0.0,
    ) -> None:
        self.n_features, self.features_per_class = n_features, features_per_class
        self.source, self.relu, self.rho = source, relu, rho
        self.locality, self.threshold = locality, threshold
        self.restarts, self.seed, self.bound_seconds = restarts, seed, bound_seconds
        self._dense: ClassifierModule | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phase of the dense stage."""
        return (Input(self.source, "a classifier"),)

    def check(self, classifier: Classifier) -> None:
        """Refuse sizes for which there is no assignment."""
        check_sizes(classifier.num_classes, classifier.num_features, self.n_features, self.features_per_class)
        check_rho(self.rho, classifier.num_classes)
        Search(restarts=self.restarts, seed=self.seed)
        check_threshold(self.threshold)
        check_real("bound_seconds", self.bound_seconds, 0.0)

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the dense classifier of the `source` phase."""
        self._dense = load_classifier(folder_of(earlier, self.source) / "best.ckpt")

    def run(self, context: Context) -> Produced:
        """Sum over the images, solve on rank zero, write files. A choice cut short starts over: it takes seconds."""
        dense = self._dense or load_classifier(folder_of(context.earlier, self.source) / "best.ckpt")
        sums = _sums(context, dense, self.locality)
        return Produced(module=context.on_rank_zero(lambda: self._solve(context, dense, sums)))

    def _solve(self, context: Context, dense: ClassifierModule, sums: "_Sums") -> Finetune:
        names = context.datamodule.class_names
        correlation = sums.classes.class_correlation()
        varying = correlation.any(dim=0).nonzero()[:, 0]  # of the others some may be local, but none says anything
        if len(varying) < self.n_features:
            raise UserError(
                f"n_features: {self.n_features}, but the features of the phase {self.source!r} that vary with the "
                f"classes over the training images are {len(varying)}; set n_features to that or less"
            )
        without = [name for name, count in zip(names, sums.classes.counts.tolist(), strict=True) if not count]
        if without:
            rank_zero_warn(f"classes without training images, whose features mean nothing: {', '.join(without)}")
        correlation = correlation[:, varying]
        threshold = self.threshold
        if threshold is None:
            threshold = similarity_threshold(correlation, self.n_features)
        problem = qpm_problem(
            correlation,
            None if sums.locality is None else sums.locality.bias()[varying],
            n_features=self.n_features,
            features_per_class=self.features_per_class,
            threshold=threshold,
            rho=self.rho,
        )
        found = solve(problem, Search(restarts=self.restarts, seed=self.seed))
        if found.pairs < problem.pairs:
            rank_zero_warn(
                f"rho: {problem.pairs} pairs of classes were to share all features but one, {found.pairs} do"
            )
        selection = varying[found.selection]
        record = _record(found, problem, selection, threshold, names) | self._bound(problem, found)
        write_json(context.folder.path / "assignment.json", record)
        log_points(context, "assignment", [record])
        rows = [[safe_text(name), ", ".join(map(str, features))] for name, features in record["classes"].items()]
        log_table(context, "assignment_table", ["class", "features"], rows)
        module = self._binary(dense, selection, sums, found)
        context.save(module)
        rank_zero_info(
            f"binary layer: {self.n_features} of {dense.model.num_features} features, {self.features_per_class} of "
            f"them for every class; {found.pairs} pairs of classes differ in one feature"
        )
        return module

    def _bound(self, problem: AssignmentProblem, found: Assignment) -> dict[str, Any]:
        if not self.bound_seconds:
            return {}
        bound = upper_bound(problem, seconds=self.bound_seconds)
        return {"bound": bound.value, "gap": bound.gap(found)}

    def _binary(self, dense: ClassifierModule, selection: Tensor, sums: "_Sums", found: Assignment) -> Finetune:
        module = Finetune(
            dense.network.plain(),
            dense.num_classes,
            n_features=len(selection),
            beta=dense.beta,
            train_backbone=dense.train_backbone,
            head={"kind": "binary", "relu": self.relu},
        )
        module.model.backbone.load_state_dict(dense.model.backbone.state_dict())
        module.model.inputs = dense.model.inputs
        head = module.model.head
        assert isinstance(head, BinaryHead)
        head.assign(selection, *sums.statistics(selection), found.assignment)
        return module


@dataclass
class _Sums:
    """What the choice needs of all training images."""

    classes: ClassSums
    locality: LocalitySums | None

    def statistics(self, selection: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of features, float32."""
        return self.classes.mean[selection].float(), self.classes.std[selection].clamp(min=MIN_STD).float()


def _sums(context: Context, dense: ClassifierModule, locality: bool) -> _Sums:
    """Sums over the un-augmented training images of all ranks, on the CPU."""
    data, model = context.datamodule, dense.model
    classes = ClassSums(model.num_classes, model.num_features)
    places = LocalitySums(model.num_features) if locality else None
    if not (dense.train_backbone or locality):
        found = context.features_of(dense, "train")  # on rank zero, which solves
        if found is not None:
            classes.update(*found)
        return _Sums(classes, None)

    def add(maps: Tensor, labels: Tensor) -> None:
        maps, labels = maps.cpu(), labels.cpu()
        classes.update(model.pool(maps), labels)
        if places is not None:
            places.update(maps)

    context.each_batch_of_maps(model, data.evaluation_loader(data.plain_dataset("train")), add)
    for sums, names in ((classes, ("totals", "squares", "counts")), (places, ("peaks", "border", "images"))):
        for name in names if sums is not None else ():
            setattr(sums, name, context.sum_over_ranks(getattr(sums, name)))
    return _Sums(classes, places)


def _record(
    found: Assignment, problem: AssignmentProblem, selection: Tensor, threshold: float, names: Sequence[str]
) -> dict[str, Any]:
    """The choice in plain values."""
    return {
        "features": selection.tolist(),
        "classes": {
            name: selection[row].tolist() for name, row in zip(names, found.assignment, strict=True)
        },
        "features_per_class": problem.features_per_class,
        "value": found.value,
        "threshold": threshold if threshold < torch.inf else None,
        "pairs": found.pairs,
        "pairs_wanted": problem.pairs,
    }
