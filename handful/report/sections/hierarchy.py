"""From all classes to one, feature by feature, as a binary head decides about single images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from handful.attribution.state import model_device
from handful.conformal.hierarchy import class_paths, level_sizes
from handful.explain.deciding import SIDE, DecidingFeatures
from handful.explain.hierarchy import has_hierarchy, hierarchy, steps_in_words
from handful.networks.heads import SparseHead
from handful.report.content import Content
from handful.report.overlays import overlay, picture

#: Right decisions and errors that are shown.
RIGHT, ERRORS = 3, 1


def build(content: Content) -> Mapping[str, Any] | None:
    """Images with their steps; None where the head has no hierarchy."""
    deciding, inputs = content.deciding, content.inputs
    if deciding is None or content.dataset is None or inputs is None or not has_hierarchy(deciding.model.head):
        return None
    chosen = [*_gradual(deciding, True, RIGHT), *_gradual(deciding, False, ERRORS)]
    return {"cards": [_card(index, deciding, content) for index in chosen]} if chosen else None


@torch.no_grad()
def _gradual(deciding: DecidingFeatures, right: bool, count: int) -> list[int]:
    """Images of different classes whose classes become fewer in the most steps, the surest decisions first."""
    head = deciding.model.head
    assert isinstance(head, SparseHead)
    present = head.standardise(deciding.features.to(model_device(deciding.model))).clamp(min=0).cpu()
    paths, _ = class_paths(present, (head.weight != 0).cpu())
    sizes = level_sizes(paths, deciding.predicted)
    steps = (sizes[:, 1:] < sizes[:, :-1]).sum(dim=1)
    wanted = ((deciding.predicted == deciding.labels) == right).nonzero()[:, 0].tolist()
    order = sorted(wanted, key=lambda i: (-int(steps[i]), -float(deciding.probability[i]), i))
    found: dict[int, int] = {}
    for index in order:
        if steps[index] and len(found) < count:
            found.setdefault(int(deciding.predicted[index]), index)
    return list(found.values())


@torch.no_grad()
def _card(index: int, deciding: DecidingFeatures, content: Content) -> dict[str, Any]:
    assert content.dataset is not None
    assert content.inputs is not None
    batch = content.dataset[index][0][None]
    maps: Tensor = deciding.model.feature_maps(batch.to(model_device(deciding.model)))[0].cpu()
    image = content.inputs.denormalise(batch)[0]
    predicted = int(deciding.predicted[index])
    levels = hierarchy(deciding.model.head, deciding.features[index], predicted, deciding.names)
    return {
        "predicted": deciding.names[predicted],
        "truth": deciding.names[int(deciding.labels[index])],
        "image": picture(image, SIDE),
        "levels": [level.to_dict() for level in levels],
        "maps": {level.feature: overlay(image, maps[level.feature], side=SIDE) for level in levels},
        "labels": dict(content.feature_names),
        "in_words": steps_in_words(levels, len(deciding.names), content.feature_names),
    }
