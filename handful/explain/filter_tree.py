"""A decision tree over filters that says after which of them a network decides."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from handful.conversions import as_labels, check_whole
from handful.errors import UserError
from handful.metrics.finite import as_finite


@dataclass(frozen=True)
class TreeDecision:
    """How the tree decides about one image.

    Attributes:
        predicted: the class.
        probability: share of the leaf's training images that the network gave this class.
        start: the same of all training images.
        path: per step the feature, the threshold, and whether the image's value exceeds it.
        contributions: feature → change of the probability of `predicted` at its steps; with `start` they add up to
            `probability`.

    Example:
        >>> TreeDecision(1, 1.0, 0.5, [(3, 0.2, True)], {3: 0.5}).contributions
        {3: 0.5}
    """

    predicted: int
    probability: float
    start: float
    path: list[tuple[int, float, bool]]
    contributions: dict[int, float]


class FilterTree:
    """A decision tree on pooled features that follows a network's decisions.

    Fitted to what the network predicts, not to the labels. Its fidelity on other images says how far it may be taken
    for the network.

    Args:
        features: `(N, S)`, pooled.
        decisions: int64 `(N,)`, the classes that the network predicts.
        max_leaves: at most, at least 2; as many as the decisions need where None.
        min_images: of a leaf, at least.
        seed: chooses among equally good divisions.

    Raises:
        UserError: no image, shapes that do not fit one another, or features that are not finite.

    Source: Zhang and Zhu 2018 (arXiv 1802.00614), section 6: which filters are used for a prediction, and how much they
    contribute; contributions along the path as Palczewska et al. 2014 (arXiv 1312.1121) for forests.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [0.1, 0.0], [0.9, 1.0], [1.0, 0.0]])
        >>> tree = FilterTree(features, torch.tensor([0, 0, 1, 1]), min_images=1)
        >>> tree.fidelity(features, torch.tensor([0, 0, 1, 1])), tree.explain(features[3]).contributions
        (1.0, {0: 0.5})
    """

    def __init__(
        self, features: Tensor, decisions: Tensor, max_leaves: int | None = None, min_images: int = 5, seed: int = 0
    ) -> None:
        features = as_finite(features, (None, None), "features")
        decisions = as_labels(decisions, len(features), name="decisions")
        if not features.numel():
            raise UserError("features: a tree needs an image and a feature at least")
        if max_leaves is not None:
            check_whole("max_leaves", max_leaves, 2)
        self.tree = DecisionTreeClassifier(
            max_leaf_nodes=max_leaves, min_samples_leaf=check_whole("min_images", min_images, 1), random_state=seed
        )
        self.tree.fit(features.detach().cpu().numpy(), decisions.cpu().numpy())

    @property
    def leaves(self) -> int:
        """How many leaves it has."""
        return int(self.tree.get_n_leaves())

    @property
    def used(self) -> list[int]:
        """The features that any division looks at."""
        return sorted({int(feature) for feature in self._nodes.feature if feature >= 0})

    def predict(self, features: Tensor) -> Tensor:
        """The classes `(N,)` of features `(N, S)`."""
        return torch.from_numpy(self.tree.predict(features.detach().cpu().numpy()))

    def fidelity(self, features: Tensor, decisions: Tensor) -> float:
        """Share of images about which the tree and the network agree, in [0, 1]; NaN without images."""
        features = as_finite(features, (None, self.tree.n_features_in_), "features")
        decisions = as_labels(decisions, len(features), name="decisions").cpu()
        return float((self.predict(features) == decisions).double().mean()) if len(features) else float("nan")

    def explain(self, features: Tensor) -> TreeDecision:
        """How the tree decides about an image, from its features `(S,)`."""
        row = as_finite(features[None], (1, self.tree.n_features_in_), "features").detach().cpu().numpy()
        nodes = self._nodes
        passed = self.tree.decision_path(row).indices
        shares = nodes.value[passed, 0]
        shares = shares / shares.sum(axis=1, keepdims=True)
        column = int(shares[-1].argmax())
        path: list[tuple[int, float, bool]] = []
        contributions: dict[int, float] = {}
        for step, node in enumerate(passed[:-1]):
            feature, threshold = int(nodes.feature[node]), float(nodes.threshold[node])
            path.append((feature, threshold, bool(np.float32(row[0, feature]) > threshold)))
            change = float(shares[step + 1, column] - shares[step, column])
            contributions[feature] = contributions.get(feature, 0.0) + change
        return TreeDecision(
            int(self.tree.classes_[column]), float(shares[-1, column]), float(shares[0, column]), path, contributions
        )

    @property
    def _nodes(self) -> Any:
        return self.tree.tree_
