"""Text from elsewhere is shown by one function, in sentences, in tables and on pages."""

import os

import pytest

from handful.images.clutter import LeftOut
from handful.report.text import drawable
from handful.text import safe_text

NAMES = {
    b"caf\xe9.jpg": "caf\\xe9.jpg",
    b"a\xff\x80b": "a\\xff\\x80b",
    "K\u00e4uzchen".encode(): "Käuzchen",
    "\u9ce5\U0001f426".encode(): "鳥🐦",
    b"ow\nl\x1b[31m": "ow\\nl\\x1b[31m",
    "x\u202ey\u2028z".encode(): "x\\u202ey\\u2028z",
    "\u0646\u200c\u062f".encode(): "\u0646\u200c\u062f",  # a joiner belongs to the script
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=map(repr, NAMES.values()))
def test_a_name_is_shown_alike_everywhere(name, shown):
    text = os.fsdecode(name)
    assert safe_text(text) == shown
    assert safe_text(shown) == shown
    left_out = LeftOut()
    left_out.add("hidden", text)
    assert str(left_out) == f"1 hidden ({shown})"
    assert drawable(text).encode()  # no byte is left that a font cannot be asked for
