"""The sparse phase: rows in the dataset's order whatever the ranks, features that never vary told by name."""

import json

import torch

from handful.sparse import fit_sparse_layer
from lightning_modules.sparsify import _in_order, _write_records


def test_ranks_parts_come_back_in_order(tmp_path):
    features, labels = torch.randn(7, 3), torch.arange(7)
    world = 3
    for rank in range(world):
        torch.save([(features[rank::world], labels[rank::world])], tmp_path / f"part.{rank}.tmp")
    ((found, found_labels),) = _in_order(tmp_path, [], [7], world)
    assert torch.equal(found, features)
    assert torch.equal(found_labels, labels)
    assert not list(tmp_path.iterdir())


def test_a_rank_without_images(tmp_path):
    torch.save([(torch.ones(1, 3), torch.tensor([2]))], tmp_path / "part.0.tmp")
    torch.save([(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64))], tmp_path / "part.1.tmp")
    ((found, labels),) = _in_order(tmp_path, [], [1], 2)
    assert found.shape == (1, 3)
    assert labels.tolist() == [2]


def test_features_that_never_vary_are_named(tmp_path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 6, generator=generator) + labels[:, None] * torch.tensor([1.0, 0, 2, 0, -1, 0])
    features[:, 3] = 4.0
    _, record = fit_sparse_layer(features, labels, n_features=3, features_per_class=2)
    _write_records(tmp_path, record, [3])
    written = json.loads((tmp_path / "selection.json").read_text())
    assert written["zero_variance"] == [3]
    assert 3 not in written["features"]
