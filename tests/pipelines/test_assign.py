"""QPM and its successors as runs: phases, resumption, two processes, and every command on the run."""

import csv
import json
import shutil

import pytest
import torch
import yaml
from PIL import Image

from datamodules import ToyBirds
from lightning_modules import load_classifier
from pipelines.cli import main
from tests.helpers import forked
from tests.helpers.pipeline import tiny_config, write_config


def phases(epochs=3, relu=True, **finetune):
    config = tiny_config()["phases"]
    arguments = {"source": "assign", "beta": 0.1, **finetune}
    return {
        "dense": config["dense"] | {"max_epochs": epochs},
        "assign": {"module": {"class_path": "Assign", "init_args": {
            "n_features": 4, "features_per_class": 2, "relu": relu, "rho": 0.4, "restarts": 2, "bound_seconds": 1.0}}},
        "finetune": config["finetune"] | {"module": {"class_path": "Finetune", "init_args": arguments}},
        "evaluate": {"module": {"class_path": "Evaluate", "init_args": {
            "stages": {"dense": "dense", "binary": "assign", "finetuned": "finetune"}}}},
    }  # fmt: skip


def command(config, run):
    return ["pipeline", "--config", config, "--run_dir", run]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qpm")
    config = write_config(folder, phases=phases(grounding=3.0, grounding_epochs=2))
    ended = forked.run(command(config, folder / "run"), folder / "run")
    assert ended.status == 0, ended.text
    return folder / "run"


def test_the_choice_is_whole_and_stays_while_finetuning(finished):
    record = json.loads((finished / "assign/assignment.json").read_text())
    assert len(record["features"]) == 4
    assert [len(features) for features in record["classes"].values()] == [2, 2, 2]
    assert len({tuple(features) for features in record["classes"].values()}) == 3
    assert record["pairs"] >= record["pairs_wanted"] == 1
    assert 0 <= record["gap"] < 1
    before, after = (load_classifier(finished / phase / "best.ckpt").model for phase in ("assign", "finetune"))
    assert before.head.kind == after.head.kind == "binary"
    assert before.head.selection.tolist() == record["features"]
    for name in ("selection", "mean", "std", "weight", "bias"):
        assert getattr(before.head, name).equal(getattr(after.head, name)), name
    rows = json.loads((finished / "results.json").read_text())["stages"]
    assert rows["finetuned"]["n_features"] == 4
    assert rows["finetuned"]["features_per_class"] == 2
    table = (finished / "finetune/metrics.csv").read_text()
    assert "train/grounding_loss" in table


def test_every_command_reads_the_run(finished, tmp_path):
    pictures = tmp_path / "pictures"
    data = ToyBirds(**yaml.safe_load((finished / "config.yaml").read_text())["data"]["init_args"])
    data.prepare_data()
    data.setup("test")
    pictures.mkdir()
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    for number in range(2):
        pixels = (data.test_dataset[number][0] * std + mean).clamp(0, 1)
        Image.fromarray((255 * pixels).byte().permute(1, 2, 0).numpy()).save(pictures / f"{number}.png")
    refused = forked.run(["predict", "--run_dir", finished, "--images", pictures, "--sets", "thr"], finished)
    assert refused.status == 2
    assert "nothing is calibrated yet" in refused.text
    for arguments in (
        ["explain", "--run_dir", finished, "--images", pictures, "--methods", "cam"],
        ["evaluate", "--run_dir", finished, "--conformal", "0.7"],
        ["report", "--run_dir", finished],
        ["predict", "--run_dir", finished, "--images", pictures, "--sets", "hierarchy"],
        ["explain", "--run_dir", finished, "--images", pictures, "--methods", "cam", "--sets", "thr"],
    ):
        ended = forked.run(arguments, finished)
        assert ended.status == 0, ended.text
    record = json.loads((finished / "conformal/conformal.json").read_text())
    assert set(record["stages"]) == {"dense", "binary", "finetuned"}
    assert set(record["stages"]["finetuned"]) == {"thr", "aps", "hierarchy"}
    assert set(record["stages"]["dense"]) == {"thr", "aps"}
    rows = list(csv.DictReader((finished / "predict/predictions.csv").open()))
    assert all("conformal set" in row for row in rows)
    assert all(row["in words"].endswith("(70 %)") or "(70 %)" in row["in words"] for row in rows)
    page = (finished / "report/index.html").read_text()
    for heading in ("Step by step", "Sets of classes with a guarantee", "Classes that differ in one feature"):
        assert f"<h2>{heading}</h2>" in page
    assert record["stages"]["finetuned"]["thr"]["attribute_coherence"] is not None  # toy birds know theirs
    record_classes = json.loads((finished / "assign/assignment.json").read_text())["classes"]
    explained = json.loads((finished / "explain/explain.json").read_text())["images"]
    for one in explained:
        assert one["possible"]["coverage"] == 0.7
        assert "(70 %)" in one["possible"]["in_words"]
        assert bool(one["hierarchy"]) == ("3 classes → feature" in one.get("hierarchy_in_words", ""))
        assert set(one["possible"]["classes"]) <= set(record_classes)
        total = sum(part["contribution"] for part in one["contributions"]) + one["explained"]["bias"]
        assert total == pytest.approx(one["explained"]["logit"], abs=1e-4)


