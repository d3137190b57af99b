"""`compare` of runs that do not quite belong together: one sentence, or a warning that says what is known."""

import json
import os
import shutil
import warnings

import pytest
import yaml

from handful.errors import UserError
from pipelines.compare import compare
from pipelines.finished_run import Run


@pytest.fixture
def copied(tiny_run, tmp_path):
    """Copies the run with changed results and data; the files of its phases are the same ones."""

    def copy(name, results=None, options=None):
        shutil.copytree(tiny_run, tmp_path / name, copy_function=lambda *paths: os.link(*paths))
        for file, read, write, change in (
            ("results.json", json.loads, json.dumps, results),
            ("config.yaml", yaml.safe_load, lambda found: yaml.safe_dump(found, sort_keys=False), options),
        ):
            path = tmp_path / name / file
            content = read(path.read_text())
            path.unlink()
            if change is not None:
                content = change(content)
            if content is not None:
                path.write_text(write(content))
        return str(tmp_path / name)

    return copy


def of_data(**changes):
    def change(results):
        kept = {key: value for key, value in results["data"].items() if changes.get(key, 0) is not None}
        return results | {"data": kept | {key: value for key, value in changes.items() if value is not None}}

    return change


def dense_alone(results):
    return results | {"stages": {"dense": results["stages"]["dense"]}}


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda results: None, "changed: no results yet; run its pipeline to the end"),
    (lambda results: results | {"stages": {}}, "changed: no results yet; run its pipeline to the end"),
    (lambda results: results | {"stages": {"plugin": {"bits": 1.0}}}, "no finished stage 'plugin'; there are"),
    (of_data(class_names=["x", "y", "z"]), "changed has other classes than"),
    (of_data(class_names=None, num_classes=77), "changed has other classes than"),
], ids=["unfinished", "empty", "stage", "classes", "number"])  # fmt: skip
def test_what_cannot_be_compared(change, sentence, copied, tiny_run, tmp_path):
    """Whichever comes first: of an unfinished run it was said that its classes are others."""
    other = copied("changed", change)
    for runs in ([str(tiny_run), other], [other, str(tiny_run)]):
        if "other classes" in sentence and runs[0] == other:
            continue
        with pytest.raises(UserError, match=sentence):
            compare(runs, out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_same_classes_in_another_order(copied, tiny_run, tmp_path):
    names = json.loads((tiny_run / "results.json").read_text())["data"]["class_names"]
    with pytest.raises(UserError, match="changed has the classes in another order than"):
        compare([str(tiny_run), copied("changed", of_data(class_names=names[::-1]))], out=str(tmp_path / "out"))


@pytest.mark.parametrize(("results", "option", "warning"), [
    (lambda results: {key: value for key, value in results.items() if key != "data"}, {}, "is not known"),
    (of_data(class_names=None), {}, "is not known"),
    (of_data(images={"train": 1, "test": 2}), {}, "different images .* cannot be compared"),
    (of_data(fingerprint="x"), {"difficulty": "hard"}, "other images .*difficulty hard, not .*: their accuracies say"),
    (of_data(fingerprint="x", test_images="x"), {"seed": 7}, r"other images than .* \(seed 7, not .*\): their"),
    (of_data(fingerprint="x", test_images="x"), {}, "has other images than .*run: their accuracies"),
    (of_data(fingerprint="x", test_images=None), {"seed": 7}, None),
    (of_data(fingerprint="x"), {"num_workers": 1, "batch_size": 3}, None),
    (dense_alone, {}, None),
], ids=["no data", "no names", "counts", "difficulty", "seed", "files", "earlier", "loaders", "dense"])  # fmt: skip
def test_what_is_compared_with_a_warning_or_without(results, option, warning, copied, tiny_run, tmp_path):
    def options(config):
        config["data"]["init_args"] = config["data"]["init_args"] | option
        return config

    other = copied("changed", results, options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compare([str(tiny_run), other], out=str(tmp_path / "out"))
    said = [str(one.message) for one in caught if "changed" in str(one.message)]
    assert len(said) == (warning is not None), said
    rows = json.loads((tmp_path / "out/comparison.json").read_text())["rows"]
    assert len(rows) == 2
    if warning is not None:
        with pytest.warns(UserWarning, match=warning):
            compare([str(tiny_run), other], out=str(tmp_path / "out"))


def test_a_stage_is_not_said_to_be_near_itself(copied):
    run = copied("changed")
    shutil.rmtree(f"{run}/finetune")
    with pytest.raises(UserError, match="no finished stage 'finetuned'") as caught:
        Run(run).phase_of("finetuned")
    assert "did you mean 'finetuned'" not in str(caught.value)
