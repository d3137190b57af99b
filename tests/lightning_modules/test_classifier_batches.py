"""What a classifier is given and returns is checked once; class weights and balanced accuracy in a real Trainer."""

import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.nn import functional

from handful.errors import UserError
from lightning_modules import Dense
from lightning_modules.batches import checked_logits, class_probabilities, labelled
from tests.datamodules.fakes import Numbered

NETWORK = {"backbone": "cifar_resnet20", "options": {"width": 2}, "dropout": 0.0}
IMAGES = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([1, 0]), torch.tensor([[1], [0]]), torch.tensor([1, 0], dtype=torch.uint8),
     torch.tensor([1, 0], dtype=torch.int32), np.array([1, 0]), np.array([[1], [0]], dtype=np.int16), [1, 0], (1, 0),
     torch.tensor([1.0, 0.0])],
)  # fmt: skip
def test_labels_of_any_integer_kind_become_int64(labels):
    images, found = labelled((IMAGES, labels), 2)
    assert images is IMAGES
    assert found.dtype == torch.int64
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ((IMAGES, torch.tensor([0, 2])), "labels: 2 lies outside the 2 classes"),
        ((IMAGES, torch.tensor([0, -1])), "labels: -1 lies outside"),
        ((IMAGES, torch.tensor([0.5, 1.0])), "expected integers, got float32"),
        ((IMAGES, torch.tensor([[0, 1], [1, 0]])), r"shape \(2, 2\)"),
        ((IMAGES, torch.tensor([0])), "expected 2 of them"),
        ((IMAGES, torch.tensor(0)), "expected 2 of them"),
        ((IMAGES.byte(), torch.tensor([0, 1])), "floating point .* not torch.uint8"),
        ((IMAGES[0], torch.tensor([0, 1])), r"\(3, 8, 8\)"),
        (IMAGES, "a pair .* not Tensor"),
        ({"image": IMAGES}, "a pair .* not dict"),
        ((IMAGES,), "a pair .* not 1 parts"),
    ],
)
def test_other_batches_are_refused_in_a_sentence(batch, sentence):
    with pytest.raises(UserError, match=sentence):
        labelled(batch, 2)


@pytest.mark.parametrize("output", [{"out": IMAGES}, (torch.zeros(2, 3),), torch.zeros(2), torch.zeros(2, 1),
                                    torch.zeros(2, 3, 1, 1), torch.zeros(2, 3).long()])  # fmt: skip
def test_outputs_that_are_no_logits_are_refused(output):
    with pytest.raises(UserError, match=r"need logits \(2, 3\)"):
        checked_logits(output, 2, 3)


def test_logits_that_are_no_numbers_predict_nothing():
    with pytest.raises(UserError, match="logits of 1 of 2 images are not finite"):
        class_probabilities(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]))


class Rare(Numbered):
    """One image of class 1 among the training images."""

    def load_splits(self):
        splits = super().load_splits()
        train = splits["train"]
        train.labels[:] = 0
        train.labels[-1] = 1
        return splits


def trainer(tmp_path, **options):
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path, use_distributed_sampler=False, num_sanity_val_steps=0, enable_model_summary=False,
        **{"devices": 1, "max_epochs": 1, **options},
    )  # fmt: skip


def fitted(tmp_path, data=None, **options):
    torch.manual_seed(0)
    module = Dense(NETWORK, 2, beta=0.0, **options)
    fit = trainer(tmp_path)
    fit.fit(module, datamodule=data or Rare())
    return module, fit


def test_balanced_weights_enter_the_training_loss_and_nothing_else(tmp_path):
    module, fit = fitted(tmp_path, class_weights="balanced")
    assert module.loss_weights.tolist() == pytest.approx([23 / (2 * 22), 23 / 2])
    assert "loss_weights" not in module.state_dict()
    batch = next(iter(Rare().plain_train_dataloader()))
    batch = (batch[0], torch.tensor([0, 1, 1, 0]))
    module.train()
    module.log = lambda *a, **k: None
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loss = module.training_step(batch, 0)["loss"].detach()
    module.load_state_dict(before)
    logits = module.model(batch[0])
    each = functional.cross_entropy(logits, batch[1], reduction="none") * module.loss_weights[batch[1]]
    assert float(loss) == pytest.approx(float(each.detach().mean()), rel=1e-5)
    assert set(fit.callback_metrics) >= {"val/accuracy", "val/balanced_accuracy", "val/loss"}


