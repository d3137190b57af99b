"""What belongs to a whole process and outlives a test, unless it is put back: environment, streams, settings.

The suite compares it before and after each test and each module, so that no test depends on which others its process
has run. It takes some tens of microseconds; what changes by lazy imports of libraries alone is left out.
"""

import contextlib
import gc
import locale
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image, ImageFile

from pipelines.process_state import torch_switches

#: Set by pytest itself while a test runs, and by libraries when they are imported.
_NOT_OURS = {"PYTEST_CURRENT_TEST", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK", "HF_HUB_DISABLE_TELEMETRY"}

#: What Lightning sets in every process that seeds or starts others, and MLflow's options; put back without a fault.
_OF_LIBRARIES = {
    "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR",
    "MASTER_PORT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_ALLOW_FILE_STORE",
}  # fmt: skip

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
            signal.SIGPROF, signal.SIGPIPE, signal.SIGABRT, signal.SIGXFSZ)  # fmt: skip
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
_LOGGERS = ("", "handful", "pipelines", "lightning", "lightning.pytorch", "lightning.fabric", "torch", "PIL",
            "py.warnings")  # fmt: skip

#: How processes are started where nobody has chosen.
_FIRST_START = multiprocessing.get_all_start_methods()[0]

#: Seconds that a thread or process which is about to end has to do so.
_PATIENCE = 5.0


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "a folder that was removed"


def _logging() -> dict[str, Any]:
    found: dict[str, Any] = {"disabled below": logging.root.manager.disable}
    for name in _LOGGERS:
        logger = logging.getLogger(name) if name else logging.root
        found[name or "root"] = (logger.level, logger.propagate, logger.disabled, *_handlers(logger))
    return found


def _handlers(logger: logging.Logger) -> list[tuple[logging.Handler, int]]:
    """Its handlers and their levels, without those that pytest adds for a while."""
    return [(h, h.level) for h in logger.handlers if not type(h).__module__.startswith("_pytest")]


def _matplotlib() -> dict[str, Any]:
    module = sys.modules.get("matplotlib")
    if module is None:
        return {}
    found = dict(dict.items(module.rcParams))  # past its own look-ups, which choose a backend
    for name in ("backend", "backend_fallback"):  # chosen when the first figure is made
        found.pop(name, None)
    return found


def _hook(name: str) -> Any:
    """A function of `sys` as it is beneath those that W&B puts over it."""
    found = getattr(sys, name)
    while type(hooks := getattr(found, "__self__", None)).__name__ == "ExitHooks":
        found = getattr(hooks, f"_orig_{name}") or sys.__excepthook__
    return found


def _dashboards() -> dict[str, Any]:
    found: dict[str, Any] = {"wandb.run": None, "mlflow.tracking_uri": None, "mlflow.active_run": "None"}
    if (wandb := sys.modules.get("wandb")) is not None:
        found["wandb.run"] = getattr(wandb, "run", None)
    if (uris := sys.modules.get("mlflow.tracking._tracking_service.utils")) is not None:
        found["mlflow.tracking_uri"] = getattr(uris, "_tracking_uri", None)
    if (fluent := sys.modules.get("mlflow.tracking.fluent")) is not None:
        found["mlflow.active_run"] = repr(fluent.active_run())
    return found


#: What is compared: by name, how it is read. All are cheap; those of libraries that are not imported give nothing.
_READ: dict[str, Callable[[], Any]] = {
    "os.environ": lambda: {key: value for key, value in os.environ.items() if key not in _NOT_OURS},
    "working folder": _cwd,
    "umask": _umask,
    "limits of resources": lambda: {str(limit): resource.getrlimit(limit) for limit in _LIMITS},
    "signal handlers": lambda: {number.name: signal.getsignal(number) for number in _SIGNALS},
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "time zone": lambda: time.tzname,
    "sys": lambda: {
        **{name: _hook(name) for name in ("exit", "excepthook")},
        **{name: getattr(sys, name) for name in ("displayhook", "unraisablehook", "argv", "stdin", "stdout", "stderr")},
    },
    "sys.path": lambda: list(sys.path),
    "recursion limit": sys.getrecursionlimit,
    "threading.excepthook": lambda: threading.excepthook,
    "warnings": lambda: (warnings.showwarning, warnings.formatwarning),
    "logging": _logging,
    "start of processes": lambda: multiprocessing.get_start_method(allow_none=True) or _FIRST_START,
    "numpy": lambda: {"errors": np.geterr(), "print": {k: str(v) for k, v in np.get_printoptions().items()}},
    "pillow": lambda: {
        "LOAD_TRUNCATED_IMAGES": ImageFile.LOAD_TRUNCATED_IMAGES,
        "MAX_IMAGE_PIXELS": Image.MAX_IMAGE_PIXELS,
    },
    "matplotlib": _matplotlib,
    "dashboards": _dashboards,
    "rank_zero_only.rank": lambda: getattr(rank_zero_only, "rank", 0),
    "process group": torch.distributed.is_initialized,
    "torch": lambda: {switch.name: switch.get() for switch in torch_switches(torch)},
}

