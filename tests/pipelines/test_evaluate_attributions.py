"""`evaluate --measures attributions`: the library's numbers, by method; unknown methods; what cannot be measured."""

import json

import pytest
import torch

from handful.attribution import attribute
from handful.errors import UserError
from handful.metrics.boxes import BoxRatio
from handful.metrics.faithfulness import DeletionAUC
from pipelines.evaluate import evaluate
from pipelines.finished_run import Run
from tests.helpers.finished_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("attributions"))


def read(path):
    return json.loads(path.read_text())


def test_the_numbers_are_the_librarys(run, tmp_path):
    names = "insertion,deletion,sparseness,energy,pointing,box_ratio,infidelity,sensitivity_n,road,degradation"
    record = read(evaluate(str(run), names, "dense", methods="cam, gradient", out=str(tmp_path), images=4))
    row = record["stages"]["dense"]
    assert not record["left_out"]
    assert set(row) == {f"{name} of {method}" for name in names.split(",") for method in ("cam", "gradient")}
    model, data = Run(run).load("dense").model.eval(), Run(run).datamodule()
    dataset = data.plain_dataset("test")
    indices = [i * len(dataset) // 4 for i in range(4)]
    images = torch.stack([dataset[i][0] for i in indices])
    maps = attribute(model, images, method="cam").map()
    deletion, boxes = DeletionAUC(), BoxRatio()
    deletion.update(model, images, maps)
    boxes.update(maps, torch.stack([torch.from_numpy(data.birds["test"].rendering(i).bird) > 0.5 for i in indices]))
    assert row["deletion of cam"] == pytest.approx(float(deletion.compute()), abs=2e-6)
    assert row["box_ratio of cam"] is None or 0 <= row["box_ratio of cam"] <= 1


def test_max_sensitivity_randomisation_and_birds(run, tmp_path):
    names = "max_sensitivity,parameter_randomisation,funny_birds"
    record = read(evaluate(str(run), names, "finetune", methods=["gradient"], out=str(tmp_path), images=2))
    row = record["stages"]["finetune"]
    assert row["max_sensitivity of gradient"] > 0
    assert -1 <= row["parameter_randomisation of gradient"] <= 1
    assert {"accuracy", "background_independence", "completeness of gradient"} <= set(row)
    layers = record["details"]["finetune"]["parameter_randomisation"]["gradient"]["layers"]
    assert layers[0] == "head"
    assert layers[-1] == "backbone.conv1"


def test_an_unknown_method_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match=r'no attribution method "gradcm".*gradcam'):
        evaluate(str(tmp_path / "nowhere"), "insertion", methods="gradcm")
