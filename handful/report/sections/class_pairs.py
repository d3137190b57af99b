"""Pairs of classes that differ in one feature: what they share, and what parts them, on a picture of each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from handful.attribution.state import model_device
from handful.explain.deciding import SIDE, DecidingFeatures
from handful.explain.hierarchy import has_hierarchy
from handful.images import Inputs
from handful.networks.heads import SparseHead
from handful.report.content import Content
from handful.report.overlays import overlay, picture

#: Pairs that are shown, those mistaken for one another most first.
SHOWN = 4


def build(content: Content) -> Mapping[str, Any] | None:
    """The pairs with their pictures; None where no two classes share all features but one."""
    deciding, inputs = content.deciding, content.inputs
    if deciding is None or content.dataset is None or inputs is None:
        return None
    head = deciding.model.head
    if not isinstance(head, SparseHead) or not has_hierarchy(head):
        return None
    uses = (head.weight != 0).cpu()
    pairs = sharing_classes(uses, deciding.labels, deciding.predicted)
    if not pairs:
        return None
    selection = head.selection.tolist()
    shown = [_pair(pair, uses, selection, deciding, content, inputs) for pair in pairs[:SHOWN]]
    return {"pairs": [pair for pair in shown if pair], "count": len(pairs), "shared": int(uses[0].sum()) - 1}


def sharing_classes(uses: Tensor, labels: Tensor, predicted: Tensor) -> list[tuple[int, int]]:
    """Pairs of different classes that share all features but one, those mistaken for one another most first.

    Args:
        uses: `(C, n)` Booleans, as many features for every class; none where that is one, as then none is shared.
        labels: int64 `(N,)`, the true classes.
        predicted: int64 `(N,)`.

    Example:
        >>> uses = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()
        >>> sharing_classes(uses, torch.tensor([1, 2]), torch.tensor([2, 2]))
        [(1, 2), (0, 1), (0, 2)]
    """
    rows = uses.float()
    shared = int(uses[0].sum()) - 1
    if shared < 1:
        return []
    found = (rows @ rows.T == shared).triu(1).nonzero().tolist()
    mistaken = torch.zeros(len(uses), len(uses), dtype=torch.int64)
    mistaken.index_put_((labels, predicted), torch.ones_like(labels), accumulate=True)
    return sorted(((c, d) for c, d in found), key=lambda pair: (-int((mistaken + mistaken.T)[pair]), pair))


@torch.no_grad()
def _pair(
    classes: tuple[int, int],
    uses: Tensor,
    selection: list[int],
    deciding: DecidingFeatures,
    content: Content,
    inputs: Inputs,
) -> dict[str, Any] | None:
    """Two classes on an image of each, the one recognised most clearly."""
    assert content.dataset is not None
    one, other = classes
    logits = deciding.model.head(deciding.features.to(model_device(deciding.model))).cpu()
    chosen = []
    for c in (one, other):
        own = (deciding.labels == c).nonzero()[:, 0]
        if not len(own):
            return None
        rest = logits[own].clone()
        rest[:, c] = -torch.inf
        chosen.append(int(own[(logits[own, c] - rest.amax(dim=1)).argmax()]))
    batch = torch.stack([content.dataset[index][0] for index in chosen])
    maps = deciding.model.feature_maps(batch.to(model_device(deciding.model))).cpu()
    images = inputs.denormalise(batch)
    shared = [selection[i] for i in (uses[one] & uses[other]).nonzero()[:, 0].tolist()]
    parting = {c: [selection[i] for i in (uses[c] & ~uses[d]).nonzero()[:, 0].tolist()] for c, d in
               ((one, other), (other, one))}  # fmt: skip
    captions = [(f, "both") for f in shared]
    captions += [(f, f"only {deciding.names[c]}") for c in (one, other) for f in parting[c]]
    return {
        "names": [deciding.names[one], deciding.names[other]],
        "shared": [(content.label(f), content.feature_link(f)) for f in shared],
        "parting": [[(content.label(f), content.feature_link(f)) for f in parting[c]] for c in (one, other)],
        "rows": [
            {
                "name": deciding.names[c],
                "image": picture(images[row], SIDE),
                "maps": [
                    (overlay(images[row], maps[row, f], side=SIDE), content.label(f), caption)
                    for f, caption in captions
                ],
            }
            for row, c in enumerate((one, other))
        ],
    }
