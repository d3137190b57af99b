"""Threads wait asleep where nobody has chosen, and the library that runs them has read it."""

import os
import subprocess
import sys

import pytest

from handful.thread_waits import sleep_between_products

SHOW = """
import ctypes, os, sys
from handful.thread_waits import sleep_between_products
print(sleep_between_products())
import torch
torch.set_num_threads(2)
torch.ones(2**20).exp()
print(sleep_between_products())
"""


def test_it_is_set_before_torch_and_not_after():
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    ended = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["True", "False"]
    if "GOMP_SPINCOUNT" in ended.stderr:  # GNU's OpenMP, on Linux
        assert "GOMP_SPINCOUNT = '1000'" in ended.stderr


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "passive"}])
def test_what_was_chosen_stays(chosen, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    environment = dict(chosen)
    assert sleep_between_products(environment) is False
    assert environment == chosen
    assert sleep_between_products(free := {}) is True
    assert free == {"GOMP_SPINCOUNT": "1000"}
