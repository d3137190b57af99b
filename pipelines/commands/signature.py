"""The signature of a function, read from its source: options need no more, and its imports take seconds."""

import ast
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

#: Names that the annotations of a command's function may use.
_TYPES = {"Any": Any, "Literal": Literal, "Path": Path}


def signature_of(module: str, name: str) -> Callable[..., Any]:
    """A function with the name, the signature and the docstring of another, whose module is not imported.

    Annotations may use built-in types, `Any`, `Literal` and `Path`; defaults may be constants of the module.

    Args:
        module: where the function is; of the packages around it only `__init__.py` is run.
        name: of the function.

    Raises:
        LookupError: there is no such function at the top of the module.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no module {module}")
    known: dict[str, Any] = {**_TYPES, "__name__": "__main__"}  # a module whose name needs no import to be found
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                known[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # computed, and therefore not what a default could be
                continue
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.body, node.decorator_list = node.body[:1], []  # the docstring
            exec(compile(ast.Module([node], []), spec.origin, "exec"), known)
            function: Callable[..., Any] = known[name]
            assert inspect.getdoc(function)
            return function
    raise LookupError(f"{module} has no function {name}")
