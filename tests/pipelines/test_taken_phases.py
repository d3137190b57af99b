"""Finished phases of another run that are the same are taken, and no others."""

import json
import shutil

import pytest

from pipelines.cli import main
from pipelines.phase_folder import PhaseFolder
from tests.helpers.pipeline import tiny_config, without_reports, write_config

BINARY = {
    "assign": {"module": {"class_path": "Assign", "init_args": {"n_features": 4, "features_per_class": 2}}},
    "finetune": {"module": {"class_path": "Finetune", "init_args": {"source": "assign"}}, "max_epochs": 1},
    "evaluate": {
        "module": {
            "class_path": "Evaluate",
            "init_args": {"stages": {"dense": "dense", "binary": "assign", "finetuned": "finetune"}},
        }
    },
}


@pytest.fixture(scope="module", autouse=True)
def phases_alone(tiny_run):  # which others want with its report
    with without_reports():
        yield


def pipeline(folder, config, *arguments):
    main(["pipeline", "--config", str(config), "--run_dir", str(folder), *map(str, arguments)])


@pytest.fixture(scope="module")
def sldd(tiny_run):
    """A finished SLDD run."""
    return tiny_run


@pytest.fixture
def binary(tmp_path):
    """The config of a run with the same dense phase and another head."""
    return write_config(tmp_path, phases={"dense": tiny_config()["phases"]["dense"]} | BINARY)


def test_the_dense_phase_is_taken_and_the_rest_runs(sldd, binary, tmp_path):
    """Bit for bit: its record names the same version, and its row is the other run's."""
    pipeline(tmp_path / "run", binary, "--phases_from", sldd)
    taken, found = PhaseFolder(tmp_path / "run" / "dense"), PhaseFolder(sldd / "dense")
    assert taken.done_file.read_bytes() == found.done_file.read_bytes()
    assert taken.best.read_bytes() == found.best.read_bytes()
    ours, theirs = (json.loads((run / "results.json").read_text())["stages"] for run in (tmp_path / "run", sldd))
    assert ours["dense"] == theirs["dense"]
    assert list(ours) == ["dense", "binary", "finetuned"]
    assert "phases_from" not in (tmp_path / "run" / "config.yaml").read_text()
    before = (tmp_path / "run" / "finetune" / "done.json").read_bytes()
    pipeline(tmp_path / "run", binary, "--phases_from", sldd)  # again: all is finished
    assert (tmp_path / "run" / "finetune" / "done.json").read_bytes() == before


def test_the_first_phase_that_differs_ends_it(sldd, tmp_path, capsys):
    """The same dense phase, a sparse layer of another size: that and what stands on it runs here."""
    other = ["--phases.sparsify.module.features_per_class", 1]
    pipeline(tmp_path / "run", write_config(tmp_path), "--phases_from", sldd, *other)
    same = {
        name: (tmp_path / "run" / name / "done.json").read_bytes() == (sldd / name / "done.json").read_bytes()
        for name in ("dense", "sparsify", "finetune")
    }
    assert same == {"dense": True, "sparsify": False, "finetune": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--phases.dense.max_epochs", "2"], "dense was run with a different max_epochs (3, now 2)"),
        (["--seed", "1"], "dense was run with a different seed (0, now 1)"),
        (["--phases.dense.module.beta", "0.5"], "dense was run with a different module"),
    ],
)
def test_another_dense_phase_is_refused(sldd, binary, tmp_path, capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        pipeline(tmp_path / "run", binary, "--phases_from", sldd, *arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_no_finished_phase_is_refused(sldd, binary, tmp_path, capsys):
    """No such run, itself, a phase that is not finished, a damaged file."""
    copy = tmp_path / "copy"
    shutil.copytree(sldd, copy)
    with (copy / "dense" / "best.ckpt").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    for source, words in [(tmp_path / "none", "there is no such folder"), (copy, "damaged or changed")]:
        with pytest.raises(SystemExit):
            pipeline(tmp_path / "run", binary, "--phases_from", source)
        assert words in capsys.readouterr().err
    (copy / "dense" / "done.json").unlink()
    for folder, words in [(tmp_path / "run", "dense is not finished"), (copy, "is this run itself")]:
        with pytest.raises(SystemExit):
            pipeline(folder, binary, "--phases_from", copy)
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
