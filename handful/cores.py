"""How many processor cores this process may use, which containers and schedulers often make fewer than there are."""

import os
import re
from pathlib import Path

_CGROUP, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(cgroup: Path = _CGROUP, own: Path = _OWN) -> int:
    """Return the number of cores this process may use: by its affinity and by the quotas of its control groups.

    A quota of a fraction is rounded up; there is always one. Of a group and those that it lies in, the least counts.

    Args:
        cgroup: where the control groups' files are, version 2 or 1.
        own: where the system says in which groups this process is.

    Example:
        >>> 1 <= usable_cores() <= (os.cpu_count() or 1)
        True
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quotas = [quota for folder in _groups(cgroup, own) if (quota := _quota(folder)) is not None]
    return max(1, min([cores, *(-int(-quota // 1) for quota in quotas)]))


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


def _groups(cgroup: Path, own: Path) -> list[Path]:
    """Return the folders of the control groups that limit this process: its own, and all that they lie in.

    In a container its own is the uppermost; a service or a job of a cluster has one further down.
    """
    found = [cgroup, cgroup / "cpu"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = cgroup / "cpu" if controllers else cgroup
        for part in Path(path.lstrip("/")).parts:
            if part == "..":  # seen from a namespace that lies beside it
                break
            folder /= part
            found.append(folder)
    return found


def _quota(folder: Path) -> float | None:
    """Return the cores that a control group's quota amounts to; None where there is no limit."""
    try:
        allowed, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (allowed.isdecimal() and period.isdecimal()) or int(allowed) == 0 or int(period) == 0:  # "max", or -1
        return None
    return int(allowed) / int(period)
