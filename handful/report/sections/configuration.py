"""The configuration that repeats the run, and what its numbers depend on."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content


def build(content: Content) -> Mapping[str, Any]:
    """The configuration as text."""
    return {"config": content.config}