def test_what_too_few_images_calibrate_is_left_out_and_said(finished, tmp_path):
    """Seven or eight images calibrate thr and aps, half of them the hierarchy; every model is read once."""
    ended = forked.run(
        ["evaluate", "--run_dir", finished, "--conformal", "0.85", "--out", tmp_path / "sets"],
        finished,
    )
    assert ended.status == 0, ended.text
    record = json.loads((tmp_path / "sets/conformal.json").read_text())
    assert set(record["stages"]["finetuned"]) == {"thr", "aps"}
    assert record["left_out"]["dense"] == {}
    for stage in ("binary", "finetuned"):  # each stage has a reason of its own
        assert "a coverage of 0.85 needs 6" in record["left_out"][stage]["hierarchy"]
        assert f"left out: hierarchy of {stage}: " in ended.text


@pytest.mark.parametrize(("arguments", "words"), [
    (["evaluate", "--conformal", "1.5"], "--conformal: above 0 and below 1, not 1.5"),
    (["evaluate", "--conformal", "0.99"], "a coverage of 0.99 needs 99"),
    (["compare", "--run_dirs", "{run}"], "two or more different runs"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(finished, arguments, words):
    own = [part.format(run=finished) for part in arguments]
    own += [] if own[0] == "compare" else ["--run_dir", finished]
    ended = forked.run(own, finished)
    assert ended.status == 2
    assert words in ended.text
    assert "Traceback" not in ended.text


def test_runs_are_compared(finished, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    ended = forked.run(
        ["compare", "--run_dirs", finished, other, "--stages", "all", "--out", tmp_path / "both"], finished
    )
    assert ended.status == 0, ended.text
    record = json.loads((tmp_path / "both/comparison.json").read_text())
    assert len(record["rows"]) == 6
    rows = list(csv.DictReader((tmp_path / "both/comparison.csv").open()))
    assert [row["run and stage"] for row in rows] == list(record["rows"])
    page = (tmp_path / "both/index.html").read_text()
    assert "Runs compared" in page
    assert "accuracy ↑" in page
    costs = [row["seconds"] for row in list(record["rows"].values())[:3]]
    assert costs == sorted(costs)  # of all phases up to the stage
    assert costs[0] < costs[2]
    assert any("dense has no measures; python train.py evaluate --run_dir" in one for one in record["missing"])


def test_killed_while_finetuning_it_ends_with_the_same_bits(finished, tmp_path):
    config = write_config(tmp_path, phases=phases(grounding=3.0, grounding_epochs=2))
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "finetune")
    shutil.rmtree(run / "evaluate")
    killed = forked.run(command(config, run), run, kill_at=60)
    assert killed.status != 0
    ended = forked.run(command(config, run), run)
    assert ended.status == 0, ended.text
    one, two = (torch.load(r / "finetune/last.ckpt", weights_only=True)["state_dict"] for r in (finished, run))
    assert all(one[name].equal(two[name]) for name in one)


def test_two_processes_make_the_same_choice(finished, tmp_path):
    own = {name: phase for name, phase in phases().items() if name in ("dense", "assign")}
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "assign")
    ended = forked.run_ranks(command(write_config(tmp_path, phases=own), run), run)
    assert ended.status == 0, ended.text
    first, second = (json.loads((r / "assign/assignment.json").read_text()) for r in (finished, run))
    assert {key: first[key] for key in first if key not in ("bound", "gap")} == {
        key: second[key] for key in second if key not in ("bound", "gap")
    }


def test_a_frozen_backbone_gives_its_stored_features(finished, tmp_path):
    own = phases(1)
    own["dense"]["module"]["init_args"] |= {"train_backbone": False, "beta": 0.0}
    own["assign"]["module"]["init_args"]["locality"] = False
    own = {name: own[name] for name in ("dense", "assign")}
    config = write_config(tmp_path, phases=own, init_from=str(finished / "dense/best.ckpt"))
    ended = forked.run(command(config, tmp_path / "run"), tmp_path / "run")
    assert ended.status == 0, ended.text
    assert load_classifier(tmp_path / "run/assign/best.ckpt").model.head.kind == "binary"
    refused = own | {"finetune": phases()["finetune"]}
    refused["finetune"]["module"]["init_args"]["train_backbone"] = False
    ended = forked.run(command(write_config(tmp_path, phases=refused), tmp_path / "run2"), tmp_path / "run2")
    assert ended.status == 2


def test_q_senns_rounds_keep_the_features(tmp_path):
    config = tiny_config()["phases"]
    sparse = {"n_features": 5, "features_per_class": 2, "cut": "ternary"}
    own = {
        "dense": config["dense"] | {"max_epochs": 1},
        "sparsify": {"module": {"class_path": "Sparsify", "init_args": {"source": "dense", **sparse}}},
        "finetune": config["finetune"] | {
            "module": {"class_path": "Finetune", "init_args": {"source": "sparsify"}}, "max_epochs": 1},
    }  # fmt: skip
    path = write_config(tmp_path, phases=own, rounds={"phases": ["sparsify", "finetune"], "times": 2})
    ended = forked.run(command(path, tmp_path / "run"), tmp_path / "run")
    assert ended.status == 0, ended.text
    heads = [load_classifier(tmp_path / "run" / name / "best.ckpt").model.head for name in (
        "sparsify", "finetune", "sparsify-2", "finetune-2")]  # fmt: skip
    assert all(head.kind == "ternary" and head.selection.equal(heads[0].selection) for head in heads)
    for head in heads:
        sizes = head.weight[head.weight != 0].abs().unique()
        assert len(sizes) == 1
        assert float(head.bias.sum()) == pytest.approx(0, abs=1e-5)
    assert (heads[0].weight != 0).sum() == 6


@pytest.mark.parametrize(("option", "value", "words"), [
    ("n_features", "9", "3 classes with 2 features each can use at most 6 features, not 9"),
    ("n_features", "2", "2 features allow 1 different sets of 2, fewer than the 3 classes"),
    ("n_features", "1", "n_features: 1 is fewer than features_per_class, 2"),
    ("n_features", "99", "n_features: 99, but there are only 16 features to choose from"),
    ("features_per_class", "0", "features_per_class: expected at least 1, got 0"),
    ("rho", "1.5", "rho: 0 to 1 pairs per class, not 1.5"),
    ("rho", "-0.1", "rho: 0 to 1 pairs per class, not -0.1"),
    ("rho", "nan", "rho"),
    ("features_per_class", "5", "n_features: 4 is fewer than features_per_class, 5"),
    ("source", "dens", "did you mean 'dense'"),
    ("threshold", "nan", "threshold: Expected"),
    ("threshold", "-0.5", "threshold: a similarity of at least 0"),
    ("restarts", "-1", "restarts: expected at least 0, got -1"),
    ("seed", "-1", "seed: expected 0 to"),
    ("bound_seconds", "nan", "bound_seconds: Expected a number"),
    ("bound_seconds", "-1", "bound_seconds: -1.0 lies outside"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(tmp_path, option, value, words, capfd):
    config = write_config(tmp_path, phases=phases())
    given = [*command(config, tmp_path / "run"), f"--phases.assign.module.{option}", value]
    with pytest.raises(SystemExit) as end:
        main([str(part) for part in given])
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "run/dense").exists()
