"""The explanatory graph of the features that the head looks at, and of the layers below."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from handful.explain.layer_maps import layer_maps, stage_layers
from handful.explain.layered_graph import GraphLayer, explanatory_graph, part_purity
from handful.explain.part_graph import Node, Peaks, find_peaks, joined, stable_edges
from pipelines.measures.registry import Measure, Measured, register_measure
from pipelines.measures.subject import Observed, Subject


@register_measure("explanatory_graph", group="graph")
class ExplanatoryGraph(Measure):
    """Nodes of each feature and of filters below, their places to one another, and the parts that they lie on."""

    title = "which parts a feature mixes: nodes per feature and layer, and nodes that keep their places to one another"
    needs_maps = True

    #: Features that are looked at, at most, and filters of each layer below: the first in their order.
    FEATURES, FILTERS = 64, 32
    #: Images whose lower layers are looked at, at most: the first.
    IMAGES = 300

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.count = min(self.FEATURES, len(subject.used))
        self.found: dict[str, list[Peaks]] = {"feature maps": []}
        first = subject.images.pixels(subject.images.indices[:1]).to(subject.weight.device)
        self.layers = stage_layers(subject.model, first)
        self.seen = 0

    def update(self, observed: Observed) -> None:
        """Note where features peak, and filters of the layers below."""
        self.found["feature maps"].append(find_peaks(observed.maps[:, : self.count], observed.indices))
        number = min(len(observed.indices), self.IMAGES - self.seen)
        if number and self.layers:
            self.seen += number
            below = layer_maps(self.subject.model, observed.images[:number], self.layers)
            for name, maps in below.items():
                peaks = find_peaks(maps[:, : self.FILTERS].float(), observed.indices[:number], surroundings=False)
                self.found.setdefault(name, []).append(peaks)

    def compute(self) -> Measured:
        """Nodes per feature, peaks that nodes explain, purity; in the details, nodes, links and edges."""
        layers = explanatory_graph(
            [(name, joined(peaks)) for name, peaks in self.found.items()], seed=self.subject.options.seed
        )
        top = layers[0]
        active = {node.filter for node in top.nodes}
        several = len({node.filter for node in top.nodes if node.share < 1})
        edges = stable_edges(top.peaks, top.nodes)
        values = {
            "nodes_per_feature": len(top.nodes) / len(active) if active else float("nan"),
            "features_of_several_nodes": several / len(active) if active else float("nan"),
            "stable_edges": float(len(edges)),
        }
        details: dict[str, Any] = {"layers": []}
        for place, layer in enumerate(layers):
            on_parts = self._on_parts(layer.peaks)
            table = _purities(layer, on_parts)
            if place:
                table["explained"] = 1 - layer.unexplained
            values |= {f"{name}, layer {place}" if place else f"{name}": value for name, value in table.items()}
            numbers = None if place else self.subject.used.tolist()
            details["layers"].append({"name": layer.name, **table, "nodes": _rows(layer, on_parts, numbers)})
        details["nodes"] = details["layers"][0]["nodes"]
        details["edges"] = [
            vars(edge) | {"nodes": list(edge.nodes), "offset": list(edge.offset)} for edge in edges[:50]
        ]
        return Measured(values, details)

    def _on_parts(self, peaks: Peaks) -> dict[str, Tensor]:
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


def _purities(layer: GraphLayer, on_parts: Mapping[str, Tensor]) -> dict[str, float]:
    """Purity of nodes, and of the whole filters that they are of; nothing where no masks are known."""
    if not on_parts:
        return {}
    table = torch.stack(list(on_parts.values()), dim=1)
    divided = sorted({node.filter for node in layer.nodes})
    whole = [(layer.peaks.filters == number).nonzero()[:, 0] for number in divided]
    return {
        "node_purity": part_purity([node.members for node in layer.nodes], table),
        "filter_purity": part_purity(whole, table),
    }


def _rows(layer: GraphLayer, on_parts: Mapping[str, Tensor], numbers: list[int] | None) -> list[dict[str, Any]]:
    """One row per node; `numbers` are the backbone's own of the features, where the layer's are others."""
    return [
        {"feature": node.filter if numbers is None else numbers[node.filter], "peaks": node.peaks, "share": node.share,
         "parts": _shares(node, on_parts),
         "links": [vars(link) | {"offset": list(link.offset)} for link in links]}
        for node, links in zip(layer.nodes, layer.links, strict=True)
    ]  # fmt: skip


def _shares(node: Node, on_parts: Mapping[str, Tensor]) -> dict[str, float]:
    """Part → share of a node's peaks on it, the largest first."""
    shares = {part: float(on[node.members].double().mean()) for part, on in on_parts.items()}
    return {part: round(share, 4) for part, share in sorted(shares.items(), key=lambda item: -item[1]) if share}
