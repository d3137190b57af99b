"""The SLDD pipeline on the GPU: killed and resumed, handed to the CPU and back."""

import shutil

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from handful.birds import ToyBirdsDataset
from tests.cuda.common import TEST_DEVICE, need_device
from tests.cuda.runs import (
    HIDDEN,
    assert_close_rows,
    assert_same_bits,
    checkpoints,
    config_file,
    finished,
    pipeline,
    stages,
    trained_on,
)

need_device(pretence=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    config = config_file(folder)
    pipeline(config, folder / "run")
    return config, folder / "run"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    birds = ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=24)
    for number in range(3):
        to_pil_image(birds[number][0]).save(folder / f"{number}.png")
    return folder


def test_the_gpu_is_found_and_the_same_command_gives_the_same_bits(unbroken, tmp_path):
    config, run = unbroken
    assert trained_on(run) == TEST_DEVICE
    pipeline(config, tmp_path / "again")
    assert_same_bits(tmp_path / "again", run)


def test_killed_twice_resumes_to_the_same_bits(unbroken, tmp_path):
    config, run = unbroken
    pipeline(config, tmp_path / "run", killed=True, HANDFUL_KILL="Dense/1/2")
    pipeline(config, tmp_path / "run", killed=True, HANDFUL_KILL="Finetune/2/1")
    pipeline(config, tmp_path / "run")
    assert_same_bits(tmp_path / "run", run)
    assert (tmp_path / "run/dense/metrics.csv").read_text() == (run / "dense/metrics.csv").read_text()


@pytest.mark.parametrize("environment", [{}, HIDDEN], ids=["seen", "hidden"])
def test_a_run_of_the_gpu_explains_predicts_and_reports_with_and_without_it(unbroken, photos, tmp_path, environment):
    run = tmp_path / "run"
    shutil.copytree(unbroken[1], run)
    methods = "cam,gradcam,integrated_gradients,smoothgrad,occlusion"
    finished("explain", "--run_dir", run, "--images", photos, "--methods", methods, **environment)
    finished("predict", "--run_dir", run, "--images", photos, **environment)
    finished("report", "--run_dir", run, **environment)
    finished("tradeoff", "--run_dir", run, **environment)
    assert (run / "explain/index.html").is_file()
    assert (run / "report/index.html").is_file()
    assert len((run / "predict/predictions.csv").read_text().splitlines()) == 4


def test_the_same_weights_measure_the_same_on_the_cpu(unbroken, tmp_path):
    config, run = unbroken
    shutil.copytree(run, tmp_path / "run")
    options = ("--start_at", "evaluate", "--trainer.accelerator", "cpu")
    pipeline(config, tmp_path / "run", *options, **HIDDEN)
    assert checkpoints(tmp_path / "run").keys() == checkpoints(run).keys()
    assert_close_rows(tmp_path / "run", run, accuracy=7.0)  # one of 15 images


def test_a_run_of_the_cpu_goes_over_to_the_gpu(unbroken, photos, tmp_path):
    config = config_file(tmp_path, trainer={"accelerator": "cpu"})
    run = tmp_path / "cpu"
    pipeline(config, run, killed=True, HANDFUL_KILL="Finetune/1/1", **HIDDEN)
    assert trained_on(run) == "cpu"
    pipeline(unbroken[0], run)  # resumes in the middle of finetuning, on the GPU
    assert trained_on(run, "finetune/last.ckpt") == TEST_DEVICE
    finished("explain", "--run_dir", run, "--images", photos)
    assert set(stages(run)) == {"dense", "sparse", "finetuned"}
    # the dense stage was trained on the CPU and measured on the GPU
    shutil.copytree(run, tmp_path / "back")
    pipeline(config, tmp_path / "back", "--start_at", "evaluate", **HIDDEN)
    assert_close_rows(tmp_path / "back", run, accuracy=7.0)


def test_features_chosen_on_the_gpu_are_those_of_the_cpu(unbroken, tmp_path):
    config, run = unbroken
    shutil.copytree(run, tmp_path / "run")
    options = ("--start_at", "sparsify", "--trainer.accelerator", "cpu", "--phases.finetune.max_epochs", "0")
    pipeline(config, tmp_path / "run", *options, **HIDDEN)
    heads = [torch.load(folder / "sparsify/best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
             for folder in (tmp_path / "run", run)]  # fmt: skip
    assert heads[0]["model.head.selection"].tolist() == heads[1]["model.head.selection"].tolist()
    assert abs(stages(tmp_path / "run")["sparse"]["accuracy"] - stages(run)["sparse"]["accuracy"]) <= 7.0
