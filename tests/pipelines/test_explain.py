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
from handful.attribution import Attribution, attribute, contributions
from handful.attribution.contributions import Contributions
from handful.errors import UserError
from handful.images.pictures import Pictures, find_images
from handful.networks.classifier import Classifier
from handful.networks.heads import SparseHead
from handful.report.overlays import overlay
from pipelines.explain import SIDE, _changes, _Explainer, _told, explain
from pipelines.runs import Run
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
    lines = capsys.readouterr().out.splitlines()
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
    lines = capsys.readouterr().out.splitlines()
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


def test_the_changes_told_are_the_smallest_in_standard_deviations():
    head = SparseHead(5, 2, 4)
    weight = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    head.fill(torch.tensor([4, 0, 2, 1]), torch.zeros(4), torch.tensor([8.0, 0.1, 1, 2]), weight, torch.zeros(2))
    features = torch.full((1, 5), 9.0, dtype=torch.float64)
    parts = Contributions(
        classes=torch.tensor([0]), runner_up=torch.tensor([1]), logits=torch.zeros(1, 2), features=features,
        weights=torch.tensor([[2.0, 0.5, 1, 0, 4]], dtype=torch.float64), other_weights=torch.zeros(1, 5),
        bias=torch.tensor([-60.5], dtype=torch.float64), other_bias=torch.zeros(1), maps=features[:, :, None, None],
    )  # fmt: skip
    assert float(parts.margin) == 7  # 3.5 of 0 is 35 deviations, 14 of 1 more than there is, 7 of 2 is 7, 1.75 of 4 0.2
    told = _changes(parts, 0, Classifier(torch.nn.Identity(), head))
    assert [change["feature"] for change in told] == [4, 2, 0]
    assert [change["needed"] for change in told] == pytest.approx([7.25, 2, 5.5])
    assert all(change["value"] == 9 for change in told)


def test_each_image_is_told_its_own_numbers():
    found = Attribution(
        torch.zeros(2, 3, 3), "lime", torch.tensor([1, 0]), torch.tensor([2.0, 3.0]), None, torch.zeros(2, 2), (3, 3),
        completeness=torch.tensor([0.25, 0.5]), notes={"r2": torch.tensor([0.75, 0.125]), "baseline": "mean"},
    )  # fmt: skip
    told = {"title": "LIME", "target": "wren", "score": 3, "completeness": 0.5, "r2": 0.125, "baseline": "mean"}
    assert _told(found, 1, ["wren", "robin"]) == told


@pytest.fixture
def explainer(run):
    def make(target=None, seed=0, methods=("cam", "integrated_gradients", "smoothgrad")):
        found, data = Run(run), Run(run).inputs()
        return _Explainer(found.load("finetune").model.eval(), data, methods, target, 2, seed)

    return make


def work(at_work, photos, size):
    """Records, pictures and raw maps of all photos, `size` at a time."""
    done, raw = [], []
    for batch in Pictures(photos, at_work.data).batches(size, "", SIDE):
        done += at_work.explain(batch)
        raw.append(at_work.raw)
    maps = {name: np.concatenate([part[name] for part in raw]) for name in raw[0]}
    return [record for record, _ in done], [drawn for _, drawn in done], maps


def test_a_pictures_page_does_not_depend_on_those_beside_it(explainer, photos):
    together, pictures, maps = work(explainer(), photos, 3)
    alone, other_pictures, other_maps = work(explainer(), photos, 1)
    for name, raw in maps.items():
        np.testing.assert_allclose(other_maps[name], raw, rtol=1e-3, atol=1e-4)
    for one, other in zip(pictures, other_pictures, strict=True):
        for kind in ("features", "lead", "methods"):
            assert getattr(one, kind).keys() == getattr(other, kind).keys()
            for key, image in getattr(one, kind).items():
                apart = np.abs(np.asarray(image).astype(int) - np.asarray(getattr(other, kind)[key]))
                assert apart.mean() < 1, (kind, key)
        assert np.array_equal(one.image, other.image)
    for one, other in zip(together, alone, strict=True):
        for method, told in one["methods"].items():
            numbers = {key: value for key, value in told.items() if isinstance(value, float)}
            expected = {key: other["methods"][method][key] for key in numbers}
            assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert "score" in numbers


def test_pictures_are_of_the_features_and_methods_they_are_named_after(explainer, photos):
    at_work = explainer()
    _, pictures, _ = work(at_work, photos, 3)
    batch = next(Pictures(photos, at_work.data).batches(3, "", SIDE))
    shown, images = batch.shown, batch.images
    parts = contributions(at_work.model, images)
    cam = attribute(at_work.model, images, method="cam")
    for row, drawn in enumerate(pictures):
        assert list(drawn.features) == parts.strongest(row, 2).tolist()
        assert set(drawn.lead) | set(drawn.repeated) <= set(parts.strongest_lead(row, 2).tolist())
        assert int(parts.strongest_lead(row)[0]) in {*drawn.lead, *drawn.repeated}
        for feature in drawn.repeated:  # no picture twice
            assert np.array_equal(
                drawn.features[feature], overlay(shown[row], parts.lead_map_of(row, feature), True, SIDE)
            )
        for feature, image in drawn.features.items():
            values = parts.weights[row, feature] * parts.maps[row, feature]
            assert np.array_equal(image, overlay(shown[row], values, True, SIDE))
        for feature, image in drawn.lead.items():
            values = (parts.weights - parts.other_weights)[row, feature] * parts.maps[row, feature]
            assert np.array_equal(image, overlay(shown[row], values, True, SIDE))
        assert np.array_equal(drawn.methods["cam"], overlay(shown[row], cam.map()[row], True, SIDE))


def test_random_numbers_belong_to_the_seed_and_the_pictures_name(explainer, photos):
    shutil.copy(photos / "a.png", photos / "b.png")
    first, named_otherwise, seeded_otherwise = (
        work(explainer(seed=seed, methods=["smoothgrad"]), photos / f"{name}.png", 1)[2]["smoothgrad"]
        for seed, name in ((0, "a"), (0, "b"), (1, "a"))
    )
    assert not np.array_equal(first, named_otherwise)
    assert not np.array_equal(first, seeded_otherwise)


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
    with pytest.raises(UserError, match=r"--target: no class 'dodo'; give pred, 0 to 2"):
        explained(run, photos, out, target="dodo")
    with pytest.raises(UserError, match="no finished stage 'pruned'"):
        explained(run, photos, out, stage="pruned")
    with pytest.raises(UserError, match="not the folder of a run"):
        explained(tmp_path, photos, out)
    with pytest.raises(UserError, match="--features"):
        explained(run, photos, out, features=0)
    assert page.read_text() == before


def test_files_are_found_in_order(photos):
    assert [path.name for path in find_images(photos)] == ["a.png", "b.jpg", "c.webp"]
    assert find_images(photos / "b.jpg") == [photos / "b.jpg"]
    (photos / "a.png").rename(photos / "A.PNG")  # as cameras write them
    assert [path.name for path in find_images(photos)] == ["A.PNG", "b.jpg", "c.webp"]
