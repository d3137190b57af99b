"""Names that a person takes for one another: they differ in case, spaces, invisible characters or like letters."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from handful.text import safe_text

# Letters of other scripts that are drawn as Latin ones, after Unicode TR39, and what they are drawn as.
_LETTERS = str.maketrans(
    "аеорсухіјѕһԁԛԝѵүкмнтвгАВЕКМНОРСТХУҮІЈЅԌԚԜГ"  # Cyrillic
    "αικνορτυχγωΑΒΕΖΗΙΚΜΝΟΡΤΥΧϳϲϹ"  # Greek
    "օսոհցԼՍՏՕ"  # Armenian
    "ıɑɡɩʟᴏᴄᴠᴡᴢǀ",
    "aeopcyxijshdqwvykmhtbrABEKMHOPCTXYYIJSGQWr"
    "aikvoptuxywABEZHIKMNOPTYXjcC"
    "ounhgLUSO"
    "iagilocvwzl",
)
# Digits, bars and pairs of letters that are drawn as others in many typefaces.
_SHAPES = str.maketrans({"I": "l", "1": "l", "|": "l", "0": "o", "O": "o"})
_PAIRS = (("rn", "m"), ("vv", "w"))
# Drawn as nothing, though no format characters: fillers, the grapheme joiner, variation selectors.
_BLANK = {*"\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800", *map(chr, range(0xFE00, 0xFE10))}
_DASHES_AND_QUOTES = str.maketrans(
    {**dict.fromkeys("‐‑‒–—―−⁃﹣－", "-"), **dict.fromkeys("’‘`´ʼ′＇", "'"), "_": " "}
)

_SHOWN = 3


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that look alike, each in the order given.

    Names are compared without regard to case, Unicode form, spaces, dashes and underscores, characters that cannot be
    seen, and letters of other scripts that are drawn as Latin ones.

    Example:
        >>> look_alikes(["owl", "wren", "Owl ", "\u043ewl", "finch"])
        [['owl', 'Owl ', '\u043ewl']]
    """
    distinct = list(dict.fromkeys(names))
    leader = {name: name for name in distinct}
    for drawn in (_folded, _drawn):
        groups: dict[str, str] = {}
        for name in distinct:
            first = groups.setdefault(drawn(name), leader[name])
            if first != leader[name]:
                former = leader[name]
                leader = {n: first if its == former else its for n, its in leader.items()}
    found = defaultdict(list)
    for name in distinct:
        found[leader[name]].append(name)
    return [group for group in found.values() if len(group) > 1]


def look_alike_warning(names: Iterable[str]) -> str:
    """Return a sentence that names classes which look alike and says how they differ; nothing where none do.

    Example:
        >>> look_alike_warning(["owl", "Owl"])
        "Classes whose names look alike: 'owl' and 'Owl' (case). If they are one class, give them one name."
        >>> look_alike_warning(["owl", "wren"])
        ''
    """
    groups = look_alikes(names)
    if not groups:
        return ""
    shown = "; ".join(map(_described, groups[:_SHOWN]))
    more = f"; and {len(groups) - _SHOWN} more groups" if len(groups) > _SHOWN else ""
    return f"Classes whose names look alike: {shown}{more}. If they are one class, give them one name."


def _described(group: Sequence[str]) -> str:
    first, *others = group
    listed = others[:_SHOWN]
    more = f" and {len(others) - _SHOWN} others" if len(others) > _SHOWN else ""
    how = dict.fromkeys(_difference(first, other) for other in listed)
    return f"{_quoted(first)} and {', '.join(map(_quoted, listed))}{more} ({', '.join(how)})"


def _quoted(name: str) -> str:
    """A name in quotes, whatever cannot be seen in it as an escape."""
    shown = "".join(c if c.isprintable() and c not in _BLANK else c.encode("unicode_escape").decode() for c in name)
    return f"'{safe_text(shown)}'"


def _difference(one: str, other: str) -> str:
    """In what two names that look alike differ."""
    for same, what in _STEPS:
        if same(one) == same(other):
            return what
    odd = next((letter for letter in other + one if not letter.isascii() and letter.translate(_LETTERS) != letter), "")
    if odd:
        return f"{unicodedata.name(odd, 'a letter').lower()}, U+{ord(odd):04X}"
    return "letters, digits and spaces that are drawn alike"


def _visible(name: str) -> str:
    """Without the characters that cannot be seen."""
    return "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Cc") and c not in _BLANK)


def _spaced(name: str) -> str:
    """With one space for every run of spaces, dashes and underscores."""
    return " ".join(name.translate(_DASHES_AND_QUOTES).replace("-", " ").split())


def _form(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _folded(name: str) -> str:
    return _form(_spaced(_visible(_form(name)))).casefold()


def _drawn(name: str) -> str:
    text = _spaced(_visible(_form(name))).translate(_LETTERS).translate(_SHAPES).casefold()
    for pair, letter in _PAIRS:
        text = text.replace(pair, letter)
    return text


_STEPS: tuple[tuple[Callable[[str], str], str], ...] = (
    (str.casefold, "case"),
    (str.strip, "spaces at an end"),
    (_spaced, "spaces, dashes or underscores"),
    (_visible, "characters that cannot be seen"),
    (_form, "Unicode form"),
    (_folded, "case, spaces or Unicode form"),
)
