"""The interpretable-filter loss as an option of dense training."""

import pytest
import torch

from handful.errors import UserError
from handful.losses import interpretable_filter_loss
from lightning_modules import Dense, load_module, save_module

NETWORK = {"backbone": "cifar_resnet20", "options": {"width": 2}, "dropout": 0.0}


def step(module, images, labels):
    """The training loss of a batch, and what was logged."""
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    return module.train().training_step((images, labels), 0)["loss"], logged


def test_it_joins_the_training_loss_by_its_weight(tmp_path):
    torch.manual_seed(0)
    plain, with_it = Dense(NETWORK, 2, beta=0.0), Dense(NETWORK, 2, beta=0.0, filter_loss=2.0)
    with_it.load_state_dict(plain.state_dict())
    images, labels = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 0, 1, 0, 1])
    without, logged = step(plain, images, labels)
    assert "train/filter_loss" not in logged
    loss, logged = step(with_it, images, labels)
    expected = 2 * float(interpretable_filter_loss(with_it.model.feature_maps(images)))
    assert float(loss - without) == pytest.approx(expected, rel=1e-4)
    assert logged["train/filter_loss"] == pytest.approx(expected / 2, rel=1e-4)
    save_module(with_it, tmp_path / "last.ckpt")
    assert load_module(tmp_path / "last.ckpt").filter_loss == 2.0


def test_its_scale_reaches_the_loss_and_the_checkpoint(tmp_path):
    torch.manual_seed(0)
    module = Dense(NETWORK, 2, beta=0.0, filter_loss=2.0, filter_scale=0.5)
    images, labels = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 0, 1, 0, 1])
    _, logged = step(module, images, labels)
    expected = float(interpretable_filter_loss(module.model.feature_maps(images).detach(), 0.5))
    assert logged["train/filter_loss"] == pytest.approx(expected, rel=1e-4)
    save_module(module, tmp_path / "last.ckpt")
    assert load_module(tmp_path / "last.ckpt").filter_scale == 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"filter_loss": -1.0}, "filter_loss: -1.0 lies outside"),
     ({"filter_loss": 1.0, "filter_scale": 0.0}, "filter_scale: 0.0 lies outside"),
     ({"filter_loss": 1.0, "train_backbone": False, "init_from": "x.pth"}, "filter_loss: has nothing to change")],
)  # fmt: skip
def test_what_is_refused(options, sentence):
    module = Dense(NETWORK, 2, **options)
    with pytest.raises(UserError, match=sentence):
        module.check(module.model)
