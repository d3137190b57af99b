"""What the numbers depend on: weights, data, versions, digests; and the configuration that repeats the run."""

from collections.abc import Mapping
from typing import Any

from handful.report.content import Content


def build(content: Content) -> Mapping[str, Any]:
    """Facts, digests and the configuration as text."""
    results = content.results
    data = results.get("data", {})
    facts = [("started from", results.get("weights") or "new weights")]
    facts += [("data", f"{data.get('name', '')}, fingerprint {data['fingerprint']}")] if "fingerprint" in data else []
    facts += [("versions", ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items()))]
    for phase in content.phases:
        files = (content.record(phase, "done.json", _has_digests) or {}).get("files", {})
        if "best.ckpt" in files:
            facts.append((f"{phase}/best.ckpt", f"SHA-256 {files['best.ckpt']['sha256'][:16]}…"))
    return {"config": content.config, "facts": [fact for fact in facts if fact[1]]}


def _has_digests(record: Any) -> bool:
    files = record.get("files", {}) if isinstance(record, Mapping) else None
    return isinstance(files, Mapping) and all(
        isinstance(file, Mapping) and isinstance(file.get("sha256"), str) for file in files.values()
    )
