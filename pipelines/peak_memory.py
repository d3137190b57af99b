"""Peak memory of a phase."""

from pathlib import Path

import torch


def reset_peak_memory() -> None:
    """Reset the measurement: the GPU's peak, and the process's on Linux."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then that of the whole process
        return


def peak_memory_mib(device: torch.device) -> float:
    """Peak since the reset in MiB: of the GPU where the phase ran on one, else of the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
