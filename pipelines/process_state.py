"""What a run changes in its process, and restores: after it a notebook is as it was before."""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

#: What cuBLAS reads once in a process, at the first product, which may be in a phase before the deterministic one.
OF_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"

#: Environment variables that stay: by them processes of a run know each other, and W&B its own service.
_STAY = {
    "GROUP_RANK", "HANDFUL_STARTED_BY", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "RANK",
    "WANDB_SERVICE", "WORLD_SIZE",
}  # fmt: skip


@contextmanager
def process_kept(*stay: str) -> Iterator[None]:
    """Give back environment, interrupts, random states, threads and switches of torch, as they were before the block.

    Random states of CUDA are given back where it was in use before.
    Lightning seeds the process and writes the seed into the environment, a Trainer sets switches for all of torch,
    after an interrupted training all interrupts are ignored, and loggers leave options in the environment. What is
    imported in the block keeps its defaults.

    Args:
        *stay: environment variables that keep what the block gives them.
    """
    with ExitStack() as stack:
        stack.callback(_restore_environment, dict(os.environ), _STAY | {*stay})
        if threading.current_thread() is threading.main_thread():
            stack.callback(_restore_interrupt, signal.getsignal(signal.SIGINT))
        stack.callback(random.setstate, random.getstate())
        if (numpy := sys.modules.get("numpy")) is not None and hasattr(numpy, "random"):
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        if (torch := sys.modules.get("torch")) is not None:
            _keep_torch(torch, stack.callback)
        yield


def _restore_environment(before: dict[str, str], stay: set[str]) -> None:
    for name in set(os.environ) - set(before) - stay:
        del os.environ[name]
    for name, value in before.items():
        if name not in stay and os.environ.get(name) != value:
            os.environ[name] = value


def _restore_interrupt(before: Any) -> None:
    if before is not None and signal.getsignal(signal.SIGINT) is not before:
        signal.signal(signal.SIGINT, before)


def _keep_torch(torch: Any, later: Callable[..., Any]) -> None:
    later(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():
        later(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    cudnn = torch.backends.cudnn
    switches: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (partial(_determinism, torch), lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1])),
        *((partial(getattr, cudnn, name), partial(setattr, cudnn, name)) for name in ("benchmark", "deterministic")),
    ]
    for get, set_to in switches:
        with suppress(RuntimeError):  # precision, where the newer switches have been used: Lightning leaves those alone
            later(_set_back, get, set_to, get())


def _determinism(torch: Any) -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_back(get: Callable[[], Any], set_to: Callable[[Any], Any], before: Any) -> None:
    with suppress(RuntimeError):
        if get() != before:
            set_to(before)
