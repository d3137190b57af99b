"""Names that classes had in earlier versions, so that earlier configs and runs are still read."""

import re
from typing import Any

_PHASES = {
    "Sparsify": "sparsify",
    "Evaluate": "evaluate",
    "CompareMaps": "compare_maps",
    "FindFilters": "class_filters",
}

#: Earlier path → present one.
RENAMED = {
    **{f"lightning_modules.{name}": f"pipelines.phases.{name}" for name in _PHASES},
    **{f"lightning_modules.{file}.{name}": f"pipelines.phases.{name}" for name, file in _PHASES.items()},
    "lightning_modules.base.sgd": "lightning_modules.classifier.sgd",
}

_PATH = re.compile(rf"(?<![\w.])({'|'.join(sorted(map(re.escape, RENAMED), key=len, reverse=True))})(?![\w.])")


def renamed(text: str) -> str:
    """The text of a config with the present names."""
    return _PATH.sub(lambda match: RENAMED[match.group(0)], text)


def with_present_names(value: Any) -> Any:
    """Plain values with the present names."""
    if isinstance(value, dict):
        return {key: with_present_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_present_names(item) for item in value]
    return RENAMED.get(value, value) if isinstance(value, str) else value
