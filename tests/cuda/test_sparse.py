"""The sparse layer on the GPU: the same features, path, weights and accuracies as on the CPU."""

import numpy as np
import pytest
import torch

from handful.sparse import ElasticNetClassifier, column_statistics, elastic_net_path, fit_sparse_layer, select_features
from tests.cuda.common import TEST_DEVICE, assert_same, need_device

need_device()


#: A pretended device takes long for every operation.
SLOW = TEST_DEVICE == "pretended"


COUNT = 3 if SLOW else 8


def data(rows=40 if SLOW else 240, width=8 if SLOW else 24, classes=4, dtype=torch.float32):
    """Features of which the first `classes` say the class, with noise."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(rows) % classes
    features = torch.rand(rows, width, generator=generator, dtype=dtype)
    features[:, :classes] += 1.5 * torch.eye(classes, dtype=dtype)[labels]
    features[:, -1] = 2.0  # no variance
    return features, labels


OPTIONS = {
    "n_features": 4 if SLOW else 8, "features_per_class": 2, "n_lambdas": 3 if SLOW else 25,
    "epsilon": 0.05 if SLOW else 0.02,
}  # fmt: skip


@pytest.mark.parametrize("options", [
    {}, {"cut": "per_class"}, {"cut": "refit"}, {"choose": "validation"}, {"stream": True}, {"val_fraction": 0.0},
    {"search": "bisect"}, {"search": "coarse_to_fine"}, *([] if SLOW else [{"selection": "saga"}]),
], ids=str)  # fmt: skip
def test_the_layer_is_that_of_the_cpu(options, device):
    features, labels = data()
    expected, record = fit_sparse_layer(features, labels, **OPTIONS, **options)
    found, again = fit_sparse_layer(features.to(device), labels.to(device), **OPTIONS, **options)
    assert next(found.parameters()).device.type == "cpu"
    assert again.selection["features"] == record.selection["features"]
    assert again.layer["counts_per_class"] == record.layer["counts_per_class"]
    for name in ("train_accuracy", "val_accuracy", "density_before_cut"):
        assert_same(again.layer[name], record.layer[name])
    assert_same(found(features), expected(features), rtol=1e-2, atol=1e-2)
    assert [point["index"] for point in again.path] == [point["index"] for point in record.path]


def test_features_are_taken_to_the_device_asked_for(device):
    features, labels = data()
    expected, _ = fit_sparse_layer(features, labels, **OPTIONS)
    found, _ = fit_sparse_layer(features, labels, device=str(device), **OPTIONS)
    assert_same(found(features), expected(features), rtol=1e-2, atol=1e-2)


def test_held_out_rows_of_the_caller_lie_anywhere(device):
    features, labels = data()
    held = (features[::5], labels[::5])
    expected, _ = fit_sparse_layer(features, labels, val=held, **OPTIONS)
    for on in ("cpu", device):
        found, _ = fit_sparse_layer(features.to(device), labels, val=(held[0].to(on), held[1].to(on)), **OPTIONS)
        assert_same(found(features), expected(features), rtol=1e-2, atol=1e-2)


def test_arrays_and_files_are_taken_to_the_device(device, tmp_path):
    features, labels = data()
    np.save(tmp_path / "features.npy", features.numpy())
    expected, _ = fit_sparse_layer(features, labels, **OPTIONS)
    kinds = (features.numpy(), [tmp_path / "features.npy"], [features[:30].to(device), features[30:].numpy()])
    for given in kinds[-1:] if SLOW else kinds:
        found, _ = fit_sparse_layer(given, labels.numpy(), device=str(device), **OPTIONS)
        assert_same(found(features), expected(features), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("solver", ["exact", "saga", "glm_saga"])
@pytest.mark.parametrize("dtype", [torch.float32] if SLOW else [torch.float32, torch.float64])
def test_the_path_is_that_of_the_cpu(solver, dtype, device):
    if solver == "glm_saga":
        if SLOW:
            pytest.skip("the package assigns to .data, which a pretended tensor does not follow")
        pytest.importorskip("glm_saga")
    features, labels = data(dtype=dtype)
    options = {"solver": solver, "n_lambdas": 3 if SLOW else 8, "epsilon": 0.3 if SLOW else 1e-3}
    options |= {"train_accuracy": True, "val": (features[::3], labels[::3])}
    expected = elastic_net_path(features, labels, **options)
    found = elastic_net_path(features.to(device), labels.to(device), **options)
    assert len(found.points) == len(expected.points)
    for one, other in zip(found.points, expected.points, strict=True):
        assert one.weight.device == device
        assert_same(one.weight, other.weight, rtol=2e-2, atol=2e-3)
        if other.density >= 1:  # without weights all classes are level, and rounding decides
            assert_same(one.train_accuracy, other.train_accuracy, atol=0.02)
            assert_same(one.val_accuracy, other.val_accuracy, atol=0.04)


@pytest.mark.parametrize("method", ["greedy", "saga"])
def test_the_same_features_are_chosen(method, device):
    features, labels = data()
    expected = select_features(features, labels, COUNT, method=method).features
    assert select_features(features.to(device), labels, COUNT, method=method).features == expected
    if not SLOW:
        found = select_features(features, labels.to(device), COUNT, method=method, device=str(device))
        assert found.features == expected


def test_a_path_goes_to_a_file_and_back(device, tmp_path):
    features, labels = data()
    path = elastic_net_path(features.to(device), labels, n_lambdas=3, epsilon=0.1)
    path.save(tmp_path / "path.pt")
    again = type(path).load(tmp_path / "path.pt")
    assert again[0].weight.device.type == "cpu"
    assert_same(again[-1].weight, path[-1].weight, rtol=0, atol=0)


@pytest.mark.skipif(SLOW, reason="says nothing without kernels")
def test_twice_on_the_device_gives_the_same_bits(device):
    features, labels = (value.to(device) for value in data())
    first, second = (fit_sparse_layer(features, labels, **OPTIONS)[0] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.buffers(), second.buffers(), strict=True))


def test_statistics_and_the_estimator(device):
    features, labels = data()
    assert_same(column_statistics(features.to(device)), column_statistics(features), rtol=1e-6, atol=1e-7)
    assert ElasticNetClassifier(n_lambdas=10).fit(features.numpy(), labels.numpy()).score(features, labels) > 0.9
