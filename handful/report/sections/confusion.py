"""Which classes are taken for which: worst pairs first, and the whole matrix where it can be read."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import MANY_CLASSES, Content

#: Pairs that are listed.
SHOWN = 200


def build(content: Content) -> Mapping[str, Any] | None:
    """Pairs of true and predicted class by the number of images."""
    deciding = content.deciding
    if deciding is None:
        return None
    counts = deciding.confusion()
    totals = counts.sum(dim=1)
    pairs = []
    for truth, predicted, count in deciding.mistakes(SHOWN):
        mine, theirs = deciding.weights_in(truth), deciding.weights_in(predicted)
        pairs.append(
            {
                "truth": deciding.names[truth],
                "truth_link": content.class_link(truth),
                "predicted": deciding.names[predicted],
                "predicted_link": content.class_link(predicted),
                "count": count,
                "share": 100 * count / float(totals[truth]),
                "common": len(set(mine) & set(theirs)),
            }
        )
    matrix = [
        {
            "name": name,
            "cells": [(count, round(0.62 * count / max(1, total), 3)) for count in row],
        }
        for name, row, total in zip(deciding.names, counts.tolist(), totals.tolist(), strict=True)
    ]
    return {
        "pairs": pairs,
        "errors": int(counts.sum() - counts.diagonal().sum()),
        "images": int(counts.sum()),
        "listed": sum(pair["count"] for pair in pairs),
        "few": content.few,
        "matrix": matrix if len(matrix) <= MANY_CLASSES else [],
    }
