"""The bias probe: finds a planted shortcut, agrees with a loop, and with itself on two processes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from handful.errors import UserError
from handful.metrics.bias_probe import BiasProbe, filled
from tests.helpers.two_processes import every_second, on_two_processes


def with_shortcut(count=120, seed=0):
    """Two classes of a weak signal in the middle; all images of class 1 have a bright corner."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 3, 12, 12, generator=g)
    images[:, :, 4:8, 4:8] += 0.3 * (2 * labels - 1)[:, None, None, None]
    images[labels == 1, :, :3, :3] += 3
    return images, labels


def region(top, left, side, count):
    mask = torch.zeros(count, 12, 12, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask


def test_a_planted_shortcut_is_found():
    torch.manual_seed(0)
    images, labels = with_shortcut()
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    images, labels = with_shortcut(seed=1)
    found = {}
    for name, mask in {"corner": region(0, 0, 3, 120), "middle": region(4, 4, 4, 120)}.items():
        probe = BiasProbe(2)
        with torch.no_grad():
            probe.update(network(images), network(filled(images, mask)), labels)
            found[name] = probe.per_class()
    assert found["corner"][1, 0] < 3 * found["middle"][1, 0] < 0
    assert found["corner"][1, 2] > 0.2 > found["middle"][1, 2]  # predictions change
    exchanged = BiasProbe(2)
    with torch.no_grad():
        others = images.roll(1, 0)  # of the other class
        changed = filled(images, region(0, 0, 3, 120), "other", others)
        exchanged.update(network(images), network(changed), labels)
    assert exchanged.per_class()[0, 0] < -1  # the shortcut pasted in


def made():
    g = torch.Generator().manual_seed(0)
    return torch.randn(11, 3, generator=g), torch.randn(11, 3, generator=g), torch.randint(0, 2, (11,), generator=g)


def test_against_a_loop():
    before, after, labels = made()
    probe = BiasProbe(3)
    for start in range(0, 11, 4):
        part = slice(start, start + 4)
        probe.update(before[part], after[part], labels[part])
    table = probe.per_class()
    for label in range(2):
        rows = [i for i in range(11) if labels[i] == label]
        score = sum(float(after[i, label] - before[i, label]) for i in rows) / len(rows)
        changed = sum(int(after[i].argmax() != before[i].argmax()) for i in rows) / len(rows)
        assert table[label, [0, 2]].tolist() == pytest.approx([score, changed], rel=1e-6)
    assert table[2].isnan().all()
    assert probe.plot()


def test_one_process_and_two():
    before, after, labels = made()

    def work(own):
        probe = BiasProbe(3)
        probe.update(before[own], after[own], labels[own])
        return [f"{v:.10f}" for v in probe.compute().values()], probe.per_class()[:2].tolist()

    single = work(slice(None))
    for digits, table in on_two_processes(lambda rank: work(every_second(rank))):
        assert digits == single[0]
        assert table == [pytest.approx(row, rel=1e-13) for row in single[1]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: filled(torch.rand(1, 3, 4, 4), torch.ones(1, 5, 4)), "masks: expected"),
        (lambda: filled(torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4), "other"), "fill: mean, blur, other"),
        (lambda: filled(torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4), "grey"), "fill: mean, blur, other"),
        (lambda: filled(torch.full((1, 3, 4, 4), torch.nan), torch.ones(1, 4, 4)), "not finite"),
        (lambda: BiasProbe(2).update(torch.rand(2, 2), torch.rand(2, 3), [0, 1]), "after: expected shape"),
        (lambda: BiasProbe(2).update(torch.rand(2, 2), torch.rand(2, 2), [0, 2]), "2 lies outside the 2 classes"),
    ],
)
def test_what_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()


def test_an_empty_mask_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    for fill in ("mean", "blur"):
        assert torch.equal(filled(images, torch.zeros(2, 8, 8), fill), images)
    assert torch.equal(filled(images, torch.full((2, 8, 8), 255, dtype=torch.uint8)), torch.zeros_like(images))
