"""LightningCLI's own commands, and the choices a config offers."""

import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from jsonargparse import Namespace

from lightning_modules import load_module
from pipelines.cli import main
from pipelines.commands.function import called
from pipelines.configs import read_config
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from pipelines.trainer import share_the_cores
from tests.helpers.pipeline import ROOT, write_config

DATA = ["--data", "ToyBirds", "--data.n_classes", "3", "--data.images_per_class", "6", "--data.image_size", "24",
        "--data.val_images_per_class", "2", "--data.test_images_per_class", "2", "--data.batch_size", "6"]  # fmt: skip
NETWORK = "{backbone: cifar_resnet20, options: {width: 4}}"
QUIET = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false",
         "--trainer.logger", "false", "--trainer.enable_model_summary", "false"]  # fmt: skip


def test_fit_one_phase_then_test_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fit", "--model", "Dense", "--model.network", NETWORK, *DATA, *QUIET, "--trainer.max_epochs", "1"])
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert load_module(checkpoint).num_classes == 3
    main(["test", "--model", "Dense", "--model.network", NETWORK, *DATA, *QUIET, "--ckpt_path", str(checkpoint)])
    assert "test/accuracy" in capsys.readouterr().out


def test_ckpt_path_does_not_replace_what_the_config_says(tmp_path, monkeypatch):
    """LightningCLI would run the checkpoint's class and arguments instead of the ones asked for."""
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "--model", "Dense", "--model.network", NETWORK, *DATA, *QUIET]
    main([*fit, "--trainer.max_epochs", "1", "--model.beta", "0.5"])
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    main([*fit, "--trainer.max_epochs", "2", "--model.beta", "0.25", "--ckpt_path", str(checkpoint)])
    newest = max(tmp_path.rglob("*.ckpt"), key=lambda p: p.stat().st_mtime_ns)
    assert load_module(newest).beta == 0.25


def test_fit_starts_from_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["fit", "--model", "Dense", "--model.network", NETWORK, "--model.init_from", "no.pth", *DATA, *QUIET])
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("extra", "steps"),
    [
        (["--trainer.accumulate_grad_batches", "2"], 2 * 2),
        (["--trainer.precision", "bf16-mixed"], 2 * 4),
        (["--phases.dense.callbacks", "[{class_path: EMAWeightAveraging, init_args: {decay: 0.9}}]"], 2 * 4),
        (["--phases.dense.callbacks",
          "[{class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 1, min_delta: 1000}}]"], 2 * 4),
        (["--phases.dense.module.head_lr", "0.01", "--phases.dense.module.lr_scheduler", "StepLR",
          "--phases.dense.module.lr_scheduler.step_size", "1"], 2 * 4),
    ],
)  # fmt: skip
def test_training_options(tmp_path, extra, steps):
    config = yaml.safe_load(write_config(tmp_path).read_text())
    config["phases"] = {name: config["phases"][name] for name in ("dense", "evaluate")}
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    epochs = "3" if "EarlyStopping" in str(extra) else "2"
    pipeline, _ = parse_pipeline(
        ["--config", str(path), "--run_dir", str(tmp_path / "run"), "--phases.dense.max_epochs", epochs, *extra]
    )
    results = Runner(pipeline).run()
    state = torch.load(tmp_path / "run/dense/last.ckpt", weights_only=True)
    assert state["global_step"] == steps
    assert list(results["stages"]) == ["dense"]


def test_head_has_its_own_learning_rate(tmp_path):
    config = write_config(tmp_path)
    pipeline, _ = parse_pipeline(["--config", str(config), "--phases.dense.module.head_lr", "0.5"])
    from pipelines.build import build_phase

    shared = {"network": pipeline.network.plain(), "num_classes": 3}
    module = build_phase(pipeline.phases["dense"].module, "dense", shared).module
    rates = {len(g["params"]): g["lr"] for g in module.configure_optimizers()["optimizer"].param_groups}
    assert rates[2] == 0.5
    assert sorted(rates.values()) == [0.01, 0.5]


@pytest.mark.parametrize("config", sorted(str(p.relative_to(ROOT)) for p in (ROOT / "configs").rglob("*.yaml")))
def test_every_shipped_config_is_valid(config, tmp_path):
    """By itself, or as the command in its own head says: on top of another; sweeps are W&B's files."""
    if config.startswith("configs/sweeps/"):
        pytest.skip("checked by tests/pipelines/test_sweep.py")
    for name in ("one/1.png", "one/2.png", "other/1.png", "other/2.png"):  # what `auto` is settled from
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = (ROOT / config).read_text()
    alone = "\ndata:" in text and "\nphases:" in text
    files = [config] if alone else list(dict.fromkeys(re.findall(r"--config (configs/\S+\.yaml)", text)))
    assert config in files
    arguments = [part for file in files for part in ("--config", str(ROOT / file))]
    values = [read_config(ROOT / file)[1] for file in files]  # with what it extends
    automatic = any("'auto'" in repr(value) and "root" in repr(value.get("data")) for value in values)
    pipeline, _ = parse_pipeline([*arguments, *(["--data.root", str(tmp_path)] if automatic else [])])
    assert pipeline.phases


@pytest.mark.parametrize("command", ["explain", "export", "demo", "compare", "workspace", "probe"])
def test_the_help_of_a_command_says_what_it_does_once(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    paragraph = said.split("\n\n")[1].strip()
    assert paragraph.endswith(".")
    assert said.count(paragraph[:-1]) == 1


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code in (0, None)
    assert "pipeline" in capsys.readouterr().out


def test_commands_use_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("handful.threads.usable_cores", lambda: 6)
    seen, before = [], torch.get_num_threads()
    try:
        called(lambda: seen.append(torch.get_num_threads()) or Path("page.html"), Namespace(config=None))
        share_the_cores(pl.Trainer(accelerator="cpu", devices=2, logger=False))
        seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [6, 3]
