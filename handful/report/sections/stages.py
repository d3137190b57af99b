"""Every stage with its measures, and what each phase cost."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content


def build(content: Content) -> Mapping[str, Any]:
    """The table of stages, seconds and memory."""
    seconds, memory = content.results.get("seconds", {}), content.results.get("peak_memory_mib", {})
    return {
        "columns": content.stage_table[0],
        "rows": content.stage_table[1],
        "cost": [[name, f"{spent:.1f}", f"{memory.get(name, float('nan')):.0f}"] for name, spent in seconds.items()],
    }
