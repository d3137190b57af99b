"""What the tests on a GPU share."""

import dataclasses
import os
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from handful.networks import Classifier, build_classifier, build_head

TEST_DEVICE = os.environ.get("HANDFUL_TEST_DEVICE", "cuda")


def need_device(pretence: bool = True) -> None:
    """Skip the module that calls this where there is no GPU, nor another device asked for."""
    if TEST_DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device", allow_module_level=True)
    if TEST_DEVICE == "pretended" and not pretence:
        pytest.skip("needs real kernels or processes", allow_module_level=True)


def moved(value, device):
    """Tensors of nested tuples, lists and dictionaries on a device; modules are moved in place."""
    if isinstance(value, Tensor | torch.nn.Module):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: moved(part, device) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(moved(part, device) for part in value)
    return value


def assert_same(found, expected, rtol=1e-4, atol=1e-5, where="value"):
    """Nested values with the same numbers, wherever their tensors lie."""
    if isinstance(expected, Tensor):
        torch.testing.assert_close(
            found.detach().cpu(), expected.detach().cpu(), rtol=rtol, atol=atol, equal_nan=True,
            msg=lambda text: f"{where}: {text}",
        )  # fmt: skip
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=rtol, abs=atol, nan_ok=True), where
    elif dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            values = (getattr(found, field.name), getattr(expected, field.name))
            assert_same(*values, rtol, atol, f"{where}.{field.name}")
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value, rtol, atol, f"{where}[{name!r}]")
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, rtol, atol, f"{where}[{place}]")
    else:
        assert found == expected, where


#: Kinds of heads, and their own arguments for 16 features and 4 classes.
KINDS = {"dense": {}, "sparse": {"n_selected": 6}, "decomposed": {"filters_per_class": 3}}


def classifier(kind: str = "dense", classes: int = 4) -> Classifier:
    """A small network with a head of that kind, on the CPU and in evaluation mode."""
    torch.manual_seed(0)
    model = build_classifier({"backbone": "conv4", "options": {"width": 16}}, classes)
    head = build_head({"kind": kind, "num_features": 16, "num_classes": classes} | KINDS[kind])
    with torch.no_grad():
        for name, value in head.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + (0.5 if name == "std" else -0.5))
            elif name == "selection":
                value.copy_(torch.randperm(16)[: len(value)])
            elif name == "filters":
                value.copy_(torch.rand(value.shape[0], 16).argsort(dim=1)[:, : value.shape[1]])
    return model.with_head(head).eval()


def random_states():
    """Random states of the CPU and of the GPU."""
    states = [torch.get_rng_state()]
    return states + ([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])
