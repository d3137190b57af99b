"""The whole pipeline in one process: what it writes, what it skips, what it refuses."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from handful.errors import UserError
from handful.networks import build_classifier
from lightning_modules import Finetune, load_module
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config


def run(*arguments):
    pipeline, start_at = parse_pipeline([str(a) for a in arguments])
    return Runner(pipeline, start_at).run()


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def finished(tiny_run):
    return tiny_run, json.loads((tiny_run / "results.json").read_text())


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_results_rows(finished):
    _, results = finished
    assert list(results["stages"]) == ["dense", "sparse", "finetuned"]
    for row in results["stages"].values():
        assert {"accuracy", "n_features", "features_per_class", "diversity@5", "dependence"} <= set(row)
        assert 0 <= row["accuracy"] <= 100
    assert results["stages"]["dense"]["n_features"] == 16
    assert results["stages"]["finetuned"]["n_features"] <= 5
    assert results["stages"]["sparse"]["features_per_class"] <= 2
    assert set(results["seconds"]) == set(results["peak_memory_mib"]) == {"dense", "sparsify", "finetune", "evaluate"}
    assert results["versions"]["torch"] == torch.__version__


def test_accuracy_is_that_of_the_checkpoint(finished):
    """Against a plain loop over the test images."""
    folder, results = finished
    data = Run(folder).datamodule()
    for stage, phase in (("dense", "dense"), ("finetuned", "finetune")):
        model = load_module(folder / phase / "best.ckpt").model
        with torch.no_grad():
            right = sum(int(model(image[None]).argmax()) == label for image, label in data.test_dataset)
        assert results["stages"][stage]["accuracy"] == pytest.approx(100 * right / len(data.test_dataset), abs=1e-4)


def test_every_checkpoint_holds_plain_values(finished):
    paths = list(finished[0].rglob("*.ckpt"))
    assert len(paths) == 5
    for path in paths:
        torch.load(path, weights_only=True)


def test_sparse_layer_stays_and_backbone_moves(finished):
    folder, _ = finished
    before, after = (load_module(folder / p / "best.ckpt") for p in ("sparsify", "finetune"))
    assert isinstance(after, Finetune)
    for name in ("selection", "weight", "bias"):
        assert torch.equal(getattr(before.model.head, name), getattr(after.model.head, name))
    pairs = zip(before.model.backbone.parameters(), after.model.backbone.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(before.model.head.mean, after.model.head.mean)


def test_selected_features_are_bit_equal_to_the_dense_ones(finished):
    folder, _ = finished
    dense, sparse = (load_module(folder / p / "best.ckpt").model for p in ("dense", "sparsify"))
    images = torch.randn(3, 3, 24, 24)
    assert torch.equal(dense.features(images), sparse.features(images))


def test_records_of_the_sparse_phase(finished):
    folder = finished[0] / "sparsify"
    path = list(csv.DictReader((folder / "path.csv").open()))
    assert path
    assert json.loads((folder / "selection.json").read_text())
    layer = json.loads((folder / "layer.json").read_text())
    assert sum(layer["counts_per_class"]) == int((load_module(folder / "best.ckpt").model.head.weight != 0).sum())


def test_metrics_of_every_epoch(finished):
    rows = list(csv.DictReader((finished[0] / "dense" / "metrics.csv").open()))
    epochs = [int(r["epoch"]) for r in rows if r["val/accuracy"]]
    assert epochs == [0, 1, 2]
    diversity = [float(r["val/diversity@1"]) for r in rows if r["val/diversity@1"]]
    assert diversity == pytest.approx([1, 1, 1])


def test_same_command_again_skips_everything(copy, capsys):
    stamps = {p: p.stat().st_mtime_ns for p in copy.rglob("*.ckpt")}
    results = run("--config", copy / "config.yaml", "--run_dir", copy)
    assert json.loads((copy / "results.json").read_text()) == results
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*.ckpt")} == stamps


def test_a_record_from_before_an_argument_existed_still_counts(copy):
    record = json.loads((copy / "dense/done.json").read_text())
    del record["config"]["module"]["init_args"]["class_weights"], record["checksum"]
    (copy / "dense/done.json").write_text(json.dumps(record))
    for later in ("sparsify", "finetune", "evaluate"):
        shutil.rmtree(copy / later)
    stamp = (copy / "dense/best.ckpt").stat().st_mtime_ns
    run("--config", copy / "config.yaml", "--run_dir", copy)
    assert (copy / "dense/best.ckpt").stat().st_mtime_ns == stamp


def test_what_stands_on_a_phase_that_runs_again_runs_again(copy):
    """Dense made anew by removing its record: nothing of the old dense may survive behind it."""
    (copy / "dense/done.json").unlink()
    stamps = {n: (copy / n / "done.json").stat().st_mtime_ns for n in ("sparsify", "finetune", "evaluate")}
    run("--config", copy / "config.yaml", "--run_dir", copy)
    assert all((copy / n / "done.json").stat().st_mtime_ns > stamp for n, stamp in stamps.items())


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        (["--trainer.precision", "bf16-mixed"], "trainer"),
        (["--phases.dense.callbacks", "[]"], "callbacks"),
        (["--phases.dense.monitor", "val/loss"], "monitor"),
        (["--seed", "3"], "seed"),
        (["--data.batch_size", "4"], "data"),
        (["--phases.dense.module.beta", "0"], "module"),
    ],
)
def test_a_finished_phase_is_not_taken_for_another(copy, extra, key):
    before = (copy / "config.yaml").read_text()
    with pytest.raises(UserError, match=rf"dense: finished with another {key} .*--start_at dense"):
        run("--config", copy / "config.yaml", "--run_dir", copy, *extra)
    assert (copy / "config.yaml").read_text() == before


def test_other_images_or_weights_at_the_same_place_are_noticed(tmp_path):
    root = tmp_path / "photos"
    for split, count in (("train", 6), ("test", 3)):
        for label in ("crow", "owl"):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng([len(split), len(label), i]).integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(noise).save(root / split / label / f"{i}.png")
    network = {"backbone": "cifar_resnet20", "options": {"width": 4}}
    model = build_classifier(network, 2)
    torch.save(model.state_dict(), tmp_path / "start.pth")
    config = write_config(
        tmp_path,
        data={"class_path": "ImageFolder", "init_args": {"root": "", "image_size": 16, "batch_size": 4}},
        phases={"dense": {"module": {"class_path": "Dense"}}, "evaluate": {"module": {"class_path": "Evaluate"}}},
        network=network,
    )
    command = ["--config", config, "--run_dir", tmp_path / "run", "--init_from", tmp_path / "start.pth"]
    first = run(*command, "--data.root", root)
    moved = shutil.copytree(root, tmp_path / "moved")
    assert run(*command, "--data.root", moved)["stages"] == first["stages"]
    (moved / "test/owl/0.png").unlink()
    results = (tmp_path / "run/results.json").read_bytes()
    with pytest.raises(UserError, match="dense: finished with another content of the images"):
        run(*command, "--data.root", moved)
    assert (tmp_path / "run/results.json").read_bytes() == results
    torch.save(build_classifier(network, 2).state_dict(), tmp_path / "start.pth")
    with pytest.raises(UserError, match="dense: finished with another content of the weights"):
        run(*command, "--data.root", root)
    (tmp_path / "start.pth").unlink()
    assert run(*command, "--data.root", root)["stages"] == first["stages"]


def test_a_phase_that_is_redone_makes_the_results_before_invalid(copy):
    with pytest.raises(UserError, match="give it more time"):
        run("--config", copy / "config.yaml", "--run_dir", copy, "--start_at", "finetune",
            "--phases.finetune.trainer", '{max_time: "00:00:00:00"}')  # fmt: skip
    assert not (copy / "results.json").exists()
    assert Run(copy).phases == ["dense", "sparsify"]


def test_what_stands_on_a_phase_that_was_redone_is_of_the_run_no_more(copy):
    record = json.loads((copy / "dense/done.json").read_text())
    del record["checksum"]
    (copy / "dense/done.json").write_text(json.dumps(record | {"finished": 0}))
    assert Run(copy).phases == ["dense"]


def test_observers_see_the_averaged_weights(tmp_path):
    average = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5}}
    maps = {"class_path": "AttributionMaps", "init_args": {"methods": ["gradient"], "images": 2}}
    phases = tiny_config()["phases"]
    phases["dense"] |= {"callbacks": [average, maps], "max_epochs": 1}
    run("--config", write_config(tmp_path, phases={"dense": phases["dense"]}), "--run_dir", tmp_path / "run")
    scores = np.load(tmp_path / "run/dense/attribution/epoch_000.npz")
    finished = Run(tmp_path / "run")
    images = torch.stack([finished.datamodule().val_dataset[int(place)][0] for place in scores["places"]])
    with torch.no_grad():
        expected = finished.load("dense").model(images).max(dim=1).values
    np.testing.assert_allclose(scores["gradient/scores"], expected, rtol=1e-4)


def test_a_begun_phase_is_not_resumed_with_another_configuration(copy):
    (copy / "finetune/done.json").unlink()
    with pytest.raises(UserError, match="finetune: begun with another max_epochs"):
        run("--config", copy / "config.yaml", "--run_dir", copy, "--phases.finetune.max_epochs", "2")


def test_a_refused_redo_harms_nothing(copy, tmp_path):
    files = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    (tmp_path / "wrong.pth").write_bytes(b"not weights")
    for extra in (["--start_at", "dense", "--init_from", tmp_path / "wrong.pth"],
                  ["--start_at", "finetune", "--network.dropout", "0.3"]):  # fmt: skip
        with pytest.raises(UserError):
            run("--config", copy / "config.yaml", "--run_dir", copy, *extra)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == files


def test_a_broken_checkpoint_is_told(copy):
    (copy / "finetune/done.json").unlink()
    (copy / "finetune/last.ckpt").write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"finetune/last\.ckpt: cannot be read .* remove it"):
        run("--config", copy / "config.yaml", "--run_dir", copy)


def test_start_at_redoes_from_there(copy):
    stamp = (copy / "dense" / "last.ckpt").stat().st_mtime_ns
    run("--config", copy / "config.yaml", "--run_dir", copy, "--start_at", "finetune",
        "--phases.finetune.max_epochs", "1")  # fmt: skip
    assert (copy / "dense" / "last.ckpt").stat().st_mtime_ns == stamp
    assert torch.load(copy / "finetune" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_the_written_config_runs_again(finished, tmp_path):
    results = run("--config", finished[0] / "config.yaml", "--run_dir", tmp_path / "again")
    assert results["stages"] == finished[1]["stages"]
    first, second = weights(finished[0] / "finetune/last.ckpt"), weights(tmp_path / "again/finetune/last.ckpt")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_no_epochs_takes_the_weights_as_they_are(finished, tmp_path):
    folder, results = finished
    config = write_config(tmp_path)
    again = run("--config", config, "--run_dir", tmp_path / "run", "--init_from", folder / "dense" / "best.ckpt",
                "--phases.dense.max_epochs", "0", "--phases.finetune.max_epochs", "1")  # fmt: skip
    assert again["stages"]["dense"] == results["stages"]["dense"]
    assert again["stages"]["sparse"] == results["stages"]["sparse"]


def test_without_validation_images_the_last_epoch_is_the_best(tmp_path):
    run("--config", write_config(tmp_path), "--run_dir", tmp_path / "run", "--data.val_images_per_class", "0",
        "--phases.dense.max_epochs", "1", "--phases.finetune.max_epochs", "1")  # fmt: skip
    best, last = weights(tmp_path / "run/dense/best.ckpt"), weights(tmp_path / "run/dense/last.ckpt")
    assert all(torch.equal(best[k], last[k]) for k in last)


def test_print_config_prints_a_config_that_parses(tmp_path, capsys):
    config = write_config(tmp_path)
    with pytest.raises(SystemExit) as end:
        parse_pipeline(["--config", str(config), "--phases.dense.max_epochs", "7", "--print_config"])
    assert end.value.code in (0, None)
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    pipeline, _ = parse_pipeline(["--config", str(printed)])
    assert pipeline.phases["dense"].max_epochs == 7
    assert yaml.safe_load(printed.read_text())["data"]["init_args"]["n_classes"] == 3


def test_the_best_epoch_by_balanced_accuracy_of_a_balanced_loss(tmp_path):
    config = write_config(tmp_path, phases={"dense": tiny_config()["phases"]["dense"]})
    options = ["--phases.dense.monitor", "val/balanced_accuracy", "--phases.dense.module.class_weights", "balanced"]
    run("--config", config, "--run_dir", tmp_path / "run", *options)
    rows = list(csv.DictReader((tmp_path / "run/dense/metrics.csv").open()))
    values = [float(row["val/balanced_accuracy"]) for row in rows if row.get("val/balanced_accuracy")]
    best = torch.load(tmp_path / "run/dense/best.ckpt", weights_only=True)
    assert len(values) == 3
    assert values[best["epoch"]] == max(values)
    assert load_module(tmp_path / "run/dense/best.ckpt").hparams["class_weights"] == "balanced"
    with pytest.raises(UserError, match="class_weights: 2 numbers for 3 classes"):
        run("--config", config, "--run_dir", tmp_path / "no", "--phases.dense.module.class_weights", "[1, 2]")
    assert not (tmp_path / "no").exists()
