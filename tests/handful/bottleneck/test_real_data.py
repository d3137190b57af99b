"""The public ResNet-20 on real CIFAR-10 images."""

import io
import zipfile

import numpy as np
import torch
from PIL import Image

from handful.bottleneck import InfoMaxBottleneck, Weights
from handful.networks import build_classifier, load_weights


def test_the_public_resnet_with_its_plugin(real_data) -> None:
    with zipfile.ZipFile(real_data / "cifar10.zip") as archive:
        names = sorted(name for name in archive.namelist() if "test/" in name and name.endswith(".png"))[::150]
        pixels = [np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    classes = sorted({name.split("/")[-2] for name in names})
    labels = torch.tensor([classes.index(name.split("/")[-2]) for name in names])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((torch.from_numpy(np.stack(pixels)).float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
    base = build_classifier({"backbone": "cifar_resnet20", "dropout": 0.0}, 10)
    load_weights(base, real_data / "resnet20_cifar10.pth")
    torch.manual_seed(0)
    plugin = InfoMaxBottleneck(
        base, local_layer="backbone.layer2", readout_layers=[f"backbone.layer{i}" for i in (1, 2, 3)], image_size=32,
        units=64, bank_size=256,
    )  # fmt: skip
    plugin.observe(images, range(len(images)))
    plugin.finish_statistics()
    with torch.no_grad():
        expected = base(images)
    assert float((expected.argmax(1) == labels).float().mean()) > 0.8
    noised, clean = plugin.noised_outputs(images, range(len(images)), samples=1, share=0.0)
    assert torch.equal(noised[0], expected)
    assert torch.equal(clean, expected)

    optimiser = torch.optim.Adam([p for p in plugin.parameters() if p.requires_grad], 2e-3)
    plugin.train()
    losses = []
    for step in range(15):
        terms = plugin.terms(images[torch.randperm(len(images))[:24]])
        loss = plugin.objective(terms, Weights(), step / 15)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(terms.fit.item())
    assert losses[-1] < losses[0]
    maps = plugin.eval().maps(images[:4], range(4))
    assert all(torch.isfinite(value).all() for value in maps.values())
    assert maps["capacity"].shape == (4, 32, 32)
