"""Self-contained pages: HTML from templates, pictures embedded, every value escaped."""

import base64
import hashlib
import io
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from handful.report.overlays import data_uri
from handful.text import safe_text, shorten

#: What completeness misses is shown from this share of the score on.
NOTICEABLE = 1e-3


def render(template: str, **values: Any) -> str:
    """Fill a template of `handful/report/templates`.

    Every value is escaped; control characters and bidirectional marks in it become visible.

    Args:
        template: name of the file.
        **values: what the template names.
    """
    return _environment().get_template(template).render(**values)


def script_values(name: str) -> dict[str, Any]:
    """The values `script` and `script_digest` of a template: a script of ours, which alone may run on the page.

    Args:
        name: of the file in `handful/report/templates`.
    """
    environment = _environment()
    assert environment.loader is not None
    source = environment.loader.get_source(environment, name)[0]
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return {"script": Markup(source), "script_digest": f"sha256-{digest}"}


def drawn(figure: Figure, dpi: int = 144) -> tuple[Image.Image, int]:
    """Draw a figure as a picture and return it with the width in CSS pixels at which it is shown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Image.open(buffer).convert("RGB"), round(figure.get_size_inches()[0] * 96)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("handful.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": lambda text: Markup(str(escape(safe_text(text))).replace("_", "_<wbr>")),
        "completeness": _completeness,
        "data_uri": lambda image, kind="JPEG": Markup(data_uri(image, kind)),
        "effect": lambda value: f"{value:+.2f}" if abs(value) >= 0.005 else f"{value:+.0e}",
        "lines": lambda text: Markup(escape(safe_text(text, lines=True))),
        "percent": lambda share: f"{100 * share:.1f} %",
        "shorten": lambda text, limit: shorten(safe_text(text), limit),
    }
    return environment


def _printable(value: Any) -> Any:
    """What a template prints: markup of ours unchanged, text from elsewhere with its control characters visible."""
    return safe_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _completeness(found: dict[str, Any]) -> str:
    """Whether a map adds up to its score."""
    if "completeness" not in found:
        return ""
    missed = abs(found["completeness"]) >= NOTICEABLE * abs(found["score"])
    return f"adds up but for {found['completeness']:+.2g}" if missed else "adds up"
