"""`probe`: parts and regions, what is refused, the section of the report."""

import json

import pytest

from handful.errors import UserError
from pipelines.cli import main
from pipelines.finished_run import Run
from pipelines.probe import probe
from pipelines.report import report
from tests.helpers.finished_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two phases of random weights on toy birds."""
    folder = tmp_path_factory.mktemp("probe") / "run"
    folder.mkdir()
    write_run(folder)
    (folder / "results.json").write_text(json.dumps({"data": Run(folder).datamodule().summary()}))
    return folder


def read(path):
    return json.loads(path.read_text())


def test_every_part_and_the_section_of_the_report(run, capsys):
    main(["probe", "--run_dir", str(run), "--fill", "other"])
    record = read(run / "probe" / "probe.json")
    assert list(record["regions"]) == ["beak", "wing", "tail", "breast", "eye", "feet"]
    assert record["images"] == 6
    wing = record["regions"]["wing"]
    assert wing["images"] <= 6
    assert len(wing["classes"]) == 3
    means = [v[0] for v in wing["classes"].values() if v]
    assert min(means) <= wing["mean"]["score_change"] <= max(means)
    assert "falls most" in capsys.readouterr().out
    page = report(str(run)).read_text()
    assert ">Bias probe<" in page
    assert f"{wing['mean']['score_change']:+.3f}" in page
    (run / "probe" / "probe.json").write_text("[1]")
    with pytest.warns(UserWarning, match="not a record of probe"):
        assert ">Bias probe<" not in report(str(run)).read_text()


def test_a_region_that_is_everything_leaves_nothing_of_the_image(run, tmp_path):
    record = read(probe(str(run), region="0,0,1,1", stage="dense", out=str(tmp_path)))
    whole = record["regions"]["region"]
    assert whole["images"] == 6
    changed = read(probe(str(run), region=[0, 0, 0.5, 1], fill="blur", stage="dense", images=2, out=str(tmp_path)))
    assert changed["images"] == 2
    assert changed["regions"]["region"]["mean"] != whole["mean"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fill": "men"}, "--fill: mean, blur, other, not 'men'; did you mean 'mean'"),
        ({"region": "0,0,1"}, "--region: four numbers"),
        ({"region": "0.5,0,0.2,1"}, "--region: shares of the side"),
        ({"region": "0,0,1,nan"}, "--region: shares of the side"),
        ({"parts": "wings"}, "no masks of 'wings'; did you mean 'wing'"),
        ({"parts": "wing", "region": "0,0,1,1"}, "give one of them"),
        ({"masks": "nowhere"}, "nowhere: there is no such folder of masks"),
        ({"stage": "dnse"}, "no finished stage 'dnse'"),
        ({"images": 0}, "--images must be at least 1"),
    ],
)
def test_what_is_refused(run, tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        probe(**{"run_dir": str(run), "out": str(tmp_path / "new")} | arguments)
    assert not (tmp_path / "new").exists()
