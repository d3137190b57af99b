"""Records, tables and configs in a folder from elsewhere: pipes, devices and gigabytes are refused at every door."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from handful.annotations.attributes import read_class_attributes
from handful.errors import UserError
from handful.explain.feature_names import read_feature_names
from handful.features import DamagedFeaturesError, FeatureStore
from handful.loading import load
from handful.record_files import MAX_BYTES, MAX_CELLS, read_bytes, read_json, read_rows, read_text
from handful.report.content import Content
from handful.tensor_files import check_digest
from pipelines.configs import read_config
from pipelines.find_run import find_run, runs_in
from pipelines.phase_folder import PhaseFolder
from pipelines.records import read_metrics, read_results, read_table
from pipelines.run_folder import wandb_id


def put_pipe(path):
    os.mkfifo(path)


def put_device(path):
    path.symlink_to("/dev/zero")


def put_gigabytes(path):
    with path.open("wb") as file:
        file.truncate(3 << 30)


DAMAGES = {"a pipe": put_pipe, "a device": put_device, "3,072.0 MiB": put_gigabytes}

#: Name of the file → what reads it.
DOORS = {
    "done.json": lambda path: PhaseFolder(path.parent).done(),
    "started.json": lambda path: PhaseFolder(path.parent).started(),
    "stages.json": lambda path: PhaseFolder(path.parent).stages(),
    "results.json": lambda path: read_results(path.parent),
    "path.csv": lambda path: read_table(path, "remove it"),
    "metrics.csv": lambda path: read_metrics(path, "remove it"),
    "attributes.csv": lambda path: read_class_attributes(path, ["owl"]),
    "filters.json": lambda path: Content("t", path.parent.parent, {}).record(path.parent.name, path.name, bool),
    "record.json": lambda path: FeatureStore(path.parent),
    "config.yaml": lambda path: read_config(path),
}


@pytest.fixture(autouse=True)
def soon():
    """What waits for a pipe would wait for ever."""

    def late(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_small_file_is_refused_unread(door, damage, tmp_path):
    path = tmp_path / "dense" / door
    path.parent.mkdir()
    DAMAGES[damage](path)
    if door == "config.yaml" and damage == "a pipe":
        return  # what a shell makes of <(command)
    if door == "filters.json" and damage != "3,072.0 MiB":
        assert DOORS[door](path) is None  # no file: none that a phase has written
        return
    with pytest.raises((UserError, DamagedFeaturesError), match=f"{door}.*{damage}"):
        DOORS[door](path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_of_runs_with_such_a_config_is_searched_all_the_same(damage, tmp_path):
    (tmp_path / "other").mkdir()
    DAMAGES[damage](tmp_path / "other/config.yaml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("phases: {}\n")
    assert find_run(tmp_path)[0] == tmp_path / "run"
    assert runs_in(tmp_path / "other") == []
    DAMAGES[damage](tmp_path / "run/wandb_id")
    if damage == "3,072.0 MiB":
        with pytest.warns(UserWarning, match="holds no identity"):
            assert len(wandb_id(tmp_path / "run")) == 8


def test_gigabytes_beside_a_checkpoint_are_not_read(tmp_path):
    torch.save({}, tmp_path / "best.ckpt")
    put_gigabytes(tmp_path / "done.json")
    with pytest.raises(UserError, match=r"done\.json.*3,072\.0 MiB"):
        check_digest(tmp_path / "best.ckpt")
    (tmp_path / "run").mkdir()
    put_gigabytes(tmp_path / "run/config.yaml")
    with pytest.raises(UserError, match=r"config\.yaml.*3,072\.0 MiB"):
        load(tmp_path / "run")
    put_gigabytes(tmp_path / "names.csv")
    with pytest.raises(UserError, match=r"names\.csv.*3,072\.0 MiB"):
        read_feature_names(tmp_path)


def test_tables_of_millions_of_cells_and_nested_values(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n" * 100 + "1," * MAX_CELLS)
    with pytest.raises(ValueError, match="more than 4,000,000 cells"):
        read_rows(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)


def test_the_largest_record_is_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * MAX_BYTES)
    assert len(read_bytes(path)) == len(read_text(path)) == MAX_BYTES
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="MiB, where at most 32 are expected"):
        read_bytes(path)
    with pytest.raises(FileNotFoundError):
        read_text(Path(tmp_path / "nowhere"))


def test_names_of_features_that_there_are_not(tmp_path):
    (tmp_path / "names.csv").write_text("feature,name\n3,eye\n16,beak\n")
    assert read_feature_names(tmp_path) == {3: "eye", 16: "beak"}
    with pytest.raises(UserError, match=r"names\.csv: line 3 names feature 16; there are 16, counted from 0"):
        read_feature_names(tmp_path, 16)


@pytest.mark.parametrize("data", [{"images": {"test": "x"}}, {"images": [1]}, {"class_names": [1]}, [1]])
def test_results_of_other_data(data, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"data": data}))
    with pytest.raises(UserError, match=r"results\.json: not a record written by Handful \('data'"):
        read_results(tmp_path)