@dataclass(frozen=True)
class ProcessState:
    """What this process is like at a time.

    Attributes:
        settings: by name.
        threads: of Python, those that are alive.
        children: the numbers of its child processes.
    """

    settings: dict[str, Any] = field(default_factory=lambda: {name: read() for name, read in _READ.items()})
    threads: set[threading.Thread] = field(default_factory=lambda: set(threading.enumerate()))
    children: set[int] = field(default_factory=lambda: _children())

    def left(self) -> list[str]:
        """Put back what has changed since, as far as that is possible; in words, what it was."""
        self._leave_libraries()
        found = [
            f"{name}: {_change(self.settings[name], value)}"
            for name, read in _READ.items()
            if (value := read()) != self.settings[name]
        ]
        if found:
            self._put_back()
        return [*found, *_left_threads(self.threads), *_left_children(self.children)]

    def _leave_libraries(self) -> None:
        """Put back what libraries set wherever they are used; W&B's service ends, figures are closed."""
        before = self.settings["os.environ"]
        if "WANDB_SERVICE" in os.environ and "WANDB_SERVICE" not in before:
            sys.modules["wandb"].teardown()
            os.environ.pop("WANDB_SERVICE", None)
        for name in ("exit", "excepthook"):
            setattr(sys, name, _hook(name))
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None and hasattr(pyplot, "close"):
            pyplot.close("all")
        if str(getattr(sys.excepthook, "__module__", "")).startswith("torch.distributed"):  # of a process group
            sys.excepthook = self.settings["sys"]["excepthook"]
        for name in _OF_LIBRARIES:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]

    def _put_back(self) -> None:
        before = self.settings
        environment = before["os.environ"]
        for name in [name for name in os.environ if name not in environment and name not in _NOT_OURS]:
            del os.environ[name]
        os.environ.update(environment)
        os.chdir(before["working folder"])
        os.umask(before["umask"])
        sys.path[:] = before["sys.path"]
        warnings.showwarning, warnings.formatwarning = before["warnings"]
        server = before["dashboards"]["mlflow.tracking_uri"]
        if _dashboards()["mlflow.tracking_uri"] != server:
            sys.modules["mlflow"].set_tracking_uri(server)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            os.environ.update({name: value for name, value in environment.items() if name == "MLFLOW_TRACKING_URI"})
        _put_back_logging(before["logging"])
        np.seterr(**before["numpy"]["errors"])
        if (module := sys.modules.get("matplotlib")) is not None and before["matplotlib"]:
            dict.update(module.rcParams, before["matplotlib"])
        for name in ("excepthook", "displayhook", "unraisablehook"):
            setattr(sys, name, before["sys"][name])
        threading.excepthook = before["threading.excepthook"]
        rank_zero_only.rank = before["rank_zero_only.rank"]
        for name, handler in before["signal handlers"].items():
            number = getattr(signal, name)
            # one that was not set from Python cannot be set again, and to set any takes the place of faulthandler's
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        for name, value in before["pillow"].items():
            setattr(ImageFile if name == "LOAD_TRUNCATED_IMAGES" else Image, name, value)
        for switch in torch_switches(torch):
            if switch.set_to is not None and switch.get() != before["torch"][switch.name]:
                switch.set_to(before["torch"][switch.name])
        if torch.distributed.is_initialized() and not before["process group"]:
            torch.distributed.destroy_process_group()


def _put_back_logging(before: dict[str, Any]) -> None:
    logging.disable(before["disabled below"])
    for name in _LOGGERS:
        logger = logging.getLogger(name) if name else logging.root
        level, logger.propagate, logger.disabled, *handlers = before[name or "root"]
        logger.setLevel(level)
        for handler, _ in _handlers(logger):
            logger.removeHandler(handler)
        for handler, at in handlers:
            handler.setLevel(at)
            logger.addHandler(handler)


def _change(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        keys = [key for key in {**before, **after} if before.get(key, "") != after.get(key, "")]
        return ", ".join(f"{key} {before.get(key, 'nothing')!r} → {after.get(key, 'nothing')!r}" for key in keys)
    if isinstance(before, list):
        return f"gone {[x for x in before if x not in after]!r}, new {[x for x in after if x not in before]!r}"
    return f"{before!r} → {after!r}"


def _left_threads(before: set[threading.Thread]) -> list[str]:
    """Threads that were not there before, would hold up the end of the process, and do not end soon."""
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    deadline = time.monotonic() + _PATIENCE
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [f"thread {thread.name}" for thread in left if thread.is_alive()]


def _children() -> set[int]:
    """The children of this process, those that have ended and nobody has waited for among them."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # there are none
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _left_children(before: set[int]) -> list[str]:
    """Child processes that were not there before and do not end soon."""
    deadline = time.monotonic() + _PATIENCE
    if _children() - before - _lasting_children():
        gc.collect()  # workers of a loader that only an error's traceback still holds
    while left := _children() - before - _lasting_children():
        multiprocessing.active_children()  # waits for those that have ended
        if time.monotonic() > deadline:
            return [f"process {child} {_command(child)}" for child in left]
        time.sleep(0.01)
    return []


def _lasting_children() -> set[int]:
    """Those that Python starts once: they end with this process."""
    return {getattr(resource_tracker._resource_tracker, "_pid", None), forkserver._forkserver._forkserver_pid} - {None}


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "(ended)"
    return b" ".join(words).decode(errors="replace").strip()[:200] or "(ended)"
