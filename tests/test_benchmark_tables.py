"""The papers' tables beside our runs: what was measured, and nothing else."""

import json
from dataclasses import asdict

import pytest
import yaml

from benchmarks.tables import cell_of, main, published, runs_below, table_lines
from pipelines.parse import parse_pipeline

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
    assert ours == ["| 3 | cub200 | resnet50 | L_div | ours, 2 seeds | 81.0 ± 1.4 |  |  | 70.0 (of 1) |  |"]
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
        {"phases": {"dense": {"module": {"init_args": {"beta": 0.05}}}}},
        {"phases": {"dense": {"module": {"init_args": {"beta": 0.196}}},
                    "finetune": {"module": {"init_args": {"beta": 0.0}}}}},
        {"phases": {"dense": {"module": {"init_args": {"mutual_channel": {"channels": 5}, "beta": 0.0}}}}},
        {"phases": {"dense": {"module": {"init_args": {"optimizer": {"class_path": "torch.optim.AdamW"}}}}}},
        {"phases": {"finetune": {"module": {"init_args": {"optimizer": {"init_args": {"lr": 0.1}}}}}}},
        {"phases": {"sparsify": {"module": {"class_path": "Assign"}}}},
        {"data": {"class_path": "CUB200", "init_args": {"augmentation": "none"}}},
        {"data": {"class_path": "CUB200", "init_args": {"batch_size": 64}}},
        {"network": {"backbone": "resnet50.tv_in1k", "pretrained": False}},
        {"network": {"backbone": "resnet50.tv_in1k", "dropout": 0.0}},
        {"network": {"backbone": "resnet50.a1_in1k"}},
        {"phases": {"sparsify": {"module": {"init_args": {"cut": "refit"}}}}},
        {"phases": {"dense": {"module": {"init_args": {"label_smoothing": 0.1}}}}},
        {"phases": {"dense": {"module": {"init_args": {"train_backbone": False}}}}},
        {"phases": {"finetune": {"data": {"image_size": 64}}}},
        {"data": {"class_path": "CUB200", "init_args": {"unreadable": "skip"}}},
        {"data": {"class_path": "FGVCAircraft", "init_args": {"remove_banner": True}}},
        {"data": {"class_path": "FGVCAircraft", "init_args": {"level": "family"}}},
        {"trainer": {"limit_train_batches": 2}},
        {"trainer": {"limit_test_batches": 0.1}},
        {"trainer": {"fast_dev_run": True}},
        {"trainer": {"max_steps": 10}},
    ],
)
def test_another_recipe_is_no_cell(change):
    assert cell_of(CONFIG | change) is None


@pytest.mark.parametrize("row", ["", "without_l_div.yaml", "mcl.yaml"])
@pytest.mark.parametrize("cell", ["cub200_resnet50", "nabirds_densenet121", "stanford_cars_inception_v3"])
def test_every_published_config_is_its_cell(cell, row, tmp_path):
    """The configs themselves, resolved as a run records them; a sampler, a logger and a place change nothing."""
    configs = [f"configs/sldd/{name}" for name in (f"{cell}.yaml", row) if name]
    files = [part for config in configs for part in ("--config", config)]
    options = ["--data.root", str(tmp_path), "--trainer.devices", "1", "--data.num_workers", "0", "--seed", "3"]
    resolved = asdict(parse_pipeline([*files, *options])[0])
    names = {"": "L_div", "without_l_div.yaml": "without L_div", "mcl.yaml": "MCL"}
    data, backbone, found = cell_of(resolved)
    assert (f"{data}_{backbone}", found) == (cell, names[row])
    assert cell_of(resolved | {"phases": resolved["phases"] | {"dense": {"trainer": {"max_time": "00:01"}}}}) is None


def test_damaged_runs_and_numbers_that_are_none(tmp_path, capsys):
    """A sentence that names the file; NaN is no number; a folder that is not there is said."""
    write(tmp_path / "a", CONFIG, dense=float("nan"), sparse=70.0)
    ours = [line for line in table_lines(list(runs_below([tmp_path])), published()) if "ours, 1" in line]
    assert ours == ["| 3 | cub200 | resnet50 | L_div | ours, 1 seed |  |  |  | 70.0 |  |"]
    (tmp_path / "a/results.json").write_text('{"stages": ')
    for folder, said in ((tmp_path, r"a/results.json cannot be read"), (tmp_path / "b", "there is no folder")):
        with pytest.raises(SystemExit, match="2"):
            main([str(folder), "--print"])
        assert said in capsys.readouterr().err


def test_what_the_paper_has_no_row_for_is_not_lost(tmp_path):
    """NABirds with the mutual-channel loss: the paper prints no such row."""
    mcl = {"dense": {"module": {"init_args": {"beta": 0.0, "mutual_channel": {}}}}}
    nabirds = CONFIG | {"data": {"class_path": "NABirds", "init_args": {}}, "phases": mcl}
    write(tmp_path / "a", nabirds, dense=80.0)
    lines = table_lines(list(runs_below([tmp_path])), published())
    assert "| not printed | nabirds | resnet50 | MCL | ours, 1 seed | 80.0 |  |  |  |  |" in lines


def test_nothing_was_run(tmp_path):
    """No run, no number of ours."""
    lines = table_lines(list(runs_below([tmp_path])), published())
    assert not [line for line in lines if "ours," in line]
    assert sum(line.startswith(f"{len(published())} of {len(published())} rows were not run") for line in lines) == 1
    assert len([line for line in lines if line.startswith("* `python train.py pipeline")]) == len(published())


def test_every_command_for_a_missing_row_runs_that_row(tmp_path):
    """As it is printed, with a folder in the place of FOLDER: all of tables 3 and 4."""
    lines = [line for line in table_lines([], published()) if line.startswith("* `")]
    for line, row in zip(lines, published(), strict=True):
        words = line[3:-1].split()
        assert words[:3] == ["python", "train.py", "pipeline"]
        assert words[-2:] == ["--seeds", "0,1,2"]
        given = [str(tmp_path) if word == "FOLDER" else word for word in words[3:-2]]
        assert cell_of(asdict(parse_pipeline(given)[0])) == (row["data"], row["backbone"], row["row"])
