"""What a test leaves behind in its process is found, named and put back."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image, ImageFile

from tests.helpers import forked, process_state
from tests.helpers.process_state import ProcessState

LEAKS = {
    "os.environ: MLFLOW_TRACKING_URI 'nothing' → 'x'": lambda: os.environ.update(MLFLOW_TRACKING_URI="x"),
    "os.environ: HANDFUL_TRUST 'tests' → 'nothing'": lambda: os.environ.pop("HANDFUL_TRUST"),
    "working folder: ": lambda: os.chdir("/"),
    "umask: ": lambda: os.umask(0o077),
    "signal handlers: SIGUSR1": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "sys.path: gone [], new ['elsewhere']": lambda: sys.path.append("elsewhere"),
    "warnings: ": lambda: setattr(warnings, "showwarning", print),
    "logging: root": lambda: logging.root.setLevel(5),
    "logging: handful": lambda: logging.getLogger("handful").addHandler(logging.NullHandler()),
    "logging: PIL": lambda: setattr(logging.getLogger("PIL"), "propagate", False),
    "numpy: errors": lambda: np.seterr(all="ignore"),
    "matplotlib: font.size": lambda: mpl.rcParams.update({"font.size": 3}),
    "sys: excepthook": lambda: setattr(sys, "excepthook", print),
    "threading.excepthook: ": lambda: setattr(threading, "excepthook", print),
    "pillow: LOAD_TRUNCATED_IMAGES": lambda: setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
    "pillow: MAX_IMAGE_PIXELS": lambda: setattr(Image, "MAX_IMAGE_PIXELS", 7),
    "rank_zero_only.rank: ": lambda: setattr(rank_zero_only, "rank", 3),
    "torch: threads 1 → 2": lambda: torch.set_num_threads(2),
    "torch: default type": lambda: torch.set_default_dtype(torch.float64),
    "torch: deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch: default device": lambda: torch.set_default_device("meta"),
    "torch: gradients": lambda: torch.set_grad_enabled(False),
    "torch: cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
}


@pytest.mark.parametrize("said", LEAKS)
def test_a_changed_setting_is_named_and_put_back(said):
    before = ProcessState()
    LEAKS[said]()
    (left,) = before.left()
    assert left.startswith(said)
    assert before.left() == []


@pytest.mark.parametrize(
    ("said", "context"),
    [
        ("matplotlib: font.size", lambda: mpl.rc_context({"font.size": 3})),
        ("numpy: errors", lambda: np.errstate(all="ignore")),
        ("torch: inference mode", lambda: torch.inference_mode()),
        ("torch: autocast", lambda: torch.autocast("cpu")),
        ("torch: anomaly detection", lambda: torch.autograd.set_detect_anomaly(True)),
    ],
)
def test_a_setting_that_is_still_changed_is_named(said, context):
    before = ProcessState()
    with context():
        name, setting = said.split(": ")
        assert any(left.startswith(name) and setting in left for left in before.left())
    assert before.left() == []


def test_a_handler_that_python_has_not_set_stays():
    """As faulthandler's of SIGABRT: a leak of another kind neither takes its place nor fails for it.

    In a process of its own: in this one, earlier tests may have set the handler by Python.
    """
    code = (
        "import faulthandler, os, sys\n"
        "from tests.helpers.process_state import ProcessState\n"
        "faulthandler.enable()\n"
        "before = ProcessState()\n"
        "before.settings['signal handlers']['SIGUSR2'] = None\n"  # how Python calls one that C has set
        "os.environ['LEFT'] = 'x'\n"
        "assert 'LEFT' in before.left()[0]\n"
        "os.abort()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in ended.stderr


def test_a_fixture_whose_end_fails_leaves_nothing_to_the_next_test(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_teardown, untouched_process\n")
    (tmp_path / "test_one.py").write_text(
        "import os, pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def broken():\n"
        "    os.environ['LEFT'] = 'x'\n"
        "    yield\n"
        "    raise ValueError('broken')\n"
        "def test_a(broken): pass\n"
    )
    (tmp_path / "test_two.py").write_text("import os\ndef test_b(): assert 'LEFT' not in os.environ\n")
    (tmp_path / "test_0.py").write_text("def test_first(): pass\n")

    def work():
        forked.write_to(os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT))
        os.environ |= {"HANDFUL_LEAKS": "warn", "PYTEST_ADDOPTS": ""}
        options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
        pytest.main([*options, str(tmp_path)])
        sys.stdout.flush()
        os._exit(0)

    assert forked.wait([forked.fork(work)], 200) == [0]
    said = (tmp_path / "said").read_text()
    assert "3 passed, 1 warning, 1 error" in said, said


def test_a_thread_and_a_process_that_go_on_are_named(monkeypatch):
    before, wait = ProcessState(), threading.Event()
    thread = threading.Thread(target=wait.wait, name="forgotten")
    thread.start()
    monkeypatch.setattr(process_state, "_PATIENCE", 0.0)
    assert before.left() == ["thread forgotten"]
    wait.set()
    thread.join()
    process = subprocess.Popen(["sleep", "600"])
    try:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)  # it has none while it is started
        assert before.left() == [f"process {process.pid} sleep 600"]
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert before.left() == [f"process {process.pid} (ended)"]
    process.wait()
    assert before.left() == []
