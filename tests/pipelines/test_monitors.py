"""What a phase watches is checked before the first phase, and said to be what is really logged."""

import csv
from contextlib import nullcontext

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from callbacks import ClassFilters, Diversity
from handful.errors import UserError
from lightning_modules import Dense
from pipelines.build import build_phase
from pipelines.cli import main
from pipelines.config import PhaseConfig
from pipelines.monitors import check_monitors
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config
from tests.soak.kills import configs

pytestmark = pytest.mark.usefixtures("without_report")

NETWORK = {"backbone": "conv4", "options": {"width": 4}}


class Counting(Diversity):
    """A callback of a user's own that does not say what it logs."""

    measures = None


Counting.__module__ = "mine"


def check(monitor, *callbacks):
    phase = PhaseConfig({"class_path": "Dense"}, monitor=monitor)
    return check_monitors("phases.dense", phase, Dense(NETWORK, 3), list(callbacks))


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy", "val/balanced_accuracy", "train/loss"])
def test_what_is_logged_may_be_watched(monitor):
    assert check(monitor).needs_validation == []


@pytest.mark.parametrize(
    ("monitor", "meant"),
    [("val/acuracy", "val/accuracy"), ("accuracy", "val/accuracy"), ("loss", "val/loss"), ("val_loss", "val/loss")],
)
def test_a_wrong_name_is_refused_with_the_nearest(monitor, meant):
    with pytest.raises(UserError, match=rf"dense\.monitor: '{monitor}' .*; did you mean '{meant}'\?; available"):
        check(monitor)


def test_measures_of_callbacks():
    assert not check("val/diversity@5", Diversity()).stands_in
    assert check("train/diversity@5", Diversity()).stands_in == ["phases.dense.monitor: watches train/diversity@5"]
    assert not check("filters/union", ClassFilters()).needs_validation
    # the noise test is one of validation images
    (needs,) = check("val/accuracy", ClassFilters(), EarlyStopping("filters/noise_on_filters")).needs_validation
    assert needs.endswith("watches filters/noise_on_filters")
    with pytest.raises(UserError, match=r"'val/diversity@6' .*did you mean 'val/diversity@5'"):
        check("val/diversity@6", Diversity())
    assert not check("anything", Counting()).needs_validation


@pytest.mark.parametrize("measure", ["train/loss", "train/diversity@2"])
def test_a_measure_of_training_chooses_where_there_are_no_validation_images(tmp_path, capsys, measure):
    """Every epoch was overwritten by the next, and diversity of training could not be watched at all."""
    watcher = {"class_path": "EarlyStopping", "init_args": {"monitor": measure, "patience": 1, "min_delta": 1e6}}
    dense = {"module": {"class_path": "Dense"}, "max_epochs": 4, "monitor": measure,
             "callbacks": [{"class_path": "Diversity"}, watcher]}  # fmt: skip
    config = tiny_config(phases={"dense": dense})
    config["data"]["init_args"]["val_images_per_class"] = 0
    main(["pipeline", "--config", str(write_config(tmp_path, **config)), "--run_dir", str(tmp_path / "run")])
    rows = list(csv.DictReader((tmp_path / "run/dense/metrics.csv").open()))
    values = [float(row[measure]) for row in rows if row.get(measure)]
    epochs = [int(row["epoch"]) for row in rows if row.get(measure)]
    assert max(epochs) == 1  # no epoch is better by so much
    best = torch.load(tmp_path / "run/dense/best.ckpt", weights_only=True)
    kept = next(s for name, s in best["callbacks"].items() if f"'monitor': {measure!r}" in name and "best_k" in str(s))
    last = dict(zip(epochs, values, strict=True))  # that of the epoch comes last
    assert float(kept["best_model_score"]) == pytest.approx(
        min(last.values()) if measure == "train/loss" else max(last.values())
    )
    assert best["epoch"] == next(e for e, v in last.items() if v == pytest.approx(float(kept["best_model_score"])))
    config["data"]["init_args"]["val_images_per_class"] = 3
    config["name"] = "with"
    if measure != "train/loss":
        with pytest.raises(SystemExit):
            main(["pipeline", "--config", str(write_config(tmp_path, **config)), "--run_dir", str(tmp_path / "with")])
        said = "watches train/diversity@2, which is measured where there are no validation images; watch that of val/"
        assert said in capsys.readouterr().err


def checkpoint(**init_args):
    return {"class_path": "ModelCheckpoint", "init_args": init_args}


@pytest.mark.parametrize(("callbacks", "sentence"), [
    ([checkpoint()], "phases.dense.callbacks: ModelCheckpoint: a phase keeps last.ckpt and best.ckpt itself"),
    ([checkpoint(monitor="val/accuracy", mode="max")], "ModelCheckpoint: a phase keeps last.ckpt"),
    ([checkpoint(monitor="val/loss")] * 2, "ModelCheckpoint is given twice with the same arguments"),
    ([{"class_path": "Diversity"}] * 2, None), ([checkpoint(monitor="val/loss")], None),
])  # fmt: skip
def test_callbacks_whose_states_a_checkpoint_could_not_keep_apart(tmp_path, callbacks, sentence):
    phases = {"dense": {"module": {"class_path": "Dense"}, "max_epochs": 1, "callbacks": callbacks}}
    file = write_config(tmp_path, phases=phases)
    runner = Runner(parse_pipeline(["--config", str(file), "--run_dir", str(tmp_path / "run")])[0])
    with pytest.raises(UserError, match=sentence) if sentence else nullcontext():
        runner._check({"network": {"backbone": "conv4", "options": {"width": 4}}, "num_classes": 3})


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_callbacks_that_watch(tmp_path, capsys, callback):
    phases = {"dense": {"module": {"class_path": "Dense"}, "max_epochs": 1, "callbacks": [
        {"class_path": callback, "init_args": {"monitor": "val/los"}}]}}  # fmt: skip
    with pytest.raises(SystemExit):
        main(["pipeline", "--config", str(write_config(tmp_path, phases=phases)), "--run_dir", str(tmp_path / "run")])
    assert rf"phases.dense.callbacks: {callback}.monitor: 'val/los' is not logged when" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_every_measure_that_trainings_log_may_be_watched(tmp_path):
    """The plug-in, a dense and a retrained classifier: every measure that they log in validation is known."""
    for name, phase in (("plugin", "plugin"), ("filters", "dense"), ("filters", "retrain")):
        config = configs()[name]
        for values in config["phases"].values():
            values.pop("callbacks", None)

        path = write_config(tmp_path, **config)
        pipeline, _ = parse_pipeline(["--config", str(path), "--run_dir", str(tmp_path / name)])
        Runner(pipeline).run()
        module = pipeline.phases[phase]
        header = (tmp_path / name / phase / "metrics.csv").read_text().splitlines()[0].split(",")
        logged = {m for m in header if m.startswith("val/")}
        assert logged
        for measure in logged:
            module.monitor = measure
            what = build_phase(module.module, phase, {"network": NETWORK, "num_classes": 3}).module
            assert what.measures is not None  # else nothing is checked
            assert not check_monitors("x", module, what, []).needs_validation
