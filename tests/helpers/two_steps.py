"""A published recipe in two steps of every phase, on a small copy of its data, from random weights."""

import json
from pathlib import Path

import torch

from pipelines.configs import read_config
from tests.helpers.pipeline import ROOT

# What makes a phase small, by its class.
_SMALL = {
    "Sparsify": {"n_features": 6, "features_per_class": 2},
    "Assign": {"n_features": 6, "features_per_class": 2},
    "FindFilters": {"k1": 2, "k2": 2, "grid_k1": [1, 2], "grid_k2": [1, 2]},
    "InfoMaxPlugin": {"units": 8, "hidden": 8, "places": 4, "statistics_images": 8, "bank_size": 16, "samples": 1},
    "Prototypical": {"val_episodes": 2, "test_episodes": 2, "test_shots": [1], "query": 1},
}

#: Options of timm's networks with which they are themselves with fewer layers and channels.
SHALLOW = {
    "resnet50": {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]},
    "densenet121": {"block_config": [2, 2, 2, 2]},
}


def calm_weights(backbone: str, folder: Path, classes: int = 3, shallow: bool = True) -> Path:
    """A file of random weights under timm's names, of which evaluation after two steps gives finite features."""
    import timm

    name = backbone.split(".")[0]
    file = folder / f"{name}-{classes}-{shallow}.pth"
    if file.exists():
        return file
    net = timm.create_model(name, num_classes=classes, **(SHALLOW.get(name, {}) if shallow else {}))
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(net.state_dict(), file)
    return file


def two_steps(
    config: str, root: Path, run: Path, *more: object, weights: Path | None = None, shallow: bool = True
) -> list[str]:
    """Arguments that shorten a config to two steps of every phase.

    Args:
        config: below `configs`.
        root: of the data.
        run: the folder of the run.
        more: further arguments, such as other configs; they win.
        weights: to start from; none by default.
        shallow: whether the network has fewer layers and channels than its own, where it has options for them.
    """
    _, content = read_config(ROOT / "configs" / config)
    arguments: list[object] = [
        "pipeline", "--config", ROOT / "configs" / config, "--data.root", root, "--data.num_workers", "0",
        "--network.pretrained", "false", "--wandb.mode", "disabled", "--run_dir", run,
        "--trainer.limit_train_batches", "2", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true",
        "--trainer.enable_progress_bar", "false",
        # of maps of one pixel in batches of two, gradients are huge
        "--trainer.gradient_clip_val", "0.01",
    ]  # fmt: skip
    arguments += ["--init_from", weights] if weights else []
    fewer = SHALLOW.get(content["network"]["backbone"].split(".")[0]) if shallow else None
    arguments += ["--network.options", json.dumps(fewer | content["network"].get("options", {}))] if fewer else []
    for name, phase in content["phases"].items():
        kind = phase["module"]["class_path"].rpartition(".")[2]
        given = phase["module"].get("init_args", {})
        for option, value in _SMALL.get(kind, {}).items():
            if given.get(option) != "all":
                arguments += [f"--phases.{name}.module.{option}", value]
        if phase.get("max_epochs"):
            arguments += [f"--phases.{name}.max_epochs", 1]
    if "rounds" in content:  # equally long ones
        arguments += ["--rounds", json.dumps(content["rounds"] | {"values": {}})]
    return [str(argument) for argument in (*arguments, *more)]
