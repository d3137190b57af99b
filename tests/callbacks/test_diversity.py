"""The diversity callback: the numbers of a loop over single images, and a training that does not notice it."""

import lightning.pytorch as pl
import pytest
import torch

from callbacks import Diversity
from datamodules import ToyBirds
from handful.metrics import DiversityAtK
from lightning_modules import Dense

NETWORK = {"backbone": "cifar_resnet20", "options": {"width": 4}, "dropout": 0.3}


def birds() -> ToyBirds:
    return ToyBirds(n_classes=3, images_per_class=5, val_images_per_class=3, test_images_per_class=1, image_size=24,
                    batch_size=4)  # fmt: skip


def fitted(tmp_path, *callbacks, devices=1, sanity=0):
    pl.seed_everything(0, verbose=False)
    module = Dense(NETWORK, 3)
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp_fork" if devices > 1 else "auto", max_epochs=2,
        callbacks=list(callbacks), logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=sanity, use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, birds())
    return module, trainer


def expected(module):
    metric = DiversityAtK(5)
    module.eval()
    with torch.no_grad():
        for image, _ in birds().val_dataset:
            maps = module.model.feature_maps(image[None])
            logits = module.model(image[None])
            metric.update(maps, logits, module.model.head.linear.weight)
    return {k: float(v) for k, v in metric.compute().items()}


def test_numbers_are_those_of_single_images(tmp_path):
    module, trainer = fitted(tmp_path, Diversity())
    for name, value in expected(module).items():
        assert float(trainer.callback_metrics[f"val/{name}"]) == pytest.approx(value, rel=1e-5)


def test_as_many_are_logged_as_asked_for_and_the_sanity_check_does_not_count(tmp_path):
    module, trainer = fitted(tmp_path, Diversity(k=3), sanity=2)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items() if "val/div" in name}
    wanted = {f"val/diversity@{k}": expected(module)[f"diversity@{k}"] for k in (1, 2, 3)}
    assert logged == pytest.approx(wanted, rel=1e-5)


def test_training_does_not_notice(tmp_path):
    with_callback, _ = fitted(tmp_path, Diversity())
    without, _ = fitted(tmp_path)
    pairs = zip(with_callback.state_dict().values(), without.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_two_processes_log_the_number_of_one(tmp_path):
    """Nine images on two ranks; the weights are those that two ranks trained."""
    module, trainer = fitted(tmp_path, Diversity(), devices=2)
    for name, value in expected(module).items():
        assert float(trainer.callback_metrics[f"val/{name}"]) == pytest.approx(value, rel=1e-5)


def test_a_module_without_maps_is_passed_over(tmp_path):
    class Bare(pl.LightningModule):
        def validation_step(self, batch, batch_idx):
            return {"loss": torch.zeros(())}

    trainer = pl.Trainer(accelerator="cpu", callbacks=[Diversity()], logger=False, enable_progress_bar=False,
                         enable_model_summary=False, default_root_dir=tmp_path)  # fmt: skip
    trainer.validate(Bare(), birds(), verbose=False)
    assert trainer.callback_metrics == {}
