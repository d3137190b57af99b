"""A data set of somebody else's, added without touching the package: the example of CONTRIBUTING."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from datamodules import HandfulDataModule

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def test_the_example_is_a_data_set_of_under_fifteen_lines(tmp_path):
    (block,) = re.findall(r"```python\n((?:(?!```).)*class Stripes.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    assert len(block.strip().splitlines()) < 15
    (tmp_path / "stripes.py").write_text(block)
    code = "from stripes import *; d = Stripes(image_size=8, batch_size=4); d.setup(); print(len(d.train_dataloader()))"
    search = {"PYTHONPATH": f"{tmp_path}:{CONTRIBUTING.parent}", "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    out = subprocess.run([sys.executable, "-c", code], env=search, capture_output=True, text=True, check=True).stdout
    assert out == "5\n"


def test_its_loaders_give_normalised_images():
    (block,) = re.findall(r"```python\n((?:(?!```).)*class Stripes.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    data = names["Stripes"](image_size=8, batch_size=4)
    assert isinstance(data, HandfulDataModule)
    data.setup()
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (4, 3, 8, 8)
    assert torch.equal(labels, torch.arange(4) % 2)
    assert data.summary()["num_classes"] == 2
