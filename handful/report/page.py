"""The frame of a page that needs nothing but itself: one HTML text with its style and pictures inside."""

import html
import io
from typing import Literal

from matplotlib.figure import Figure
from PIL import Image

from handful.report.overlays import data_uri

STYLE = """
:root{--ink:#1f2126;--soft:#6a6f7b;--line:#e3e5ea;--for:#cf3b36;--against:#3566c0;--paper:#fff;--back:#f5f6f8}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Roboto,sans-serif}
header,main{max-width:1080px;margin:0 auto;padding:0 20px}
header{padding-top:28px} h1{font-size:26px;margin:0 0 4px} header p{margin:4px 0;color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px;margin-top:8px} nav a{color:var(--against)}
.key span{display:inline-block;width:12px;height:12px;border-radius:3px;margin:0 3px 0 10px;vertical-align:-1px}
.key span:first-child{margin-left:0}.for{background:var(--for)}.against{background:var(--against)}
.heat{background:linear-gradient(90deg,#3b0f63,#d94849,#fcf499)}
article{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:22px;margin:18px 0}
h2{font-size:20px;margin:0;overflow-wrap:anywhere}
h3{font-size:15px;margin:22px 0 8px} h2 small,h3 small{color:var(--soft);font-weight:400}
img{display:block;max-width:100%;height:auto}
figure{margin:0;width:150px} figure img{width:150px;border-radius:6px}
figcaption{overflow-wrap:anywhere;font-size:12.5px;line-height:1.35;color:var(--soft);margin-top:4px}
figcaption b{color:var(--ink)}
.row{display:flex;gap:14px;flex-wrap:wrap}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
td,th{padding:3px 10px 3px 0;text-align:right;white-space:nowrap} th{color:var(--soft);font-weight:400;font-size:12.5px}
td:first-child,th:first-child{text-align:left}
.soft{color:var(--soft)} .scroll{overflow-x:auto}
"""


def html_page(title: str, header: str, body: str, style: str = "") -> str:
    """The whole page.

    Args:
        title: plain text.
        header: HTML beneath the title.
        body: HTML.
        style: CSS on top of the common one.
    """
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>
<body><header><h1>{html.escape(title)}</h1>{header}</header>
<main>
{body}
</main></body></html>
"""


def image_tag(image: Image.Image, alt: str = "", kind: Literal["PNG", "JPEG"] = "JPEG") -> str:
    """A picture inside the page."""
    return f'<img alt="{html.escape(alt)}" src="{data_uri(image, kind)}">'


def figure_tag(figure: Figure, alt: str, dpi: int = 144) -> str:
    """A figure inside the page, at its own size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    drawn = Image.open(buffer).convert("RGB")
    width = round(figure.get_size_inches()[0] * 96)
    return f'<div style="max-width:{width}px">{image_tag(drawn, alt, "PNG")}</div>'
