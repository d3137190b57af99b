"""Values that people and attackers write where a program expects another one, and ways to damage what is right."""

import copy
import random
from typing import Any

#: What stands on a command line where something else was meant.
WORDS: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "2", "3.5", "-0.0", "nan", "inf", "-inf", "1e999", "1e-320", "9" * 40, "0x10", "1_000",
    "٣", "null", "None", "true", "no", "[]", "{}", "[1", "{a: b", "{a: {b: [1, 2]}}", "a,b", ",", "1,2,3", "1,,2", "=",
    "--", "-", "---", "-x", "--help", "'", '"', "`id`", "$(id)", "$HOME", "~", "~nobody", "*", "?", "%s%n", "{0}",
    "{}}",
    "\\", "\n", "a\nb", "\t", "\x1b[31mred\x1b[0m", "\u202ereversed", "\ufeff", "é", "e\u0301", "鳥", "🐦", "\udcff",
    "=cmd|' /C calc'!A0", "$x^{2", "$\\frac$", "<script>alert(1)</script>", "a" * 300, "a" * 5000, "/", "/dev/null",
    "/dev/zero", "/proc/self/mem", "/proc/1/x", "..", "../..", ".", "nowhere", "nowhere/x.yaml", "@nowhere",
    "file:///etc/passwd",
    "http://127.0.0.1:9/x", "os.system", "torch.load", "builtins.exec", "datamodules", "ToyBird", "Dense", "sgd",
    "!!python/none",
    "2024-01-01", "1:30", "cuda", "mps", "auto", "all", "pred", "last", "none",
)  # fmt: skip

#: What stands in a config or record where something else was meant.
NODES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**40, 0.5, -0.0, float("nan"), float("inf"), 1e300, "", "x", "nan", "null", "1",
    "\x1b[2J",
    "a\nb", "\u202ex", "\udcff", "a" * 3000, "../../x", "/", "os.system", [], [[]], [None], [1, 2, 3], ["a", "b"], {},
    {"": 1},
    {"class_path": "os.system"}, {"class_path": 3}, {"class_path": None, "init_args": []}, {"init_args": {}},
    {"a": {"b": {}}},
    {"class_path": "Dense", "init_args": {"x": 1}}, [{"class_path": "nowhere.Nothing"}], "=1+1", "$x^{2",
)  # fmt: skip


def typo(rng: random.Random, word: str) -> str:
    """The word as somebody in a hurry writes it."""
    if not word:
        return rng.choice(["x", "-", " "])
    i = rng.randrange(len(word))
    kind = rng.randrange(8)
    if kind == 0:
        return word[:i] + word[i + 1 :]
    if kind == 1:
        return word[:i] + word[i] + word[i:]
    if kind == 2:
        return word[: max(0, i - 1)] + word[i : i + 1] + word[max(0, i - 1) : i] + word[i + 1 :]
    if kind == 3:
        return word[:i] + rng.choice("abcxyz._-= é") + word[i + 1 :]
    return (
        word.upper(),
        word.replace("_", "-"),
        word[: max(1, i)],
        word + rng.choice(["s", ".", " ", "=", ".x", "+"]),
    )[kind - 4]


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all nodes of nested dictionaries and lists, but for the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in items for found in ((*path, key), *places(value, (*path, key)))]


def damaged_tree(rng: random.Random, tree: Any, times: int = 1) -> Any:
    """Nested dictionaries and lists with a few nodes replaced, removed, renamed, wrapped or exchanged."""
    tree = copy.deepcopy(tree)
    for _ in range(times):
        found = places(tree)
        if not found:
            return rng.choice(NODES)
        *above, key = rng.choice(found)
        parent = tree
        for step in above:
            parent = parent[step]
        kind = rng.randrange(8)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[typo(rng, str(key))] = parent.pop(key)
        elif kind == 2:
            parent[key] = [parent[key]]
        elif kind == 3:
            parent[key] = {"x": parent[key]}
        elif kind == 4:
            parent[key] = typo(rng, str(parent[key]))
        elif kind == 5 and isinstance(parent, dict):
            parent[rng.choice(["x", 1, None, True, "class_path", "phases", "a.b", ""])] = rng.choice(NODES)
        else:
            parent[key] = copy.deepcopy(rng.choice(NODES))
    return tree


def damaged_bytes(rng: random.Random, data: bytes, times: int = 1) -> bytes:
    """A file's content with bits flipped, parts cut out, repeated, zeroed or added."""
    for _ in range(times):
        size = len(data)
        at = rng.randrange(size + 1)
        length = min(size - at, rng.choice([1, 2, 4, 16, 256, size // 2 + 1]))
        kind = rng.randrange(8)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + data[at + length :]
        elif kind == 2:
            data = data[:at] + data[at : at + length] * 2 + data[at + length :]
        elif kind == 3:
            data = data[:at] + bytes([rng.choice([0, 255])]) * length + data[at + length :]
        elif kind == 4:
            data = data[:at] + rng.randbytes(rng.choice([1, 4, 64])) + data[at:]
        elif kind == 5:
            data = b"" if rng.random() < 0.3 else rng.randbytes(64) + data
        else:
            changed = bytearray(data)
            for _ in range(rng.choice([1, 3, 20])):
                if changed:
                    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            data = bytes(changed)
    return data
