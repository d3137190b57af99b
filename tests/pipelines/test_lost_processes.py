"""The end of a process whose partner is gone: it comes, whatever the main thread is doing at the time."""

import subprocess
import sys

import pytest

from tests.helpers.pipeline import ROOT

# the thread speaks while the main thread imports Lightning, and waits for it
_IMPORTING = """
import threading
from pipelines.errors import print_sentence
speaker = threading.Thread(target=print_sentence, args=("gone",), daemon=True)
speaker.start()
speaker.join(20)
print("waits" if speaker.is_alive() else "spoke")
"""

_READER_STOPPED = """
import os
import pipelines.processes as processes
processes._GRACE = processes._PERIOD = 0.2
processes._watch("watch-parent", lambda: True)
while True:
    os.write(1, b"x")
"""


@pytest.mark.parametrize("rank", [None, "1"])
def test_a_sentence_waits_for_no_import(tmp_path, rank):
    (tmp_path / "lightning").mkdir()
    (tmp_path / "lightning/__init__.py").write_text(_IMPORTING)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", **({"LOCAL_RANK": rank} if rank else {})}
    done = subprocess.run(
        [sys.executable, "-c", "import lightning"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "spoke\n"
    assert done.stderr == ("handful (process 1): gone\n" if rank else "handful: gone\n")


def test_a_reader_that_has_stopped_holds_nobody_up():
    process = subprocess.Popen(
        [sys.executable, "-c", _READER_STOPPED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.wait(timeout=300) == 2  # it would wait for ever
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
