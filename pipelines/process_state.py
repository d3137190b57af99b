"""What a run changes in its process, and restores: after it a notebook is as it was before."""

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

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


@contextmanager
def warnings_kept() -> Iterator[None]:
    """Warn in the block of what an earlier one in this process has warned of, and give back what was known of that.

    Python, and Lightning for itself, remember what they have warned of, and would keep a second run of a process from
    the warnings of the first. Within another such block nothing is done.
    """
    if _keeping:
        yield
        return
    _keeping.append(True)
    forget_what_was_shown()
    shown_once: dict[Any, Any] = warnings.onceregistry  # type: ignore[attr-defined]
    memories: list[Any] = [shown_once, *_lightning_warned()]
    before = [(known, known.copy()) for known in memories]
    for known, _ in before:
        known.clear()
    try:
        yield
    finally:
        _keeping.clear()
        for known, content in before:
            known.clear()
            known.update(content)
        forget_what_was_shown()


_keeping: list[bool] = []


def _lightning_warned() -> Iterator[set[str]]:
    """Lightning's own memory of what it has warned of: a set in some of its modules and classes."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("lightning.")]
    for module in modules:
        own = (one for one in list(vars(module).values()) if getattr(one, "__module__", "") == module.__name__)
        for place in (module, *(one for one in own if isinstance(one, type))):
            if isinstance(known := vars(place).get("warning_cache"), set):
                yield known


def forget_what_was_shown() -> None:
    """Let warnings be shown again at the places that have shown them, which every change of filters does."""
    with warnings.catch_warnings(module=warnings):  # which is found to the end of the process
        pass


def _restore_interrupt(before: Any) -> None:
    if before is not None and signal.getsignal(signal.SIGINT) is not before:
        signal.signal(signal.SIGINT, before)


def _keep_torch(torch: Any, later: Callable[..., Any]) -> None:
    later(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():
        later(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    for switch in torch_switches(torch):
        with suppress(RuntimeError):  # precision, where the newer switches have been used: Lightning leaves those alone
            later(_set_back, switch, switch.get())


class Switch(NamedTuple):
    """What is set for all that torch does in a process.

    Attributes:
        name: in words.
        get: reads it.
        set_to: sets it; None where that cannot be taken back.
    """

    name: str
    get: Callable[[], Any]
    set_to: Callable[[Any], Any] | None


def torch_switches(torch: Any) -> list[Switch]:
    """All switches of torch, which cost some microseconds to read."""
    backends = torch.backends

    def attribute(of: Any, name: str, key: str) -> Switch:
        return Switch(name, partial(getattr, of, key), partial(setattr, of, key))

    def determinism() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    return [
        Switch("threads", torch.get_num_threads, torch.set_num_threads),
        Switch("threads between operations", torch.get_num_interop_threads, None),
        Switch("default type", torch.get_default_dtype, torch.set_default_dtype),
        # to set one slows all that makes tensors
        Switch("default device", torch.get_default_device,
               lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
        Switch("deterministic algorithms", determinism,
               lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1])),
        Switch("gradients", torch.is_grad_enabled, torch.set_grad_enabled),
        Switch("inference mode", torch.is_inference_mode_enabled, None),
        Switch("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        Switch("autocast", partial(torch.is_autocast_enabled, "cpu"), partial(torch.set_autocast_enabled, "cpu")),
        Switch("precision of products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        Switch("sharing between processes", torch.multiprocessing.get_sharing_strategy,
               torch.multiprocessing.set_sharing_strategy),
        attribute(backends.mkldnn, "mkldnn", "enabled"),
        *(attribute(backends.cudnn, f"cudnn.{key}", key) for key in ("enabled", "benchmark", "deterministic")),
    ]  # fmt: skip


def _set_back(switch: Switch, before: Any) -> None:
    with suppress(RuntimeError):
        if switch.set_to is not None and switch.get() != before:
            switch.set_to(before)
