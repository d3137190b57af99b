"""Checkpoints: what was saved comes back ready to predict, and a file is never trusted."""

import pytest
import torch

from handful.errors import UserError
from lightning_modules import Dense, load_module, save_module

NETWORK = {"backbone": "cifar_resnet20", "options": {"width": 4}, "dropout": 0.5}


@pytest.fixture
def saved(tmp_path):
    save_module(Dense(NETWORK, 3, beta=0.25), tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def changed(path, **changes):
    torch.save(torch.load(path, weights_only=True) | changes, path)


def test_a_module_comes_back_as_it_was_and_in_evaluation_mode(tmp_path):
    module = Dense(NETWORK, 3, beta=0.25).train()
    save_module(module, tmp_path / "best.ckpt")
    loaded = load_module(tmp_path / "best.ckpt")
    assert not any(part.training for part in loaded.modules())
    assert dict(loaded.hparams) == dict(module.hparams)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in module.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_modules_that_inherit_from_modules_are_known(saved):
    class Denser(Dense):
        pass

    class Densest(Denser):
        pass

    changed(saved, handful_module="Densest")
    assert type(load_module(saved)) is Densest


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_checkpoint_cannot_run_code(saved, tmp_path):
    changed(saved, state_dict=Trap(tmp_path / "trapped"))
    with pytest.raises(UserError, match="not a checkpoint written by Handful"):
        load_module(saved)
    assert not (tmp_path / "trapped").exists()


def test_a_checkpoint_that_lacks_a_weight_is_refused(saved):
    state = torch.load(saved, weights_only=True)["state_dict"]
    missing = next(name for name in state if name.endswith("linear.weight"))
    changed(saved, state_dict={name: value for name, value in state.items() if name != missing})
    with pytest.raises(UserError, match="its weights do not fit the network it names"):
        load_module(saved)


def test_a_module_that_is_not_known_and_a_missing_file_are_named(saved):
    changed(saved, handful_module="Denselike")
    with pytest.raises(UserError, match="a checkpoint of Denselike, a module that is not known here"):
        load_module(saved)
    with pytest.raises(UserError, match="there is no such checkpoint"):
        load_module(saved.with_name("last.ckpt"))
