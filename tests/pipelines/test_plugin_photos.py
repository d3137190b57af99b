"""The plug-in at two layers of EfficientNet-Lite0, on few small pictures: the shipped config from end to end."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.parse import parse_pipeline
from pipelines.runner import Runner

CONFIG = Path(__file__).parents[2] / "configs" / "plugin" / "photos.yaml"


def test_bits_at_two_layers_of_the_same_classifier(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 255, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    options = {
        "data.root": tmp_path / "images", "data.cache_dir": tmp_path / "cache", "data.image_size": 64,
        "data.batch_size": 6, "phases.dense.max_epochs": 1, "phases.dense.callbacks": "[]", "wandb.mode": "disabled",
        "trainer.enable_progress_bar": False,
    }  # fmt: skip
    for phase in ("plugin_eighth", "plugin_sixteenth"):
        options |= {f"phases.{phase}.max_epochs": 1, f"phases.{phase}.module.image_size": 64,
                    f"phases.{phase}.module.units": 16, f"phases.{phase}.module.hidden": 16,
                    f"phases.{phase}.module.samples": 1, f"phases.{phase}.module.bank_size": 64}  # fmt: skip
    given = ["--config", str(CONFIG), "--run_dir", str(tmp_path / "run"), *(f"--{k}={v}" for k, v in options.items())]
    stages = Runner(parse_pipeline(given)[0]).run()["stages"]
    assert list(stages) == ["plugin_eighth", "plugin_sixteenth"]
    for row in stages.values():
        assert all(math.isfinite(value) for value in row.values())
        assert any("capacity" in name and value > 0 for name, value in row.items()), row
