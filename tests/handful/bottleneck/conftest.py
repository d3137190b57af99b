import pytest
import torch
from torch.nn import functional

from handful.bottleneck import InfoMaxBottleneck, Weights
from tests.handful.bottleneck import planted


def build(head: str = "categorical", seed: int = 0, **options) -> InfoMaxBottleneck:
    torch.manual_seed(seed)
    plugin = InfoMaxBottleneck(
        planted.Matcher(),
        head=head,
        units=64,
        hidden=64,
        bank_size=512,
        local_layer="layer1",
        readout_layers=["layer1", "layer2"],
        image_size=planted.SIDE,
        **options,
    )
    pictures = planted.images(192, seed=10)[0]
    for start in range(0, 192, 64):
        plugin.observe(pictures[start : start + 64], range(start, start + 64))
    plugin.finish_statistics()
    return plugin


def train(
    plugin: InfoMaxBottleneck, steps: int, weights: Weights, seed: int = 0, share: float | None = None
) -> list[float]:
    torch.manual_seed(seed)
    pictures, labels, _ = planted.images(1024, seed=20)
    optimiser = torch.optim.Adam([p for p in plugin.parameters() if p.requires_grad], 3e-3)
    plugin.train()
    losses = []
    for step in range(steps):
        chosen = torch.randint(len(pictures), (32,))
        terms = plugin.terms(
            pictures[chosen], lambda noised, _clean, y=labels[chosen]: functional.cross_entropy(noised, y), share=share
        )
        loss = plugin.objective(terms, weights, min(1.0, 2 * step / steps))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(terms.task.item())
    plugin.eval()
    return losses


@pytest.fixture(scope="session")
def trained() -> InfoMaxBottleneck:
    """The plug-in with the recommended objective, trained on the planted images."""
    plugin = build()
    train(plugin, 200, Weights(1.0, 1.0, 0.1))
    return plugin
