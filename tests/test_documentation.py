"""What the documentation shows runs: the Python blocks of README and docs/, and the examples in docstrings."""

import doctest
import importlib
import pkgutil
import re
from inspect import isclass, isroutine
from pathlib import Path

import pytest
import torch

import handful
from handful.attribution.registry import _METHODS
from handful.networks import build_classifier

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: `notebook.md` supposes a run, not a network: tests/test_docs.py.
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.stem != "notebook" and BLOCK.search(page.read_text())
]
MODULES = [found.name for found in pkgutil.walk_packages(handful.__path__, "handful.") if "__main__" not in found.name]


def presupposed() -> dict[str, object]:
    """What a page's text supposes to be there: a network, images and their labels, features."""
    torch.manual_seed(0)
    network = build_classifier({"backbone": "cifar_resnet20"}, 10).eval()
    images, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
    return {
        "torch": torch, "Tensor": torch.Tensor, "model": network, "classifier": network, "network": network,
        "images": images[:2], "loader": [(images[:10], labels[:10]), (images[10:], labels[10:])],
        "batches": [(images[:10], list(range(10))), (images[10:], list(range(10, 20)))],
        "features": torch.rand(200, 60), "labels": torch.arange(200) % 4,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def methods_registered_before():
    """Pages and examples register methods of their own."""
    before = dict(_METHODS)
    yield
    _METHODS.clear()
    _METHODS.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = presupposed()
    text = page.read_text()
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(page), "exec"), names)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


PACKAGES = ["handful", *(name for name in MODULES if hasattr(importlib.import_module(name), "__path__"))]


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_exported_has_an_example(name):
    package = importlib.import_module(name)
    exported = {export: getattr(package, export) for export in getattr(package, "__all__", ())}
    documented = {export: found for export, found in exported.items() if isroutine(found) or isclass(found)}
    assert not [export for export, found in documented.items() if ">>>" not in (found.__doc__ or "")]
