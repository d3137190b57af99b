"""The sparse phase's records."""

import json

import torch

from handful.sparse import fit_sparse_layer
from pipelines.phases.sparsify import write_records


def test_features_that_never_vary_are_named(tmp_path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 6, generator=generator) + labels[:, None] * torch.tensor([1.0, 0, 2, 0, -1, 0])
    features[:, 3] = 4.0
    _, record = fit_sparse_layer(features, labels, n_features=3, features_per_class=2)
    write_records(tmp_path, record, [3])
    written = json.loads((tmp_path / "selection.json").read_text())
    assert written["zero_variance"] == [3]
    assert 3 not in written["features"]
