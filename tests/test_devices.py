"""The library on another device than the CPU: the tests for GPUs, on a pretended one where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/cuda runs on the GPU itself")
def test_no_tensor_of_the_library_stays_behind_on_the_cpu():
    """In a process of its own: torch takes a pretended device once and for all."""
    options = ("-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/cuda", *options],
        cwd=ROOT,
        env={**os.environ, "HANDFUL_TEST_DEVICE": "pretended", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