def test_equal_weights_train_as_none_do(tmp_path):
    plain, _ = fitted(tmp_path)
    none, _ = fitted(tmp_path, class_weights="none")
    ones, _ = fitted(tmp_path, class_weights=[1.0, 1.0])
    weighed, _ = fitted(tmp_path, class_weights="balanced")
    for name, value in plain.state_dict().items():
        assert torch.equal(none.state_dict()[name], value)
        torch.testing.assert_close(ones.state_dict()[name], value)
    assert not torch.allclose(weighed.model.head.linear.weight, plain.model.head.linear.weight)


class Columns(Numbered):
    """Labels as `(N, 1)`, which broadcast against predictions `(B,)`."""

    def _loader(self, dataset, batch_size, sampler):
        loader = super()._loader(dataset, batch_size, sampler)
        loader.collate_fn = lambda items: (torch.stack([i for i, _ in items]), torch.tensor([[y] for _, y in items]))
        return loader


def test_column_labels_count_as_labels(tmp_path):
    torch.manual_seed(0)
    module = Dense(NETWORK, 2)
    found = [trainer(tmp_path).test(module, datamodule=kind(), verbose=False)[0] for kind in (Numbered, Columns)]
    assert found[0] == found[1]
    assert "test/balanced_accuracy" in found[0]


def test_a_label_beyond_the_classes_is_refused_before_it_reaches_the_network(tmp_path):
    data = Numbered()
    data.splits["test"].labels[5] = 2
    with pytest.raises(UserError, match=r"labels: 2 lies outside the 2 classes"):
        trainer(tmp_path).test(Dense(NETWORK, 2), datamodule=data, verbose=False)


def test_a_batch_of_one_pixel_under_batch_norm_ends_in_a_sentence(tmp_path):
    data = Numbered(count=5, image_size=4, side=4, batch_size=1)
    module = Dense(NETWORK, 2)
    with pytest.raises(UserError, match=r"data\.batch_size: a batch of one image"):
        trainer(tmp_path).fit(module, datamodule=data)


def test_a_loss_that_is_no_number_is_said(tmp_path):
    module = Dense(NETWORK, 2)
    with torch.no_grad():
        module.model.head.linear.bias.fill_(float("nan"))
    with pytest.warns(UserWarning, match="loss on the validation images is nan"):
        trainer(tmp_path).validate(module, datamodule=Numbered(), verbose=False)
    module.stage = "sparse"
    with pytest.warns(UserWarning, match="loss of the sparse stage on the test images is nan"):
        trainer(tmp_path).test(module, datamodule=Numbered(), verbose=False)
    with pytest.raises(UserError, match="logits of 4 of 4 images"):
        trainer(tmp_path).predict(module, datamodule=Numbered())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not finite numbers.*")
        trainer(tmp_path).validate(Dense(NETWORK, 2), datamodule=Numbered(), verbose=False)


def measured(tmp_path, processes):
    """Validation and test numbers of one network, as rank zero has them."""
    torch.manual_seed(0)
    module = Dense(NETWORK, 2)
    runner = trainer(tmp_path, **({"devices": processes, "strategy": "ddp_fork"} if processes > 1 else {}))
    return runner.test(module, datamodule=Rare(), verbose=False)[0]


def test_two_processes_measure_what_one_measures(tmp_path):
    """The digits of one: 11 images, so that the processes have unequally many."""
    one, two = measured(tmp_path, 1), measured(tmp_path, 2)
    assert one["test/balanced_accuracy"] == two["test/balanced_accuracy"]
    assert one["test/accuracy"] == two["test/accuracy"]
