"""Further losses of dense training: the mutual-channel loss and the auxiliary classifier."""

import lightning as L
import pytest
import torch
from torch.nn import functional

from datamodules import ToyBirds
from handful.errors import UserError
from handful.losses import MutualChannelLoss
from lightning_modules import Dense, load_module, save_module

NETWORK = {"backbone": "cifar_resnet20", "options": {"width": 4}}


def step(module, tmp_path, steps=1):
    """Train for a few steps on toy birds."""
    data = ToyBirds(n_classes=3, images_per_class=4, val_images_per_class=0, test_images_per_class=1, image_size=24,
                    batch_size=6, cache_dir=str(tmp_path))  # fmt: skip
    trainer = L.Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer.callback_metrics


def test_mutual_channel_is_added_to_the_cross_entropy(tmp_path):
    """The logged loss is the loss function's, and the total the sum."""
    torch.manual_seed(0)
    module = Dense(NETWORK, 3, beta=0.0, mutual_channel={"channels": 2})
    seen, inner = [], module.further_loss

    def watched(out):
        loss = inner(out)
        seen.append(float(loss.detach()))
        return loss

    module.further_loss = watched
    measured = step(module, tmp_path)
    assert isinstance(module.mutual_channel, MutualChannelLoss)
    assert measured["train/mutual_channel_loss"] == pytest.approx(seen[0], rel=1e-5)
    assert measured["train/loss"] > measured["train/mutual_channel_loss"]


def test_auxiliary_classifier_learns_and_leaves_no_hook(tmp_path):
    """Its own weights and those before its layer get gradients; the kept classifier knows nothing of it."""
    torch.manual_seed(0)
    module = Dense(NETWORK, 3, beta=0.0, auxiliary={"layer": "layer2", "weight": 0.4})
    before = {name: value.clone() for name, value in module.named_parameters()}
    measured = step(module, tmp_path)
    after = dict(module.named_parameters())
    assert measured["train/auxiliary_loss"] > 0
    assert not torch.equal(before["auxiliary.linear.weight"], after["auxiliary.linear.weight"])
    assert not any(layer._forward_hooks for layer in module.model.backbone.modules())
    save_module(module, tmp_path / "kept.ckpt")
    loaded = load_module(tmp_path / "kept.ckpt")
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(loaded.model(images), module.eval().model(images))


def test_without_options_nothing_changes():
    """The random numbers of a plain module are those of before; the options are absent."""
    torch.manual_seed(0)
    plain = Dense(NETWORK, 3)
    assert plain.mutual_channel is None
    assert plain.auxiliary is None
    assert plain.further_loss({}) == 0.0


def test_auxiliary_loss_is_the_cross_entropy_of_its_logits():
    """Of the images that the backbone has just seen."""
    module = Dense(NETWORK, 3, auxiliary={"layer": "layer2"}).eval()
    images, labels = torch.rand(4, 3, 24, 24), torch.tensor([0, 1, 2, 0])
    with module.auxiliary.watching(module.model.backbone):
        module.model(images)
        logits = module.auxiliary.logits()
    assert logits.shape == (4, 3)
    assert functional.cross_entropy(logits, labels).isfinite()
    with pytest.raises(RuntimeError, match="seen no images"):
        module.auxiliary.logits()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mutual_channel": {"chanels": 2}}, "did you mean .channels."),
        ({"mutual_channel": {"channels": 0}}, "at least 1"),
        ({"mutual_channel": {"diversity": -1.0}}, "mutual_channel.diversity"),
        ({"auxiliary": {"layer": "layer9"}}, "has no layer 'layer9'"),
        ({"auxiliary": {"weigth": 1}}, "no option 'weigth'"),
    ],
)
def test_options_that_cannot_be(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Dense(NETWORK, 3, **options)


def test_more_channels_than_maps_are_refused_before_training():
    module = Dense(NETWORK, 3, mutual_channel={"channels": 9})
    with pytest.raises(UserError, match=r"9 channels for each of 3 classes are 27, but the backbone has 16"):
        module.check(module.model)


def test_its_further_losses_may_be_watched():
    plain, module = Dense(NETWORK, 3).measures, Dense(NETWORK, 3, filter_loss=0.5).measures
    assert set(module) - set(plain) == {"train/filter_loss"}
