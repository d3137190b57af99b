"""A decision tree that follows the network's decisions."""

from typing import ClassVar

import torch

from handful.explain.filter_tree import FilterTree
from handful.explain.gather import gather_features
from pipelines.measures.registry import Better, Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject


@register_measure("decision_tree", group="tree")
class DecisionTree(Measure):
    """A tree over the features that the head looks at, fitted to the training images."""

    title = "how far a decision tree over the features follows the network"
    better: ClassVar[Better] = "higher"

    #: Decisions that the details explain.
    EXPLAINED = 10

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.features: list[torch.Tensor] = []
        self.decisions: list[torch.Tensor] = []
        self.indices: list[int] = []

    def update(self, observed: Observed) -> None:
        """Keep features and decisions."""
        self.features.append(observed.features.float().cpu())
        self.decisions.append(observed.logits.argmax(dim=1).cpu())
        self.indices += observed.indices

    @torch.no_grad()
    def compute(self) -> Measured:
        """Fidelity and size; in the details, the first decisions. One pass over the training images."""
        subject, data = self.subject, self.subject.data
        loader = data.evaluation_loader(data.plain_dataset("train"))
        features, _ = gather_features(subject.model, loader, "training")
        logits = subject.model.head(features.to(subject.weight.device))
        tree = FilterTree(features[:, subject.used], logits.argmax(dim=1).cpu(), seed=subject.options.seed)
        own = torch.cat(self.features)
        fidelity = tree.fidelity(own, torch.cat(self.decisions))
        numbers = subject.used.tolist()
        rows = []
        for index, row in zip(self.indices[: self.EXPLAINED], own, strict=False):
            found = tree.explain(row)
            rows.append({
                "image": subject.images.dataset.names[index],
                "class": data.class_names[found.predicted],
                "probability": found.probability,
                "start": found.start,
                "contributions": {str(numbers[place]): value for place, value in found.contributions.items()},
            })  # fmt: skip
        values = {"tree_fidelity": fidelity, "tree_leaves": float(tree.leaves), "tree_features": float(len(tree.used))}
        return Measured(values, {"decisions": rows})
