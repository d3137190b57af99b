"""The papers' tables beside our runs: what was measured, and nothing else."""

import json

import pytest
import yaml

from benchmarks.tables import cell_of, published, runs_below, table_lines

CONFIG = {
    "data": {"class_path": "datamodules.CUB200", "init_args": {"root": "x"}},
    "network": {"backbone": "resnet50.tv_in1k"},
    "phases": {"dense": {"module": {"class_path": "Dense", "init_args": {"beta": 0.196}}}},
}


def write(folder, config, **accuracies):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    stages = {stage: {"accuracy": value} for stage, value in accuracies.items()}
    (folder / "results.json").write_text(json.dumps({"stages": stages}))


def test_runs_fill_their_cells_and_nothing_else_does(tmp_path):
    """Seeds are averaged; a stage that was not measured stays empty; cells without a run say so."""
    write(tmp_path / "a/seed_0", CONFIG, dense=80.0, sparse=70.0)
    write(tmp_path / "a/seed_1", CONFIG, dense=82.0, sparse=None)
    (tmp_path / "a/seeds.json").write_text("{}")
    lines = table_lines(list(runs_below([tmp_path])), published())
    ours = [line for line in lines if "ours, 2 seeds" in line]
    assert ours == ["| 3 | cub200 | resnet50 | L_div | ours, 2 seeds | 81.0 ± 1.4 |  |  | 70.0 |  |"]
    assert sum("not run" in line for line in lines) == len(published()) - 1 + 1  # and the sentence at the end
    assert "| 3 | cub200 | resnet50 | L_div | printed | 86.6 | 84.0 | 86.5 | 81.7 | 84.0 |" in lines


def test_parts_of_a_data_set_and_crops_are_no_cells():
    """A number of an easier task stands beside none of the paper's."""
    assert cell_of(CONFIG) == ("cub200", "resnet50", "L_div")
    for change in ({"complete": False}, {"crop_to_box": True}):
        data = {"class_path": "CUB200", "init_args": change}
        assert cell_of(CONFIG | {"data": data}) is None
    assert cell_of(CONFIG | {"data": {"class_path": "ImageFolder"}}) is None
    mcl = {"dense": {"module": {"init_args": {"beta": 0.0, "mutual_channel": {}}}}}
    assert cell_of(CONFIG | {"phases": mcl})[2] == "MCL"
    assert cell_of(CONFIG | {"phases": {"dense": {"module": {"init_args": {"beta": 0.0}}}}})[2] == "without L_div"


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"class_path": "CUB200", "init_args": {"image_size": 64}}},
        {"data": {"class_path": "CUB200", "init_args": {"val_fraction": 0.1}}},
        {"phases": {"dense": {"max_epochs": 1}}},
        {"phases": {"finetune_all": {"max_epochs": 1}}},
        {"phases": {"sparsify": {"module": {"init_args": {"n_features": 500}}}}},
        {"phases": {"sparsify": {"module": {"init_args": {"features_per_class": 100}}}}},
        {"phases": {"sparsify_all": {"module": {"init_args": {"n_features": 50}}}}},
    ],
)
def test_another_recipe_is_no_cell(change):
    assert cell_of(CONFIG | change) is None


def test_nothing_was_run(tmp_path):
    """No run, no number of ours."""
    lines = table_lines(list(runs_below([tmp_path])), published())
    assert not [line for line in lines if "ours," in line]
    assert lines[-1].startswith(f"{len(published())} of {len(published())} rows were not run")
