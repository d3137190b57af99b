"""A method from outside the package, as CONTRIBUTING.md shows it; the examples of the docstrings."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

import handful
from handful import attribution
from handful.attribution import attribute, names, unregister
from handful.errors import UserError
from tests.handful.attribution.nets import images, relu_classifier

ROOT = Path(handful.__file__).parent.parent


def test_a_method_from_outside_the_package(tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text().split("An attribution method: ", 1)[1]
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert len([line for line in code.splitlines() if line.strip()]) < 15
    (tmp_path / "my_methods.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_methods")
    try:
        model, x = relu_classifier(), images(3)
        gradient = attribute(model, x, "top2", method="gradient").raw
        found = attribute(model, x, "top2", method="squared_gradient", power=4, chunk=2)
        torch.testing.assert_close(found.raw, gradient**4)
        assert found.map().shape == (3, 2, 12, 12)
        assert "squared_gradient" in names()
        with pytest.raises(UserError, match="its options are: power"):
            attribute(model, x, method="squared_gradient", sharpness=1)
    finally:
        unregister("squared_gradient")
    assert "squared_gradient" not in names()


MODULES = [
    "handful.attribution.compute", "handful.attribution.contributions", "handful.attribution.display",
    "handful.attribution.images", "handful.attribution.outputs", "handful.attribution.registry",
    "handful.attribution.state", "handful.attribution.targets",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted > 0


def test_the_library_exports_the_function_that_is_documented():
    assert handful.attribute is attribution.attribute
    assert handful.contributions is attribution.contributions
