"""Weights from files: public checkpoints, ours, and those that must be refused."""

import pickle

import pytest
import torch

from handful.errors import UserError
from handful.networks import build_classifier, load_weights


@pytest.fixture
def trained():
    torch.manual_seed(3)
    return build_classifier({"backbone": "cifar_resnet20"}, 10)


def as_public(classifier) -> dict:
    """The form of the public CIFAR checkpoints: `state_dict` inside, `module.` in front, a layer `linear`."""
    state = {f"module.{k}": v for k, v in classifier.backbone.state_dict().items()}
    state |= {f"module.{k}": v for k, v in classifier.head.state_dict().items()}
    return {"state_dict": state, "best_prec1": 91.7}


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_public_checkpoint(trained, tmp_path):
    torch.save(as_public(trained), tmp_path / "public.pth")
    fresh = build_classifier({"backbone": "cifar_resnet20"}, 10)
    assert load_weights(fresh, tmp_path / "public.pth")
    assert same(fresh, trained)


def test_other_number_of_classes_takes_the_backbone_only(trained, tmp_path):
    torch.save(as_public(trained), tmp_path / "public.pth")
    fresh = build_classifier({"backbone": "cifar_resnet20"}, 4)
    assert not load_weights(fresh, tmp_path / "public.pth")
    assert same(fresh.backbone, trained.backbone)
    with pytest.raises(UserError, match="no last layer for 4 classes"):
        load_weights(fresh, tmp_path / "public.pth", head=True)


def test_timm_names(tmp_path):
    """A plain timm or torchvision state dictionary: no prefix, a layer `fc`."""
    trained = build_classifier({"backbone": "resnet18"}, 5)
    state = dict(trained.backbone.net.state_dict()) | {
        "fc.weight": trained.head.linear.weight, "fc.bias": trained.head.linear.bias
    }  # fmt: skip
    torch.save(state, tmp_path / "timm.pth")
    fresh = build_classifier({"backbone": "resnet18"}, 5)
    assert load_weights(fresh, tmp_path / "timm.pth")
    assert same(fresh, trained)


def test_another_architecture_is_refused_and_nothing_is_changed(trained, tmp_path):
    torch.save(as_public(trained), tmp_path / "public.pth")
    deeper = build_classifier({"backbone": "cifar_resnet32"}, 10)
    before = {k: v.clone() for k, v in deeper.state_dict().items()}
    with pytest.raises(UserError, match=r"public\.pth: a checkpoint of another architecture; it lacks 'layer1\.3"):
        load_weights(deeper, tmp_path / "public.pth")
    wider = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 32}}, 10)
    with pytest.raises(UserError, match=r"'conv1\.weight' is \(16, 3, 3, 3\) there and \(32, 3, 3, 3\) here"):
        load_weights(wider, tmp_path / "public.pth")
    assert all(torch.equal(before[k], v) for k, v in deeper.state_dict().items())


def test_strangers_are_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    classifier = build_classifier({"backbone": "cifar_resnet20"}, 10)
    with pytest.raises(UserError, match=r"evil\.pth: not a readable file of weights"):
        load_weights(classifier, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="no such file"):
        load_weights(classifier, tmp_path / "missing.pth")


def test_public_resnet20(real_data):
    """The public ResNet-20 answers as it should on real images: 91.7 % on the whole test set, told elsewhere."""
    classifier = build_classifier({"backbone": "cifar_resnet20"}, 10).eval()
    assert load_weights(classifier, real_data / "resnet20_cifar10.pth", head=True)
