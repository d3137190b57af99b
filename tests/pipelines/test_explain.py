"""`explain`: numbers that add up, a page that needs nothing but itself, bad input in one sentence."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import pipelines.explain
from handful.attribution import attribute
from handful.errors import UserError
from handful.images import find_images
from pipelines.explain import explain
from pipelines.finished_run import Run
from tests.helpers.finished_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (40, 30)), ("b.jpg", (20, 33)), ("deeper/c.webp", (16, 16))):
        Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not for us")
    return folder


def sentences(capsys):
    """The line of each image, without the steps below it."""
    return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  ")]


def explained(run, photos, out, **more):
    page = explain(str(run), str(photos), out=str(out), **more)
    return page, json.loads((out / "explain.json").read_text())["images"]


def test_contributions_and_bias_add_up_to_the_logit(run, photos, tmp_path, capsys):
    page, records = explained(run, photos, tmp_path / "out")
    model, data = Run(run).load("finetune").model, Run(run).datamodule()
    assert [record["file"].rsplit("/", 1)[1] for record in records] == ["a.png", "b.jpg", "c.webp"]
    for record in records:
        image = Image.open(record["file"]).convert("RGB")
        total = sum(part["contribution"] for part in record["contributions"]) + record["explained"]["bias"]
        assert total == pytest.approx(record["explained"]["logit"], abs=1e-4)
        assert all(p["contribution"] == pytest.approx(p["value"] * p["weight"]) for p in record["contributions"])
        assert len(record["contributions"]) == 2
        other = record["runner_up"]
        lead = sum(part["lead"] for part in other["features"]) + other["bias_lead"]
        assert lead == pytest.approx(other["lead"], abs=1e-4)
        assert other["lead"] == pytest.approx(record["explained"]["logit"] - other["logit"], abs=1e-4)
        if min(image.size) == 16:  # no resizing: what the model saw can be made here
            pixels = torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255
            batch = (pixels - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(3, 1, 1)
            logits = model(batch[None])[0]
            assert record["predicted"]["class"] == data.class_names[int(logits.argmax())]
            assert record["predicted"]["logit"] == pytest.approx(float(logits.detach().max()), abs=1e-4)
            cam = attribute(model, batch[None], method="cam").raw[0]
            np.testing.assert_allclose(np.load(tmp_path / "out" / "maps.npz")["cam"][2], cam, rtol=1e-4, atol=1e-5)
    assert capsys.readouterr().out.count("because of feature") == 3
    assert page == tmp_path / "out" / "index.html"


def test_the_line_of_another_class_says_which(run, photos, tmp_path, capsys):
    names = Run(run).datamodule().class_names
    _, records = explained(run, photos, tmp_path / "own")
    target = next(name for name in names if name != records[0]["predicted"]["class"])
    capsys.readouterr()
    _, records = explained(run, photos, tmp_path / "out", target=target)
    lines = sentences(capsys)
    told = 0
    for record, line in zip(records, lines, strict=True):
        if record["predicted"]["class"] != target:
            assert f"; {target} (" in line
            assert "strongest other" in line
            assert "because" not in line
            told += 1
    assert told


def test_a_run_without_its_images_can_be_explained(run, photos, tmp_path):
    _, before = explained(run, photos, tmp_path / "before")
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "results.json").write_text(json.dumps({"data": Run(run).datamodule().summary()}))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"] = {"class_path": "ImageFolder", "init_args": {"root": "/nowhere"}}
    (copy / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    _, after = explained(copy, photos, tmp_path / "after")
    assert after == before


def test_a_change_that_is_told_ties_the_two(run, photos, tmp_path):
    _, records = explained(run, photos, tmp_path / "out")
    model = Run(run).load("finetune").model
    told = 0
    names = Run(run).datamodule().class_names
    weights, bias = model.head.class_weights()
    for record in records:
        first, second = (names.index(record[key]["class"]) for key in ("explained", "runner_up"))
        for change in record["runner_up"]["would_tie"]:
            slope = float((weights[first] - weights[second])[change["feature"]].detach())
            moved = record["runner_up"]["lead"] + slope * (change["needed"] - change["value"])
            assert moved == pytest.approx(0, abs=1e-4)
            told += 1
    assert told > 0
    assert bias.shape == (3,)


def test_probabilities_are_those_of_the_logits_beside_them(run, photos, tmp_path, capsys):
    names = Run(run).datamodule().class_names
    _, records = explained(run, photos, tmp_path / "out", target=names[2], methods="none")
    lines = sentences(capsys)
    for record, line in zip(records, lines, strict=True):
        top, explained_, other = record["top"], record["explained"], record["runner_up"]
        assert {one["class"] for one in top} == set(names)  # all three of them
        assert top[0] == record["predicted"]
        assert [one["logit"] for one in top] == sorted((one["logit"] for one in top), reverse=True)
        total = sum(math.exp(one["logit"]) for one in top)
        for one in (*top, explained_, other):
            assert one["probability"] == pytest.approx(math.exp(one["logit"]) / total, rel=1e-4)
        assert other["class"] == next(one["class"] for one in top if one["class"] != names[2])
        assert f"{top[0]['class']} ({100 * top[0]['probability']:.1f} %)" in line


def test_more_pictures_than_a_batch_are_all_told(run, photos, tmp_path, monkeypatch):
    explained(run, photos, tmp_path / "whole", methods="cam")
    monkeypatch.setattr(pipelines.explain, "BATCH", 2)
    _, records = explained(run, photos, tmp_path / "parts", methods="cam")
    assert [record["name"] for record in records] == ["a.png", "b.jpg", "deeper/c.webp"]
    raw = [np.load(tmp_path / name / "maps.npz")["cam"] for name in ("whole", "parts")]
    np.testing.assert_allclose(raw[1], raw[0], rtol=1e-4, atol=1e-5)


def test_the_page_needs_nothing_but_itself(run, photos, tmp_path):
    page, records = explained(run, photos, tmp_path / "out", methods="cam,ig,gradcam")
    text = page.read_text()
    assert text.count("<article") == 3
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "http" not in text.replace("http-equiv", "")
    assert "nan" not in re.sub(r'data:image/[^"]+', "", text).lower()
    for record in records:
        assert set(record["methods"]) == {"cam", "integrated_gradients", "gradcam"}
        assert record["predicted"]["class"] in text.replace("_<wbr>", "_")


def test_names_of_files_and_classes_cannot_break_the_page(run, tmp_path):
    name = "<b>&'x.png"
    Image.new("RGB", (20, 20), (200, 30, 30)).save(tmp_path / name)
    page, _ = explained(run, tmp_path / name, tmp_path / "out", methods="none")
    assert "&lt;b&gt;&amp;" in page.read_text()
    assert "<b>&'x" not in page.read_text()


def test_a_class_can_be_asked_for_by_name_or_number(run, photos, tmp_path):
    names = Run(run).datamodule().class_names
    for target in (names[2], "2"):
        _, records = explained(run, photos, tmp_path / "out", target=target, methods=["gradcam"])
        assert {record["explained"]["class"] for record in records} == {names[2]}
        assert {record["methods"]["gradcam"]["target"] for record in records} == {names[2]}
        assert all(record["runner_up"]["class"] != names[2] for record in records)


def test_a_dense_stage_shows_the_strongest_and_sums_up_the_rest(run, photos, tmp_path):
    page, records = explained(run, photos, tmp_path / "out", stage="dense", features=3, methods="none")
    assert len(records[0]["contributions"]) == 64
    assert "61 other features" in page.read_text()


def test_by_default_it_lies_in_the_run(run, photos):
    assert explain(str(run), str(photos / "a.png"), methods="none") == run / "explain" / "index.html"


def test_bad_input_is_one_sentence_and_earlier_results_stay(run, photos, tmp_path):
    out = tmp_path / "out"
    page, _ = explained(run, photos, out, methods="none")
    before = page.read_text()
    (tmp_path / "d.png").write_bytes(b"no picture at all")
    with pytest.raises(UserError, match=r"d\.png cannot be read as an image"):
        explained(run, tmp_path / "d.png", out)
    with pytest.raises(UserError, match="there is no file or folder"):
        explained(run, tmp_path / "nowhere", out)
    with pytest.raises(UserError, match="there is no image in"):
        explained(run, run / "dense", out)
    with pytest.raises(UserError, match='no attribution method "camera"'):
        explained(run, photos, out, methods="camera")
    with pytest.raises(UserError, match=r"target: no class 'dodo'; give pred, 0 to 2"):
        explained(run, photos, out, target="dodo")
    with pytest.raises(UserError, match="no finished stage 'pruned'"):
        explained(run, photos, out, stage="pruned")
    with pytest.raises(UserError, match="not the folder of a run"):
        explained(tmp_path, photos, out)
    with pytest.raises(UserError, match="features must be"):
        explained(run, photos, out, features=0)
    assert page.read_text() == before


def test_files_are_found_in_order(photos):
    assert [path.name for path in find_images(photos)] == ["a.png", "b.jpg", "c.webp"]
    assert find_images(photos / "b.jpg") == [photos / "b.jpg"]
    (photos / "a.png").rename(photos / "A.PNG")  # as cameras write them
    assert [path.name for path in find_images(photos)] == ["A.PNG", "b.jpg", "c.webp"]
