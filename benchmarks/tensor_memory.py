"""The memory that tensors hold, exactly: what the allocator was asked for, not what the process happens to keep."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_tensor_bytes(work: Callable[[], object]) -> int:
    """The most bytes that the CPU tensors allocated during `work` held at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    held = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
