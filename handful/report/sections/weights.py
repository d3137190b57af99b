"""W, the whole of what decides: a table of classes and features that can be sorted, searched and pointed at."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content
from handful.report.effects import kind


def build(content: Content) -> Mapping[str, Any] | None:
    """A row per class, a column per feature, the weights as the checkpoint holds them."""
    deciding = content.deciding
    if deciding is None or not content.few or not deciding.used:
        return None
    largest = float(deciding.weights.abs().max()) or 1.0
    rows = [
        {
            "name": row.name,
            "link": content.class_link(label),
            "accuracy": row.accuracy if row.images else None,
            "cells": [_cell(value, own, largest) for value in values],
        }
        for label, (row, values, own) in enumerate(
            zip(
                deciding.classes(),
                deciding.weights.tolist(),
                deciding.weights.abs().amax(dim=1).tolist(),
                strict=True,
            )
        )
    ]
    columns = [
        {"number": f, "label": content.label(f), "link": content.feature_link(f), "classes": int(count)}
        for f, count in zip(deciding.used, (deciding.weights != 0).sum(dim=0), strict=True)
    ]
    return {
        "rows": rows,
        "columns": columns,
        "standardised": deciding.standardised,
        "weights_per_class": float((deciding.weights != 0).sum()) / len(rows),
    }


def _cell(value: float, own_largest: float, largest: float) -> dict[str, Any] | None:
    if not value:
        return None
    return {
        "value": value,
        "kind": kind(value, own_largest),
        "alpha": round(0.12 + 0.5 * abs(value) / largest, 3),
    }
