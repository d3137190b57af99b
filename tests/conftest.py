"""What every test starts from: one thread, no network, nothing left behind by the test before."""

import gc
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded; a forked child hangs in its parent's threads

import pytest

# what a person, a cluster or a terminal has set steers no test
_STEERS = ("SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_", "PL_", "WANDB_", "MLFLOW_", "HF_TOKEN", "HF_ENDPOINT", "TQDM_")
_STEERS += ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_", "COLUMNS", "LINES", "FORCE_COLOR")
_STEERS += ("PYTHONWARNINGS", "MPLBACKEND", "HANDFUL_ALLOCATOR", "HANDFUL_KILL", "HANDFUL_STARTED_BY")
for name in [name for name in os.environ if name.startswith(_STEERS)]:
    del os.environ[name]
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
os.environ["HANDFUL_TRUST"] = "tests"  # callbacks of the tests, also in processes that they start
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["WANDB_SILENT"] = "true"

#: The process before the module whose tests run.
_BEFORE = pytest.StashKey[Any]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prepare torch, in a process that runs tests: one that only hands them out to others does not import it."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        return
    gc.disable()  # until all is collected: a quarter of the seconds of imports
    import torch

    torch.set_num_threads(1)
    if not torch.cuda.is_available() and "HANDFUL_TEST_DEVICE" not in os.environ:
        # autograd counts devices at its first step; one that the exporter to ONNX adds later is not to start threads,
        # after which no forked process can train
        torch.ones(1, requires_grad=True).backward()


def pytest_collection_finish() -> None:
    """Keep what was collected out of garbage collection, and its pages shared with forked processes.

    Thousands of tests and all that their modules import stay to the end; a phase of a pipeline collects garbage, and
    half a second each time went into them.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def untouched_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put back what a test leaves changed in its process: no test depends on those that ran before it.

    A warning says what it was; with HANDFUL_LEAKS=fail, the test fails. Threads and processes are named, too.
    """
    from tests.helpers.process_state import ProcessState

    before = ProcessState()
    try:
        yield
    finally:
        _complain(request.node, "this test", before.left())


@pytest.hookimpl(wrapper=True, trylast=True)  # output is captured as it is while fixtures are set up
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The same for a module, whose fixtures end after its last test."""
    from tests.helpers.process_state import ProcessState

    try:
        yield
    finally:  # where a fixture's end fails, too
        if nextitem is None or nextitem.path != item.path:
            left = item.config.stash[_BEFORE].left() if _BEFORE in item.config.stash else []
            item.config.stash[_BEFORE] = ProcessState()
            _complain(item, f"fixtures of {item.path.name}", left)


def _complain(item: pytest.Item, who: str, left: list[str]) -> None:
    said = f"left behind by {who}: {'; '.join(left)}"
    assert not left or os.environ.get("HANDFUL_LEAKS") != "fail", said
    if left:
        item.warn(pytest.PytestWarning(said))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory, pytestconfig) -> None:
    """Caches of the tests lie in a folder of their own."""
    from lightning.fabric.utilities import registry

    from tests.helpers.process_state import ProcessState

    # every Trainer looks through all installed packages for callbacks; nothing is installed meanwhile
    registry.entry_points = cache(registry.entry_points)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    pytestconfig.stash[_BEFORE] = ProcessState()


@pytest.fixture(scope="session")
def tiny_run(own_cache, tmp_path_factory) -> Iterator[Path]:
    """A finished run of the tiny pipeline, `tiny.yaml` beside it; a test that changes anything takes a copy."""
    from pipelines.cli import main
    from tests.helpers.pipeline import write_config

    folder = tmp_path_factory.mktemp("tiny")
    main(["pipeline", "--config", str(write_config(folder)), "--run_dir", str(folder / "run")])
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder / "run"
    assert files == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def without_report(tiny_run) -> Iterator[None]:
    """Pipelines of a module end without report and summary; the session's `tiny_run`, made before, has its own."""
    from tests.helpers.pipeline import without_reports

    with without_reports():
        yield


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and the public checkpoint, where there is one."""
    folder = os.environ.get("HANDFUL_DATA")
    if not folder:
        pytest.skip("HANDFUL_DATA, the folder with cub100.zip, cifar10.zip and resnet20_cifar10.pth, is not set")
    return Path(folder)


@pytest.fixture
def free_port() -> int:
    """A port that nobody has."""
    from tests.helpers import ports

    return ports.free_port()
