"""Mixed precision, workers with pinned memory and an explicit device."""

import pytest
import torch

from tests.cuda.common import TEST_DEVICE, need_device
from tests.cuda.runs import assert_same_bits, checkpoints, config_file, pipeline, stages, trained_on

need_device(pretence=False)


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_mixed_precision_trains_resumes_and_is_measured(precision, tmp_path):
    if precision == "16-mixed" and TEST_DEVICE != "cuda":
        pytest.skip("float16 is for GPUs")
    config = config_file(tmp_path, trainer={"precision": precision})
    run = tmp_path / "run"
    pipeline(config, run)
    assert trained_on(run) == TEST_DEVICE
    for tensors in checkpoints(run).values():
        for name, value in tensors.items():
            assert value.dtype in (torch.float32, torch.float64, torch.int64, torch.bool), name
            assert bool(torch.isfinite(value).all()), name
    assert set(stages(run)) == {"dense", "sparse", "finetuned"}
    pipeline(config, tmp_path / "resumed", killed=True, HANDFUL_KILL="Dense/2/1")
    pipeline(config, tmp_path / "resumed")
    assert_same_bits(tmp_path / "resumed", run)


def test_workers_and_pinned_memory_change_nothing(tmp_path):
    plain, workers = tmp_path / "plain", tmp_path / "workers"
    config = config_file(tmp_path, trainer={"accelerator": "gpu"} if TEST_DEVICE == "cuda" else {})
    pipeline(config, plain, "--trainer.devices", "1")
    pipeline(config, workers, "--data.num_workers", "2", "--trainer.devices", "[0]" if TEST_DEVICE == "cuda" else "1")
    assert_same_bits(workers, plain)
