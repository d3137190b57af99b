"""Arguments of classes, read from their sources: what a wrong option is refused by, before imports of seconds."""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, Optional, Union, get_args, get_origin

#: Packages whose classes a pipeline names.
_PACKAGES = ("datamodules", "lightning_modules", "pipelines/phases", "callbacks")
_ROOT = Path(__file__).parents[1]

#: Types of values that a person writes on a command line, and what may hold them.
_PLAIN = {int, float, bool, str, NoneType, Any}
_HOLDING = {list, dict, tuple, Sequence, Mapping, list[Any], dict[str, Any]}
_NAMES = {
    "int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict, "tuple": tuple,
    "Sequence": Sequence, "Mapping": Mapping, "Any": Any, "Literal": Literal, "Optional": Optional, "Union": Union,
}  # fmt: skip


#: What a type is written with; nothing of it computes anything.
_OF_TYPES = (ast.Name, ast.Constant, ast.Subscript, ast.Tuple, ast.List, ast.BinOp, ast.BitOr, ast.Load)

#: Other packages whose classes a config names, and where names without a module are looked for.
_OTHERS = ("torch", "lightning")
_OTHER_MODULES = ("torch.optim", "torch.optim.lr_scheduler", "lightning.pytorch.callbacks")


class Argument(NamedTuple):
    """An argument of a class.

    Attributes:
        annotation: its type, as it is written; None where none is.
        file: where.
    """

    annotation: ast.expr | None
    file: Path

    @property
    def type(self) -> Any:
        """The type, where values of it are written on a command line; None for any other."""
        found = None if self.annotation is None else _evaluated(self.annotation, self.file)
        return found if _is_plain(found) else None

    @property
    def is_factory(self) -> bool:
        """Whether the argument is a class that is built later: an optimizer or a schedule."""
        return self.annotation is not None and "Callable" in ast.unparse(self.annotation)


def arguments_of(class_path: str) -> dict[str, Argument] | None:
    """The arguments of a class of ours, torch or Lightning by name, with those that it hands on to its base class.

    Args:
        class_path: its name, with or without its module.

    Returns:
        The arguments; None where the class is of others, or hands arguments on to one that is.
    """
    found = _named(class_path)
    return None if found is None else _arguments(*found)


def is_class(name: str) -> bool:
    """Whether a path, or a name without a module, is that of a class of ours, torch or Lightning."""
    return _named(name) is not None


def is_known_package(module: str) -> bool:
    """Whether a module is of ours, torch or Lightning."""
    return module.partition(".")[0] in {*_OTHERS, *(package.partition("/")[0] for package in _PACKAGES)}


def class_names() -> list[str]:
    """Names, without their modules, of the classes of ours, torch and Lightning that a config may name."""
    return sorted({name for file in (*_files(), *_others()) for name in _names_in(file) if not name.startswith("_")})


@cache
def _named(class_path: str) -> tuple[ast.ClassDef, Path] | None:
    """The definition that a class path means, and its file."""
    if not all(part.isidentifier() for part in class_path.split(".")):  # a path of files is none of modules
        return None
    module, _, name = class_path.rpartition(".")
    ours = not module or module.partition(".")[0] in {package.partition("/")[0] for package in _PACKAGES}
    found = _class(name) if ours else None
    if found is not None or (module and module.partition(".")[0] not in _OTHERS):
        return found
    return _elsewhere(name, [file_of(module)] if module else _others())


def _elsewhere(name: str, files: Sequence[Path | None]) -> tuple[ast.ClassDef, Path] | None:
    """The definition of a class in one of some files of other packages, or where they have it from."""
    for file in filter(None, files):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node, file
            if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
                origin = file_of(node.module or "") if node.level == 0 else None
                found = None if origin in (None, file) else _elsewhere(name, [origin])
                if found is not None:
                    return found
    return None


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of ours, torch or Lightning; nothing is imported."""
    package, *inner = module.split(".")
    if not all(part.isidentifier() for part in inner):
        return None
    spec = importlib.util.find_spec(package) if is_known_package(package) else None
    for folder in (spec and spec.submodule_search_locations) or ():
        place = Path(folder, *inner)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _others() -> list[Path]:
    return [file for module in _OTHER_MODULES if (file := file_of(module)) is not None]


@cache
def _names_in(file: Path) -> list[str]:
    """Names of the classes at the top of a file, or that it has from elsewhere in its own package."""
    found = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.ImportFrom) and file.name == "__init__.py":
            found += [one.asname or one.name for one in node.names if (one.asname or one.name)[:1].isupper()]
    return found


@cache
def trainer_arguments() -> dict[str, Argument]:
    """The arguments of Lightning's Trainer by name."""
    spec = importlib.util.find_spec("lightning")  # of a package, this imports nothing
    for folder in (spec and spec.submodule_search_locations) or ():
        source = Path(folder) / "pytorch" / "trainer" / "trainer.py"
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == "Trainer":
                return _of_init(node, source) or {}
    return {}


