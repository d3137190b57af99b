"""What is read of classes without importing them, and that reading runs nothing."""

import ast

import pytest

from pipelines import class_arguments
from pipelines.class_arguments import arguments_of, is_class

_EVIL = """
from typing import Union

class X:
    def __init__(self, a: {annotation} = 1):
        pass
"""
_RUNS = "Union.__class__.__init__.__globals__['sys'].modules['os'].system('touch {canary}')"


def test_a_path_of_files_is_no_class(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(_EVIL.format(annotation=_RUNS.format(canary=canary)))
    for path in (f"torch.{tmp_path}/evil.X", f"torch.{tmp_path}/evil", "torch./proc/self/cwd/evil.X", "torch.../evil.X",
                 f"{tmp_path}/evil.X", "callbacks./evil.X", ".X", "", "torch..optim.SGD"):  # fmt: skip
        assert not is_class(path), path
        assert arguments_of(path) is None, path
    assert not canary.exists()


@pytest.mark.parametrize(
    "annotation", [_RUNS, "(lambda: int)()", "[int for _ in range(3)]", "int.mro", "9 ** 9 ** 9", "f'{int}'", "'a' * 9"]
)
def test_annotations_are_types_and_compute_nothing(annotation, tmp_path):
    canary = tmp_path / "canary"
    node = ast.parse(annotation.replace("{canary}", str(canary)), mode="eval").body
    assert class_arguments._evaluated(node, tmp_path / "evil.py") is None
    assert not canary.exists()


def test_an_environment_within_the_folder_of_ours_is_not_ours():
    root = class_arguments._ROOT
    assert class_arguments._is_ours(root / "callbacks" / "diversity.py")
    assert not class_arguments._is_ours(root / ".venv/lib/python3.11/site-packages/torch/optim/adam.py")
    assert not class_arguments._is_ours(root / "torch/optim/adam.py")  # where all are installed side by side


def test_a_class_called_as_its_base_is():
    assert arguments_of("lightning.pytorch.cli.ReduceLROnPlateau") is None
    assert is_class("lightning.pytorch.cli.ReduceLROnPlateau")
