"""Every published recipe starts and runs every phase on a small copy of its data set (`make recipes`).

Two steps of every phase, in the official form on disk, from random weights: the config is tested, not its accuracy.
ResNet-50 and DenseNet-121 have fewer layers but in the three cells of CUB.
"""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from tests.datamodules import official_forms as forms
from tests.helpers.pipeline import ROOT, without_reports
from tests.helpers.two_steps import calm_weights, two_steps

pytestmark = pytest.mark.nightly

SETS = {
    "cub200": forms.write_cub,
    "fgvc_aircraft": forms.write_aircraft,
    "nabirds": forms.write_nabirds,
    "stanford_cars": forms.write_cars,
}
NETWORKS = ("resnet50", "densenet121", "inception_v3")
CELLS = [f"{data}_{net}" for data in SETS for net in NETWORKS]
COLUMNS = ["dense", "sparse_all", "finetuned_all", "sparse", "finetuned"]
#: Sides as small as a network takes.
SIDES = {"resnet50": 64, "densenet121": 64, "inception_v3": 96}
SMALL = ("--data.batch_size", 2, "--data.image_size", 64)
PART = ("--data.complete", "false")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights by timm's names, written once for each network."""
    folder = tmp_path_factory.mktemp("weights")
    return lambda backbone, classes=3, shallow=True: calm_weights(backbone, folder, classes, shallow)


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path):
    """A run leaves half a gigabyte of checkpoints, and pytest would keep those of three sessions."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


def stages(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())["stages"]


@pytest.mark.parametrize("cell", CELLS)
def test_cell(cell, weights, tmp_path):
    """Every cell of the tables, from the official form on disk to five columns; on CUB with the whole network."""
    home = next(write for data, write in SETS.items() if cell.startswith(data))(tmp_path / "data")
    backbone = next(net for net in NETWORKS if cell.endswith(net))
    shallow = not cell.startswith("cub200")
    more = [*SMALL, *PART, "--data.image_size", SIDES[backbone]]
    file = weights(backbone, shallow=shallow)
    with without_reports() if shallow else nullcontext():  # its cell of CUB writes the same kind of report
        main(two_steps(f"sldd/{cell}.yaml", home, tmp_path / "run", *more, weights=file, shallow=shallow))
    assert list(stages(tmp_path / "run")) == COLUMNS


@pytest.mark.parametrize("row", ["without_l_div", "mcl"])
def test_row(row, weights, tmp_path):
    """The other rows, of one cell."""
    more = [*SMALL, *PART, "--config", ROOT / f"configs/sldd/{row}.yaml"]
    home = forms.write_cub(tmp_path / "data")
    with without_reports():
        main(two_steps("sldd/cub200_resnet50.yaml", home, tmp_path / "run", *more, weights=weights("resnet50")))
    assert list(stages(tmp_path / "run")) == COLUMNS


@pytest.mark.parametrize("method", ["qpm", "chiqpm", "qsenn"])
def test_successor(method, weights, tmp_path):
    """The successors' recipes, on CUB by its split in class folders."""
    home = tmp_path / "cub"
    for k, name in enumerate(forms.CUB_CLASSES):
        for n in range(4):
            forms.picture(home / ("train" if n < 2 else "test") / name / f"{n}.jpg", (40, 20), 10 * k + n)
    config = f"{method}/reference_resnet50.yaml"
    main(two_steps(config, home, tmp_path / "run", *SMALL, weights=weights("resnet50")))
    assert len(stages(tmp_path / "run")) == 3


@pytest.mark.parametrize("method", ["sldd", "filters"])
def test_imagenet(method, weights, tmp_path):
    """The published classifier (here of fewer layers): nothing is trained before the sparse layer, or the filters."""
    home = forms.write_imagenet(tmp_path / "data")
    config = f"{method}/imagenet_resnet50.yaml"
    main(two_steps(config, home, tmp_path / "run", *SMALL, *PART, weights=weights("resnet50", 2)))
    assert list(stages(tmp_path / "run")) == (
        ["dense", "sparse", "finetuned"] if method == "sldd" else ["dense", "decomposed", "retrained"]
    )


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_depth_of_the_filters_table(depth, tmp_path):
    """CIFAR-10 in its binary form; the weights are those of the network's own fresh layers."""
    home = forms.write_cifar10(tmp_path / "data")
    weights = _fresh_cifar(depth, tmp_path)
    more = ["--data", "CIFAR10", *SMALL[:2], *PART]
    with without_reports() if depth > 20 else nullcontext():
        main(two_steps(f"filters/cifar10_resnet{depth}.yaml", home, tmp_path / "run", *more, weights=weights))
    assert list(stages(tmp_path / "run")) == ["dense", "decomposed", "retrained"]


def test_plugin_on_stl10(tmp_path):
    """The patent's first case: the network is finetuned with the plug-in."""
    home = forms.write_stl10(tmp_path / "data", 60)
    more = [*SMALL, *PART, "--phases.plugin.module.image_size", 64]
    main(two_steps("plugin/stl10_resnet50.yaml", home, tmp_path / "run", *more))
    assert list(stages(tmp_path / "run")) == ["plugin"]


@pytest.mark.parametrize("config", ["cub_protonet", "cub_protonet_resnet50"])
def test_plugin_on_a_prototypical_network(config, tmp_path):
    """The patent's second case: five-way one-shot episodes of CUB's class folders."""
    home = tmp_path / "CUB_200_2011/images"
    rng = np.random.default_rng(0)
    for k in range(32):
        for n in range(2):
            forms.picture(home / f"{k + 1:03d}.Bird_{k}/{n}.jpg", (24, 24), int(rng.integers(10**6)))
    more = ["--data.image_size", 48, "--data.query", 1, "--data.episodes", 2, "--phases.plugin.module.image_size", 48]
    main(two_steps(f"plugin/{config}.yaml", home, tmp_path / "run", *more))
    assert list(stages(tmp_path / "run")) == ["prototypical", "plugin"]


def test_plugin_on_cifar10(tmp_path):
    """The public ResNet-20 with the plug-in."""
    home = forms.write_cifar10(tmp_path / "data")
    more = ["--data", "CIFAR10", *SMALL[:2], *PART, "--data.val_fraction", 0.2]
    weights = _fresh_cifar(20, tmp_path)
    main(two_steps("plugin/cifar10_resnet20.yaml", home, tmp_path / "run", *more, weights=weights))
    assert "plugin" in stages(tmp_path / "run")


def _fresh_cifar(depth: int, folder: Path) -> Path:
    import torch

    from handful.networks import build_classifier

    torch.manual_seed(0)
    torch.save(build_classifier({"backbone": f"cifar_resnet{depth}"}, 10).state_dict(), folder / "weights.pth")
    return folder / "weights.pth"