def fields_of(file: str, name: str) -> dict[str, Argument]:
    """The fields of a dataclass in a file of ours by name."""
    tree = ast.parse((_ROOT / file).read_text(encoding="utf-8"))
    return {
        field.target.id: Argument(field.annotation, _ROOT / file)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == name
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def _is_ours(file: Path) -> bool:
    """Whether a file is of ours; the folder that holds ours may hold torch, too: an environment, or site-packages."""
    ours = {"handful", *(package.partition("/")[0] for package in _PACKAGES)}
    return file.is_relative_to(_ROOT) and file.relative_to(_ROOT).parts[0] in ours


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


def _arguments(node: ast.ClassDef, file: Path) -> dict[str, Argument] | None:
    own = _of_init(node, file)
    if own is not None and not _hands_on(node):
        return own
    inherited: dict[str, Argument] = {}
    for base in _bases(node):
        found = _class(base) or (None if _is_ours(file) else _elsewhere(base, [file]))
        itself = found is not None and (found[0].lineno, found[1]) == (node.lineno, file)  # under its base's name
        arguments = None if found is None or itself else _arguments(*found)
        if arguments is None:
            return None
        inherited = arguments | inherited
    return inherited | (own or {}) if inherited or own is not None else None


def _bases(node: ast.ClassDef) -> Iterator[str]:
    """The base classes, but for those that take no arguments."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if name not in ("ABC", "Generic", "Protocol"):
            yield name


def _of_init(node: ast.ClassDef, file: Path) -> dict[str, Argument] | None:
    """The arguments of a class's own `__init__`; None where it has none."""
    init = _init(node)
    if init is None:
        return None
    named = [*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs]
    return {one.arg: Argument(one.annotation, file) for one in named if one.arg != "self"}


def _evaluated(annotation: ast.expr, file: Path) -> Any:
    """The type that an annotation names; None where a name in it is neither plain nor an alias of what is."""
    if not all(isinstance(node, _OF_TYPES) for node in ast.walk(annotation)):
        return None
    # a config gives torch's optimizers numbers where they take a tensor as well
    known: dict[str, Any] = dict(_NAMES) if _is_ours(file) else {**_NAMES, "Tensor": float}
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id not in known:
            known[node.id] = _alias(node.id, file)
            if known[node.id] is None:
                return None
    return eval(compile(ast.Expression(annotation), str(file), "eval"), {"__builtins__": {}}, known)


@cache
def _alias(name: str, file: Path) -> Any:
    """What a name at the top of a file, or of the file of ours that it is imported from, stands for as a type."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return _evaluated(node.value, file) if isinstance(node.value, ast.Subscript | ast.BinOp) else None
        if not isinstance(node, ast.ImportFrom) or node.level or not _is_ours(file):
            continue
        if any((one.asname or one.name) == name for one in node.names):
            module = _ROOT.joinpath(*(node.module or "").split("."))
            origins = (module.with_suffix(".py"), module / "__init__.py")
            return next((_alias(name, origin) for origin in origins if origin.is_file()), None)
    return None


def _is_plain(kind: Any) -> bool:
    if kind is None or get_origin(kind) is Literal:
        return kind is not None
    parts = get_args(kind)
    return all(map(_is_plain, (part for part in parts if part is not ...))) if parts else kind in _PLAIN | _HOLDING


def _hands_on(node: ast.ClassDef) -> bool:
    init = _init(node)
    return init is None or init.args.kwarg is not None


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
