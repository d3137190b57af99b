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
    assert usable_cores(tmp_path) == min(len(may_use), quota or len(may_use))
    try:
        os.sched_setaffinity(0, {min(may_use)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, may_use)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flags\t\t: fpu avx512_bf16 x\nflags\t\t: fpu", True), ("flags : fpu avx2", False),
     ("Features\t: fp asimd bf16", True), ("model name : bf16", None)],
)  # fmt: skip
def test_bf16_is_read_off_the_processors_features(tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bf16(tmp_path / "cpuinfo") is expected
    assert has_bf16(tmp_path / "nothing") is None
