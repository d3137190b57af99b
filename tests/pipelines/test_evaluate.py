"""`evaluate`: the numbers of the run itself, unknown names, what cannot be measured, earlier files."""

import json
import re
import shutil

import pytest
import yaml
from PIL import Image

from handful.errors import UserError
from pipelines.cli import main
from pipelines.evaluate import evaluate
from pipelines.finished_run import Run
from pipelines.measures import measures
from pipelines.report import report
from tests.helpers.finished_run import write_run


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """A run of all phases on toy birds."""
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("evaluate") / "run")


def read(path):
    return json.loads(path.read_text())


def test_every_stage_is_measured_and_agrees_with_the_results_of_the_run(run, tmp_path, capsys):
    main(["evaluate", "--run_dir", str(run), "--measures", "diversity,dependence", "--out", str(tmp_path)])
    record = read(tmp_path / "measures.json")
    stages = read(run / "results.json")["stages"]
    assert list(record["stages"]) == list(stages) == ["dense", "sparse", "finetuned"]
    for stage, row in record["stages"].items():
        for name in ("diversity@2", "dependence"):
            assert row[name] == pytest.approx(stages[stage][name], abs=6e-5), (stage, name)
    assert record["images"] == 15
    assert set(record["made_from"]) == {"dense", "sparsify", "finetune"}
    printed = capsys.readouterr().out
    assert "dependence ↓" in printed
    assert "diversity@5 ↑" in printed
    assert "measures.json" in printed


def test_an_unknown_measure_lists_the_known_ones_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="no measure 'dependance'; did you mean 'dependence'") as refusal:
        evaluate(str(tmp_path / "nowhere"), "diversity,dependance")
    assert all(name in str(refusal.value) for name in measures())


def test_the_measures_of_features_on_birds(run, tmp_path):
    record = read(evaluate(str(run), out=str(tmp_path)))
    assert not record["left_out"]
    assert {"sid", "class_independence", "alignment", "structural_grounding", "plausibility"} <= set(record["measures"])
    for row in record["stages"].values():
        assert 0 <= row["plausibility"] <= 1
        assert row["alignment"] > 0
    followed = record["details"]["sparse"]["alignment"]["features"]
    assert len(followed) == json.loads((run / "results.json").read_text())["stages"]["sparse"]["n_features"]
    assert all(":" in row["attribute"] for row in followed)


def test_the_report_shows_what_was_measured_of_these_weights(run):
    path = evaluate(str(run), "dependence,alignment,filters,tree,graph")
    record = read(path)
    page = report(str(run)).read_text()
    assert ">Measures<" in page
    assert f"{record['stages']['finetuned']['dependence']:.4g}" in page
    followed = record["details"]["finetuned"]["alignment"]["features"][0]["attribute"]
    decisions = record["details"]["finetuned"]["decision_tree"]["decisions"]
    for decision in decisions:
        assert decision["start"] + sum(decision["contributions"].values()) == pytest.approx(decision["probability"])
    assert 0 <= record["stages"]["finetuned"]["tree_fidelity"] <= 1
    nodes = record["details"]["finetuned"]["explanatory_graph"]["nodes"]
    assert {node["feature"] for node in nodes} <= set(range(16))
    assert all(0 < share <= 1 for node in nodes for share in node["parts"].values())
    top, *below = record["details"]["finetuned"]["explanatory_graph"]["layers"]
    assert (top["name"], top["nodes"]) == ("feature maps", nodes)
    assert below
    for number, layer in enumerate(below, start=1):
        assert layer["name"].startswith("backbone.")
        assert 0 <= record["stages"]["finetuned"][f"explained, layer {number}"] <= 1
        above = record["details"]["finetuned"]["explanatory_graph"]["layers"][number - 1]["nodes"]
        assert all(0 <= link["parent"] < len(above) for node in layer["nodes"] for link in node["links"])
    assert followed in page
    assert "Single features, finetuned" in page
    path.write_text(json.dumps(record | {"made_from": {"dense": "0" * 16}}))
    assert ">Measures<" not in report(str(run)).read_text()
    for broken in ("{", "[]", json.dumps(record | {"stages": {"dense": {"dependence": "x"}}})):
        path.write_text(broken)
        with pytest.warns(UserWarning, match="not a record of evaluate"):
            assert ">Measures<" not in report(str(run)).read_text()
    path.unlink()


