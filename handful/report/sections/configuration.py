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
        files = (content.json(f"{phase}/done.json") or {}).get("files", {})
        if "best.ckpt" in files:
            facts.append((f"{phase}/best.ckpt", f"SHA-256 {files['best.ckpt']['sha256'][:16]}…"))
    return {"config": content.config, "facts": [fact for fact in facts if fact[1]]}
