"""The explanatory graph of the features that the head looks at."""

import torch

from handful.explain.part_graph import Node, Peaks, find_peaks, joined, part_nodes, stable_edges
from pipelines.measures.registry import Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject


@register_measure("explanatory_graph", group="graph")
class ExplanatoryGraph(Measure):
    """Nodes of each feature, and the parts that they lie on where masks are known."""

    title = "which parts a feature mixes: nodes per feature, and pairs of nodes that keep their places"
    needs_maps = True

    #: Features that are looked at, at most: the first in the order of the head.
    FEATURES = 64

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.count = min(self.FEATURES, len(subject.used))
        self.found: list[Peaks] = []

    def update(self, observed: Observed) -> None:
        """Note where features peak."""
        self.found.append(find_peaks(observed.maps[:, : self.count], observed.indices))

    def compute(self) -> Measured:
        """Nodes per feature and share of features with several; in the details, nodes and edges."""
        peaks = joined(self.found)
        nodes = part_nodes(peaks, self.count, seed=self.subject.options.seed)
        edges = stable_edges(peaks, nodes)
        numbers = self.subject.used.tolist()
        on_parts = self._on_parts(peaks)
        rows = [
            {"feature": numbers[node.filter], "peaks": node.peaks, "share": node.share,
             "parts": _shares(node, on_parts)}
            for node in nodes
        ]  # fmt: skip
        active = {node.filter for node in nodes}
        several = len({node.filter for node in nodes if node.share < 1})
        values = {
            "nodes_per_feature": len(nodes) / len(active) if active else float("nan"),
            "features_of_several_nodes": several / len(active) if active else float("nan"),
            "stable_edges": float(len(edges)),
        }
        strongest = [vars(edge) | {"nodes": list(edge.nodes), "offset": list(edge.offset)} for edge in edges[:50]]
        return Measured(values, {"nodes": rows, "edges": strongest})

    def _on_parts(self, peaks: Peaks) -> dict[str, torch.Tensor]:
        """Part → bool `(P,)`, whether each peak lies on it."""
        known = self.subject.images.masks
        if known is None:
            return {}
        parts = [place for place, concept in enumerate(known.concepts) if concept.kind == "part"]
        on = torch.zeros(len(peaks.images), len(parts), dtype=torch.bool)
        for image in peaks.images.unique().tolist():
            own = (peaks.images == image).nonzero()[:, 0]
            masks = known.masks([image])[0, parts]
            side = torch.tensor([masks.shape[2], masks.shape[1]])
            x, y = (peaks.places[own] * side).long().clamp(min=0).minimum(side - 1).T
            on[own] = masks[:, y, x].T
        return {known.concepts[place].name: on[:, column] for column, place in enumerate(parts)}


def _shares(node: Node, on_parts: dict[str, torch.Tensor]) -> dict[str, float]:
    """Part → share of a node's peaks on it, the largest first."""
    shares = {part: float(on[node.members].double().mean()) for part, on in on_parts.items()}
    return {part: round(share, 4) for part, share in sorted(shares.items(), key=lambda item: -item[1]) if share}
