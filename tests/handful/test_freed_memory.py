"""Freed memory stays in the process, and can be handed back."""

import subprocess
import sys

import pytest

from handful.freed_memory import keep_freed_memory

FAULTS = """
import ctypes, resource, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 4 KiB, whatever the machine prefers
from handful.freed_memory import hand_back_memory, keep_freed_memory
import torch
assert keep_freed_memory({environment}) is {kept}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(6):
        torch.zeros(2**24).add_(1)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
faults()
print(faults())
x = torch.ones(2**26); del x  # 256 MiB
before = resident()
hand_back_memory()
print(before - resident())
"""


def measured(environment, kept):
    program = FAULTS.format(environment=environment, kept=kept)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    faults, handed_back = done.stdout.split()
    return int(faults), float(handed_back)


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_freed_memory_is_used_again_and_handed_back_on_request():
    faults, handed_back = measured({}, True)
    assert handed_back > 200
    as_it_is, nothing = measured({"HANDFUL_ALLOCATOR": "system"}, False)
    assert as_it_is > 60_000  # six tensors of 16,384 pages
    assert faults < as_it_is / 4  # one of the six may lie anew, by where the heap begins
    assert nothing < 50


@pytest.mark.parametrize(
    "environment",
    [
        {"HANDFUL_ALLOCATOR": "system"},
        {"MALLOC_TRIM_THRESHOLD_": "1"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"},
    ],
)
def test_what_somebody_chose_stays(environment):
    assert keep_freed_memory(environment) is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("handful.freed_memory._glibc", lambda: None)
    from handful.freed_memory import hand_back_memory

    assert keep_freed_memory({}) is False
    assert hand_back_memory() is False
