"""`tradeoff`: the run's own size gives the run's own layer; sizes that cannot be are refused."""

import csv
import json

import pytest
import torch
from PIL import Image

from handful.errors import UserError
from handful.sparse import select_features
from pipelines.cli import main
from pipelines.tradeoff import tradeoff


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


def test_the_runs_own_size_gives_its_own_layer(run, tmp_path, capsys):
    sizes = ["--n_features", "2,5,9", "--features_per_class", "1,2,4"]
    main(["tradeoff", "--run_dir", str(run), *sizes, "--out", str(tmp_path)])
    record = json.loads((tmp_path / "tradeoff.json").read_text())
    stages = json.loads((run / "results.json").read_text())["stages"]
    sizes = {(row["n_features"], row["features_per_class"]): row for row in record["sizes"]}
    assert set(sizes) == {(2, 1), (2, 2), (5, 1), (5, 2), (5, 4), (9, 1), (9, 2), (9, 4)}
    own = sizes[5, 2]
    assert own["test_accuracy"] == stages["sparse"]["accuracy"]
    assert own["features"] == json.loads((run / "sparsify/selection.json").read_text())["features"]
    assert own["weights_per_class"] == pytest.approx(stages["sparse"]["features_per_class"])
    assert own["features_used"] == stages["sparse"]["n_features"]
    assert record["dense"]["accuracy"] == pytest.approx(stages["dense"]["accuracy"])
    assert all(row["weights_per_class"] <= row["features_per_class"] for row in record["sizes"])
    with (tmp_path / "tradeoff.csv").open() as file:
        assert [float(r["test_accuracy"]) for r in csv.DictReader(file)] == [
            row["test_accuracy"] for row in record["sizes"]
        ]
    assert Image.open(tmp_path / "tradeoff.png").width > 500
    printed = capsys.readouterr().out
    assert f"{own['test_accuracy']:.2f}" in printed
    assert "–" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_features": "4,x"}, "n_features: whole numbers"),
        ({"n_features": "4,17"}, "n_features: numbers from 1 to 16"),
        ({"n_features": "2", "features_per_class": "3,5"}, "3 and more per class, but only 2 features"),
    ],
)
def test_sizes_that_cannot_be_are_refused(run, tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        tradeoff(str(run), out=str(tmp_path / "out"), **arguments)
    assert not (tmp_path / "out").exists()


def test_a_selection_of_fewer_is_the_beginning_of_a_selection_of_more():
    torch.manual_seed(0)
    labels = torch.arange(120) % 4
    features = torch.randn(120, 12) + torch.randn(4, 12)[labels]
    for method in ("greedy", "saga"):
        many = select_features(features, labels, 7, method=method)
        few = select_features(features, labels, 4, method=method)
        first = many.first(4)
        assert (first.features, first.log, first.lam) == (few.features, few.log, few.lam)
    with pytest.raises(UserError, match="8 wanted of 7"):
        many.first(8)
