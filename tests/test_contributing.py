"""What CONTRIBUTING.md shows runs, in under fifteen lines each, from outside the package."""

import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from datamodules import ToyBirds
from handful.attribution import attribute, contributions, registry
from handful.networks import backbone, build_classifier, build_head, head, layouts
from handful.networks.timm_backbone import TimmBackbone
from lightning_modules import Dense, TrainedModule, save_module
from pipelines.phases import Phase
from tests.helpers.phases import run_phase

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.M | re.S)


@pytest.fixture(autouse=True)
def own_registries(monkeypatch):
    """What a block registers is gone after its test."""
    monkeypatch.setattr(head, "_KINDS", dict(head._KINDS))
    monkeypatch.setattr(backbone, "_FACTORIES", dict(backbone._FACTORIES))
    monkeypatch.setattr(layouts, "_READERS", list(layouts._READERS))
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.setattr(Phase, "registered", dict(Phase.registered))
    monkeypatch.setattr(TrainedModule, "registered", dict(TrainedModule.registered))


def block(name):
    """The block that defines a name, run."""
    (found,) = [text for text in BLOCKS if re.search(rf"^(class|def) {name}\b", text, flags=re.M)]
    scope = {"__name__": "elsewhere"}
    exec(compile(found, "CONTRIBUTING.md", "exec"), scope)
    return scope


@pytest.mark.parametrize("text", BLOCKS, ids=[text.splitlines()[-1].strip()[:30] for text in BLOCKS])
def test_every_block_is_short_and_runs(text):
    assert len(text.splitlines()) < 15
    exec(compile(text, "CONTRIBUTING.md", "exec"), {"__name__": "elsewhere"})


def test_the_phase(tmp_path):
    phase = block("ActiveFeatures")["ActiveFeatures"]()
    assert phase.inputs == (("dense", "a classifier"),)
    assert Phase.registered["ActiveFeatures"] is type(phase)
    data = ToyBirds(n_classes=2, images_per_class=4, test_images_per_class=3, image_size=16, batch_size=2)
    module = Dense(network={"backbone": "conv4", "options": {"width": 4}}, num_classes=2)
    (tmp_path / "dense").mkdir()
    save_module(module, tmp_path / "dense" / "best.ckpt")
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    produced = run_phase(phase, trainer, data, earlier={"dense": tmp_path / "dense"})
    features = module.model.eval().features(torch.stack([image for image, _ in data.test_dataset]))
    assert produced.rows["active"]["share"] == features.gt(0).double().mean().item()


def test_the_head():
    block("SignedHead")
    model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
    model = model.with_head(build_head({"kind": "signed", "num_features": 4, "num_classes": 3})).eval()
    model.head.sign[:, 1:3] = torch.tensor([1.0, -1.0])
    found = contributions(model, torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(found.values.sum(1) + found.bias, found.logits.gather(1, found.classes[:, None])[:, 0])


def test_the_backbone():
    block("Patches")
    model = build_classifier({"backbone": "patches", "options": {"width": 5}}, 3)
    assert model.feature_maps(torch.randn(1, 3, 16, 24)).shape == (1, 5, 2, 3)


def test_the_layout():
    block("LastStage")
    assert TimmBackbone("coat_tiny", in_size=(64, 96))(torch.randn(1, 3, 64, 96)).shape[2:] == (2, 3)


def test_the_attribution_method():
    block("squared_gradient")
    model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3).eval()
    images = torch.randn(2, 3, 16, 16)
    plain = attribute(model, images, method="gradient").raw
    torch.testing.assert_close(attribute(model, images, method="squared_gradient", power=2).raw, plain**2)


def test_the_metric():
    metric = block("MeanConfidence")["MeanConfidence"]
    confidence = torch.rand(7)
    whole, first, second = metric(), metric(), metric()
    whole.update(confidence)
    first.update(confidence[:4])
    second.update(confidence[4:])
    first.merge_state(second)
    assert float(first.compute()) == pytest.approx(float(confidence.double().mean()))
    torch.testing.assert_close(first.compute(), whole.compute())


def test_the_data_set(tmp_path):
    data = block("Stripes")["Stripes"](image_size=8, batch_size=5, cache_dir=str(tmp_path))
    data.prepare_data()
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))[:2]
    assert images.shape == (5, 3, 8, 8)
    assert set(labels.tolist()) <= {0, 1}
