import os

import pytest

from handful.cores import has_bf16, usable_cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [({"cpu.max": "150000 100000\n"}, 2), ({"cpu.max": "50000 100000"}, 1), ({"cpu.max": "max 100000"}, None),
     ({}, None),
     ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
     ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None), ({"cpu.max": "?"}, None)],
)  # fmt: skip
def test_cores_are_those_of_affinity_and_quota(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    may_use = os.sched_getaffinity(0)
    nowhere = tmp_path / "no such file"
    assert usable_cores(tmp_path, nowhere) == min(len(may_use), quota or len(may_use))
    try:
        os.sched_setaffinity(0, {min(may_use)})
        assert usable_cores(tmp_path, nowhere) == 1
    finally:
        os.sched_setaffinity(0, may_use)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/system.slice/train.service\n", {"system.slice/train.service/cpu.max": "100000 100000"}, 1),
        ("0::/jobs/7/step\n", {"jobs/7/cpu.max": "100000 100000", "jobs/7/step/cpu.max": "max 100000"}, 1),
        ("0::/jobs/7\n", {"jobs/8/cpu.max": "100000 100000"}, None),
        ("0::/../8\n", {"jobs/8/cpu.max": "100000 100000"}, None),
        ("5:memory:/a\n4:cpu,cpuacct:/b/c\n",
         {"cpu/b/cpu.cfs_quota_us": "100000", "cpu/b/cpu.cfs_period_us": "100000"}, 1),
        ("5:memory:/b\n", {"cpu/b/cpu.cfs_quota_us": "100000", "cpu/b/cpu.cfs_period_us": "100000"}, None),
        ("?\n", {}, None),
    ],
)  # fmt: skip
def test_quotas_of_groups_further_down(tmp_path, own, files, quota, monkeypatch):
    """Those of services and of cluster jobs were not seen: only a container's own is the uppermost."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert usable_cores(tmp_path, tmp_path / "own") == (quota or 16)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flags\t\t: fpu avx512_bf16 x\nflags\t\t: fpu", True), ("flags : fpu avx2", False),
     ("Features\t: fp asimd bf16", True), ("model name : bf16", None)],
)  # fmt: skip
def test_bf16_is_read_off_the_processors_features(tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bf16(tmp_path / "cpuinfo") is expected
    assert has_bf16(tmp_path / "nothing") is None
