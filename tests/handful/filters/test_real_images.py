"""The public ResNet-20 on real CIFAR-10 images: a fifth of the test set, filters from 200 training images a class."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from handful.filters import StatisticsCollector, select_filters
from handful.networks import build_classifier, load_weights
from handful.networks.decomposed import decompose

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@torch.no_grad()
def features(model, archive, split, each):
    names = sorted(name for name in archive.namelist() if name.startswith(f"{split}/") and name.endswith(".png"))
    classes = sorted({name.split("/")[1] for name in names})
    chosen = [(n, c) for c, folder in enumerate(classes) for n in [n for n in names if f"/{folder}/" in n][:each]]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name, _ in chosen])
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    return torch.cat([model.features(part) for part in images.split(500)]), torch.tensor([c for _, c in chosen])


def test_five_features_a_class_keep_most_of_the_accuracy(real_data):
    model = build_classifier({"backbone": "cifar_resnet20"}, 10)
    load_weights(model, real_data / "resnet20_cifar10.pth", head=True)
    model.eval()
    with zipfile.ZipFile(real_data / "cifar10.zip") as archive:
        train, labels = features(model, archive, "train", 200)
        x, y = features(model, archive, "test", 200)
    collector = StatisticsCollector(10, 64, (5,))
    collector.update(train, labels)

    def accuracy(classifier):
        return 100 * float((classifier.head(x).argmax(1) == y).double().mean())

    # over all images: 91.73 and 88.72
    assert accuracy(model) == pytest.approx(91.73, abs=1.5)
    statistics = collector.compute()
    weight = model.head.class_weights()[0].detach()
    found = {rule: accuracy(decompose(model, select_filters(rule, 5, statistics, weight)))
             for rule in ("frequency", "contribution", "weight", "absolute_weight")}  # fmt: skip
    assert found["frequency"] == pytest.approx(88.72, abs=2)
    assert found["absolute_weight"] < min(found["frequency"], found["contribution"], found["weight"]) - 2
