"""The device of these tests: the GPU, or what HANDFUL_TEST_DEVICE names (`cpu`, or `pretended`, see `pretended.py`)."""

import pytest
import torch

from tests.cuda.common import TEST_DEVICE
from tests.cuda.pretended import pretended


@pytest.fixture
def device():
    """Where the tested half runs; TF32 off, so that float32 products compare with the CPU's."""
    name = TEST_DEVICE
    if name == "pretended":
        with pretended() as found:
            yield found
        return
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield torch.device(name, 0 if name == "cuda" else None)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
