"""The table of photographs is made of finished runs, and of nothing else."""

import json

import pytest
import yaml

from benchmarks.photographs import folder_of, report_lines
from handful.errors import UserError


def write(runs, seed, loss, accuracy, size=160, evaluated=True, beta=None):
    """What the report reads of a run."""
    folder = folder_of(runs, seed, loss)
    folder.mkdir(parents=True)
    losses = {"beta": (0.196 if loss == "l_div" else 0.0) if beta is None else beta}
    mcl = {"mutual_channel": {"channels": 3} if loss == "mcl" else None}
    config = {
        "seed": seed,
        "network": {"backbone": "lite0"},
        "phases": {
            "dense": {"max_epochs": 4, "module": {"init_args": losses | mcl}},
            "sparsify": {"module": {"init_args": {"n_features": 50, "features_per_class": 5}}},
            "finetune": {"max_epochs": 6, "module": {"init_args": losses}},
        },
    }
    row = {"accuracy": accuracy, "diversity@5": 0.5, "dependence": 0.1}
    stages = dict.fromkeys(("dense", "sparse", "finetuned")[: 3 if evaluated else 1], row)
    data = {"images": {"train": 9, "test": 8}, "num_classes": 2, "image_size": size, "fingerprint": "f"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "results.json").write_text(json.dumps({"stages": stages, "data": data, "seconds": {"dense": 1.0}}))
    return folder


def test_finished_runs_make_the_table_and_the_others_are_named(tmp_path):
    """Means over the seeds that are there, differences of equal seeds, no number for a run that is not finished."""
    for seed, loss, accuracy in ((0, "l_div", 60.0), (1, "l_div", 62.0), (0, "without", 57.0), (1, "without", 58.0)):
        write(tmp_path, seed, loss, accuracy)
    write(tmp_path, 0, "mcl", 99.0, evaluated=False)
    write(tmp_path, 2, "without", 10.0)
    lines = report_lines(tmp_path, "birds.zip")
    assert "Not run: seed0_mcl, seed1_mcl, seed2_as_configured, seed2_mcl." in lines
    assert "50 features, 5 per class" in lines[0]
    assert not any("99.00" in line for line in lines)
    assert [line.split(" | ")[2] for line in lines if line.startswith("| mean of 2 | L_div")] == ["61.00 ± 1.41"]
    assert [line.split(" | ")[1] for line in lines if line.startswith("| L_div, 2 seeds")] == ["+3.50 ± 0.71"]
    assert lines[-1] == "The sparse layer was not solved for other sizes."


def test_the_trade_off_is_read_where_it_is(tmp_path):
    """A size that was not solved has a dash."""
    folder = write(tmp_path, 0, "l_div", 60.0) / "tradeoff"
    folder.mkdir()
    sizes = [{"n_features": 50, "features_per_class": 5, "test_accuracy": 51.5}]
    (folder / "tradeoff.json").write_text(json.dumps({"sizes": sizes}))
    assert "| 50 | – | 51.50 | – |" in report_lines(tmp_path, "birds.zip")


def test_runs_that_are_no_rows_of_one_table(tmp_path):
    """Another loss than the folder's name says, another size of images, or nothing."""
    with pytest.raises(UserError, match="no run is finished, such as seed0_as_configured"):
        report_lines(tmp_path, "birds.zip")
    write(tmp_path / "a", 0, "without", 60.0, beta=0.196)
    with pytest.raises(UserError, match="seed0_without: holds a run of seed 0 with L_div"):
        report_lines(tmp_path / "a", "birds.zip")
    write(tmp_path / "b", 0, "l_div", 60.0)
    write(tmp_path / "b", 1, "l_div", 60.0, size=96)
    with pytest.raises(UserError, match=r"seed1_as_configured: .* at 96 px.* other runs: .* at 160 px"):
        report_lines(tmp_path / "b", "birds.zip")
