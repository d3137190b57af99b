"""Arguments of classes, read from their sources: what a wrong option is refused by, before imports of seconds."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

#: Packages whose classes a pipeline names.
_PACKAGES = ("datamodules", "lightning_modules", "pipelines/phases")
_ROOT = Path(__file__).parents[1]


def arguments_of(class_path: str) -> frozenset[str] | None:
    """Names of the arguments of a class of ours, those that it hands on to its base class among them.

    Args:
        class_path: its name, with or without its module.

    Returns:
        The names; None where the class is not ours, or hands arguments on to one that is not.
    """
    module, _, name = class_path.rpartition(".")
    ours = not module or module.partition(".")[0] in {package.partition("/")[0] for package in _PACKAGES}
    found = _class(name) if ours else None
    return None if found is None else _arguments(*found)


@cache
def trainer_arguments() -> frozenset[str]:
    """Names of the arguments of Lightning's Trainer."""
    spec = importlib.util.find_spec("lightning")  # of a package, this imports nothing
    for folder in (spec and spec.submodule_search_locations) or ():
        source = Path(folder) / "pytorch" / "trainer" / "trainer.py"
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == "Trainer":
                return frozenset(_of_init(node) or ())
    return frozenset()


def fields_of(file: str, name: str) -> frozenset[str]:
    """Names of the fields of a dataclass in a file of ours."""
    tree = ast.parse((_ROOT / file).read_text(encoding="utf-8"))
    return frozenset(
        field.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == name
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    )


@cache
def _class(name: str) -> tuple[ast.ClassDef, Path] | None:
    """The definition of a class of ours, and its file."""
    for file in _files():
        text = file.read_text(encoding="utf-8")
        if not re.search(rf"^class {re.escape(name)}\b", text, re.MULTILINE):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node, file
    return None


@cache
def _files() -> tuple[Path, ...]:
    return tuple(file for package in _PACKAGES for file in sorted((_ROOT / package).rglob("*.py")))


def _arguments(node: ast.ClassDef, file: Path) -> frozenset[str] | None:
    own = _of_init(node)
    if own is not None and not _hands_on(node):
        return frozenset(own)
    inherited: set[str] = set(own or ())
    for base in _bases(node):
        found = _class(base)
        arguments = None if found is None or found[0] is node else _arguments(*found)
        if arguments is None:
            return None
        inherited |= arguments
    return frozenset(inherited) if inherited or own is not None else None


def _bases(node: ast.ClassDef) -> Iterator[str]:
    """The base classes, but for those that take no arguments."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if name not in ("ABC", "Generic", "Protocol"):
            yield name


def _of_init(node: ast.ClassDef) -> list[str] | None:
    """The arguments of a class's own `__init__`; None where it has none."""
    init = _init(node)
    if init is None:
        return None
    named = [*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs]
    return [argument.arg for argument in named if argument.arg != "self"]


def _hands_on(node: ast.ClassDef) -> bool:
    init = _init(node)
    return init is None or init.args.kwarg is not None


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
