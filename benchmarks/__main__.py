"""`python -m benchmarks`: every benchmark at its default size, one after another; each writes its own section.

Those on real images run where HANDFUL_DATA names the folder with `cub100.zip`, `cifar10.zip` and
`resnet20_cifar10.pth`. All of them take hours; each also runs alone, `python -m benchmarks.sparse_solver`. Not among
them: `gpu`, for a machine with one, `assignment_cpsat`, which needs OR-Tools, and `attribution_gallery`,
`filters_photographs`, `qpm_pictures` and `ternary_bias`, which look at runs that are named.
"""

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arguments import argument_parser
from handful.errors import did_you_mean

#: Modules with a `main`, with their arguments.
BENCHMARKS = (
    "pipeline",
    "waiting",
    "cpu_speed",
    "shared_cores",
    "dashboards",
    "sparse_solver",
    "sparse_growth",
    "sparse_imagenet",
    "assignment",
    "attribution",
    "attribution_birds",
    "attribution_measures",
    "faithfulness",
    "plugin toy",
    "plugin cost",
    "filters",
    "filters_birds",
    "measures birds",
    "measures filter_loss",
    "measures cost",
    "loading",
    "streaming",
)

#: Those that need real images.
ON_REAL_IMAGES = (
    "sparse_accuracy",
    "photographs",
    "heads",
    "plugin cifar",
    "plugin fewshot",
    "filters_cifar10",
    "measures photographs",
    "readable_heads",
)

#: What puts runs that are there beside published numbers; last.
OF_RUNS = ("tables",)

#: Those that are run by hand.
BY_HAND = (
    "gpu", "assignment_cpsat", "attribution_gallery", "filters_photographs", "qpm_pictures", "ternary_bias",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run them, each in a process of its own, so that none inherits the memory of another."""
    parser = argument_parser(f"{__doc__}\n{_listed()}")
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all of them if none is given")
    names = parser.parse_args(arguments).names
    chosen = [one for name in names for one in _meant(name)]
    if unknown := [name for name in names if name.partition(" ")[0] not in _modules()]:
        parser.error(f"there is no benchmark {unknown[0]!r}{did_you_mean(unknown[0], _modules())}")
    if not names:
        chosen = [*BENCHMARKS, *(ON_REAL_IMAGES if os.environ.get("HANDFUL_DATA") else ()), *OF_RUNS]
        if not os.environ.get("HANDFUL_DATA"):
            print(f"HANDFUL_DATA is not set, left out: {', '.join(ON_REAL_IMAGES)}", flush=True)
    failed = []
    for name in chosen:
        module, *arguments = name.split()
        print(f"── {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments]).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _meant(name: str) -> list[str]:
    """A benchmark, or all that one module has."""
    return [one for one in (*BENCHMARKS, *ON_REAL_IMAGES) if one.partition(" ")[0] == name] or [name]


def _modules() -> dict[str, str]:
    """The modules that run, with the first line of what they say of themselves; none is imported."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def _listed() -> str:
    """The list of benchmarks for the help."""
    with_commands: dict[str, list[str]] = {}
    for name in (*BENCHMARKS, *ON_REAL_IMAGES):
        module, _, command = name.partition(" ")
        with_commands.setdefault(module, []).extend([command] if command else [])
    lines = []
    for module, says in _modules().items():
        lines.append(f"  {module}{''.join(f' [{command}]' for command in with_commands.get(module, []))}")
        lines += textwrap.wrap(says, 96, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(["benchmarks:", *lines])


if __name__ == "__main__":
    main()
