"""What a run changes in its process, and gives back: a notebook goes on after it as it was before."""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

#: Environment variables that stay: by them processes of a run know each other, and W&B its own service.
_STAY = {
    "GROUP_RANK", "HANDFUL_STARTED_BY", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "RANK",
    "WANDB_SERVICE", "WORLD_SIZE",
}  # fmt: skip


@contextmanager
def process_kept() -> Iterator[None]:
    """Give back environment, interrupts, random states, threads and switches of torch, as they were before the block.

    Lightning seeds the process and writes the seed into the environment, a Trainer sets switches for all of torch,
    after an interrupted training all interrupts are ignored, and loggers leave options in the environment. What is
    imported in the block keeps its defaults.
    """
    with ExitStack() as stack:
        stack.callback(_restore_environment, dict(os.environ))
        if threading.current_thread() is threading.main_thread():
            stack.callback(_restore_interrupt, signal.getsignal(signal.SIGINT))
        stack.callback(random.setstate, random.getstate())
        if (numpy := sys.modules.get("numpy")) is not None and hasattr(numpy, "random"):
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        if (torch := sys.modules.get("torch")) is not None:
            _keep_torch(torch, stack.callback)
        yield


def _restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before) - _STAY:
        del os.environ[name]
    for name, value in before.items():
        if name not in _STAY and os.environ.get(name) != value:
            os.environ[name] = value


def _restore_interrupt(before: Any) -> None:
    if before is not None and signal.getsignal(signal.SIGINT) is not before:
        signal.signal(signal.SIGINT, before)


def _keep_torch(torch: Any, later: Callable[..., Any]) -> None:
    later(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():
        later(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    later(_set_threads, torch, torch.get_num_threads())
    later(torch.set_default_dtype, torch.get_default_dtype())
    later(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    later(torch.use_deterministic_algorithms, strict, warn_only=warns)
    cudnn = torch.backends.cudnn
    for switch in ("benchmark", "deterministic"):
        later(setattr, cudnn, switch, getattr(cudnn, switch))


def _set_threads(torch: Any, before: int) -> None:
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)
