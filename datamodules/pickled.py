"""Reading the lists and bytes of a pickled dictionary without running it: files from elsewhere are never unpickled."""

import pickletools
from typing import Any

from handful.errors import UserError

_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
          "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")  # fmt: skip
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1")
# Longer texts are pixels.
_LARGE = 1024
# Stands behind bytes in what Python 3 pickles for Python 2.
_CODEC = "latin1"


def lists_and_bytes(content: bytes, shown: str) -> tuple[dict[str, list[Any]], list[bytes]]:
    """Return the lists of a pickled dictionary by their keys, and all of its long byte strings.

    The instructions of the pickle are read as text; none is carried out.

    Args:
        content: of the file.
        shown: its name, for the sentence.

    Raises:
        UserError: it is not a pickle, or is truncated.

    Example:
        >>> import pickle
        >>> lists_and_bytes(pickle.dumps({"labels": [3, 1], "data": b"x"}, protocol=2), "a file")[0]
        {'labels': [3, 1]}
    """
    lists: dict[str, list[Any]] = {}
    texts: list[bytes] = []
    waiting: list[Any] = []  # values since the last mark
    current: list[Any] = []
    try:
        for opcode, value, _ in pickletools.genops(content):
            if opcode.name == "MARK":
                waiting = []
            elif opcode.name == "EMPTY_LIST":
                current = lists.setdefault(str(waiting[-1]), []) if waiting else []
            elif opcode.name == "APPENDS":
                current += waiting
            elif opcode.name == "APPEND":
                current += waiting[-1:]
            elif opcode.name in _TEXTS or opcode.name in _NUMBERS:
                given = value.decode("latin-1") if isinstance(value, bytes | bytearray) else value
                if isinstance(given, str) and len(given) > _LARGE:
                    texts.append(given.encode("latin-1"))
                elif given != _CODEC:
                    waiting.append(given)
    except (ValueError, UnicodeError) as error:
        raise UserError(f"{shown} is truncated or not a pickle of the data set ({error}): download it again.") from None
    return lists, texts
