"""Weights from files: public checkpoints, ours, and those that must be refused."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from handful.errors import UserError
from handful.networks import build_classifier, load_weights
from handful.networks.build import IMAGENET_MEAN, IMAGENET_STD


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
    torch.save(as_public(deeper), tmp_path / "deeper.pth")
    shallower = build_classifier({"backbone": "cifar_resnet20"}, 10)
    with pytest.raises(UserError, match=r"it has 'layer1\.3.*which the network lacks"):
        load_weights(shallower, tmp_path / "deeper.pth")


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
    """The public ResNet-20 knows real images: 300 of the test set, 30 of each class."""
    classifier = build_classifier({"backbone": "cifar_resnet20"}, 10).eval()
    assert load_weights(classifier, real_data / "resnet20_cifar10.pth", head=True)
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    images, labels = [], []
    with zipfile.ZipFile(real_data / "cifar10.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("test/") and n.endswith(".png"))
        for name in names[:: len(names) // 300]:
            pixels = np.asarray(Image.open(archive.open(name)).convert("RGB"))
            images.append((torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / std)
            labels.append(sorted({n.split("/")[1] for n in names}).index(name.split("/")[1]))
    with torch.no_grad():
        right = classifier(torch.stack(images)).argmax(dim=1) == torch.tensor(labels)
    assert float(right.float().mean()) > 0.87
