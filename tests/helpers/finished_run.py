"""A small run of two phases, as the runner leaves it, without training."""

import json
from pathlib import Path

import torch
import yaml

from lightning_modules import Dense, Finetune, save_module
from pipelines.phase_folder import PhaseFolder, made_from

DATA = {
    "class_path": "ToyBirds",
    "init_args": {
        "n_classes": 3, "images_per_class": 4, "val_images_per_class": 2, "test_images_per_class": 2,
        "image_size": 16, "normalisation": "imagenet",
    },
}  # fmt: skip
NETWORK = {"backbone": "cifar_resnet20"}


def forget_digests(run: Path) -> None:
    """Let a run look like one of an older version, whose records hold no digests."""
    names = list(yaml.safe_load((run / "config.yaml").read_text())["phases"])
    for place, name in enumerate(names):
        file = run / name / "done.json"
        record = json.loads(file.read_text())
        record = {k: v for k, v in record.items() if k not in ("files", "checksum")}
        file.write_text(json.dumps(record | {"made_from": made_from(run, names[:place])}))


def write_run(folder: Path) -> Path:
    """A dense phase and a sparse one with five features, of random weights."""
    torch.manual_seed(0)
    phases = {"dense": Dense(NETWORK, 3), "finetune": Finetune(NETWORK, 3, n_features=5)}
    weight = torch.tensor([[0.5, 0, 1, 0, 0], [0, 0.7, 0, 0.4, 0], [0.3, 0, 0, 0, 1]])
    picked = torch.tensor([3, 10, 20, 40, 63])
    phases["finetune"].model.head.fill(picked, torch.rand(5), torch.rand(5) + 0.5, weight, torch.rand(3))
    for name, module in phases.items():
        (folder / name).mkdir()
        save_module(module, folder / name / "best.ckpt")
        PhaseFolder(folder / name).finish({}, made_from(folder, ["dense"] if name == "finetune" else []), 1.0, 1.0)
    config = {
        "name": "tiny", "data": DATA, "network": NETWORK,
        "phases": {"dense": {"module": {"class_path": "Dense"}}, "finetune": {"module": {"class_path": "Finetune"}}},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
