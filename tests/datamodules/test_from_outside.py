"""A data set of somebody else's, added without touching the package: the example of CONTRIBUTING."""

import importlib
import re
from pathlib import Path

import torch

from datamodules import HandfulDataModule

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def test_the_example_is_a_data_set_of_under_fifteen_lines(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n((?:(?!```).)*class Stripes.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    assert len(block.strip().splitlines()) < 15
    (tmp_path / "stripes.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = importlib.import_module("stripes").Stripes(image_size=8, batch_size=4, cache_dir=str(tmp_path / "cache"))
    assert isinstance(data, HandfulDataModule)
    data.setup()
    assert len(data.train_dataloader()) == 5
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (4, 3, 8, 8)
    assert torch.equal(labels, torch.arange(4) % 2)
    assert data.summary()["num_classes"] == 2