def test_an_attribute_that_no_class_has_often_names_no_feature(run, tmp_path):
    names = Run(run).datamodule().class_names
    file = tmp_path / "attributes.csv"
    rare = [f"{name},{20 if place == 0 else 0},{90 if place == 0 else 5}" for place, name in enumerate(names)]
    file.write_text("\n".join(["class,rare,often", *rare]))
    record = read(evaluate(str(run), "alignment", "dense", attributes=str(file), out=str(tmp_path)))
    followed = record["details"]["dense"]["alignment"]["features"]
    assert followed
    assert {row["attribute"] for row in followed} == {"often"}


def test_sets_and_measures_read_every_stage_once(run, tmp_path, monkeypatch, capsys):
    """And the sets know the classes' attributes; the table says how many sets are empty."""
    loaded, load = [], Run.load
    monkeypatch.setattr(Run, "load", lambda self, stage=None: (loaded.append(stage), load(self, stage))[1])
    evaluate(str(run), "dependence", conformal=0.6, out=str(tmp_path))
    assert loaded == ["dense", "sparse", "finetuned"]
    found = read(tmp_path / "conformal.json")["stages"]["finetuned"]["thr"]
    assert set(read(tmp_path / "measures.json")["stages"]) == set(loaded)
    assert 0 <= found["coverage"] <= 1
    said = capsys.readouterr().out
    row = re.split(r"  +", next(line for line in said.splitlines() if re.match(r" +finetuned +thr ", line)).strip())
    heads = re.split(r"  +", next(line for line in said.splitlines() if "empty %" in line).strip())
    assert row[heads.index("empty %")] == f"{100 * found['empty']:.1f}"


def test_some_stages_and_some_images(run, tmp_path):
    path = evaluate(str(run), "dependence", "sparse", images=4, out=str(tmp_path))
    record = read(path)
    assert list(record["stages"]) == ["sparse"]
    assert record["images"] == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"stages": "sprase"}, "no finished stage 'sprase'"),
        ({"images": 0}, "--images must be at least 1"),
        ({"masks": "nowhere", "measures": "plausibility"}, "nowhere: there is no such folder of masks"),
    ],
)
def test_what_is_refused_leaves_the_earlier_file_whole(run, tmp_path, arguments, sentence):
    evaluate(str(run), "dependence", out=str(tmp_path))
    before = (tmp_path / "measures.json").read_bytes()
    with pytest.raises(UserError, match=sentence):
        evaluate(**{"run_dir": str(run), "measures": "dependence", "out": str(tmp_path)} | arguments)
    assert (tmp_path / "measures.json").read_bytes() == before


def test_the_run_is_left_as_it_was(run, tmp_path):
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    evaluate(str(run), "features", out=str(tmp_path))
    assert files == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_without_annotations_the_measure_is_named_and_left_out(tmp_path, capsys):
    for label in ("owl", "wren"):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for number in range(2):
                colour = (40 * number, 200 if label == "owl" else 20, 90 if split == "test" else 30)
                Image.new("RGB", (16, 16), colour).save(tmp_path / "photos" / split / label / f"{number}.png")
    (tmp_path / "run").mkdir()
    run = write_run(tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] = {
        "class_path": "ImageFolder",
        "init_args": {
            "root": str(tmp_path / "photos"), "image_size": 16, "val_fraction": 0.0, "normalisation": "imagenet",
        },
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    path = evaluate(str(run), "dependence,plausibility")
    assert path == run / "measures" / "measures.json"
    record = read(path)
    assert list(record["measures"]) == ["dependence"]
    assert "--masks FOLDER" in record["left_out"]["plausibility"]
    assert "left out: plausibility: needs masks of the object" in capsys.readouterr().out
