"""How many processor cores this process may use, which containers and schedulers often make fewer than there are."""

import os
import re
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores this process may use: by its affinity and by its control group's quota.

    A quota of a fraction is rounded up; there is always one.

    Args:
        cgroup: where the control group's files are, version 2 or 1.

    Example:
        >>> 1 <= usable_cores() <= (os.cpu_count() or 1)
        True
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, -int(-quota // 1)))


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Return whether the processor has bf16 instructions; None where the system does not say it.

    Args:
        cpuinfo: where Linux lists the processor's features.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    features = next((line.partition(":")[2].split() for line in lines if re.match(r"(flags|Features)\s*:", line)), None)
    return None if features is None else not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)


def _quota(cgroup: Path) -> float | None:
    """Return the cores that a control group's quota amounts to; None where there is no limit."""
    try:
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (allowed.isdecimal() and period.isdecimal()) or int(allowed) == 0 or int(period) == 0:  # "max", or -1
        return None
    return int(allowed) / int(period)
