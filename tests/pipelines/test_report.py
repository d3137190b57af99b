"""The report of a run: its numbers are those of the run and of the model, whatever kind of run it is."""

import json
import re
import shutil

import pytest
import torch

from handful.errors import UserError
from handful.explain.deciding import stored_weights
from pipelines import report as module
from pipelines.cli import main
from pipelines.finished_run import Run
from pipelines.report import report
from tests.helpers.finished_run import forget_digests
from tests.helpers.pipeline import tiny_config, write_config


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    return shutil.copytree(tiny_run.parent, tmp_path_factory.mktemp("report") / "tiny") / "run"


@pytest.fixture(scope="module")
def page(run):
    return (run / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def deciding(run):
    run = Run(run)
    loaded = run.load()
    return module._deciding(loaded, loaded.model, run)[0]


def test_a_pipeline_ends_with_its_report(page, run):
    stages = json.loads((run / "results.json").read_text())["stages"]
    for stage, row in stages.items():
        assert f'<th scope="row">{stage}</th><td>{row["accuracy"]:.2f}</td>' in page
    for heading in ("Stages", "Features", "Classes", "Training", "Regularisation path", "Configuration"):
        assert f"<h2>{heading}</h2>" in page
    assert "Trade-off" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_weights_are_those_of_the_checkpoint(deciding, run):
    state = torch.load(run / "finetune/best.ckpt", weights_only=True)["state_dict"]
    selection = state["model.head.selection"].tolist()
    for s, feature in enumerate(deciding.used):
        assert torch.equal(deciding.weights[:, s], state["model.head.weight"][:, selection.index(feature)])
    assert deciding.standardised
    counts = (state["model.head.weight"] != 0).sum(dim=0)
    assert sorted(deciding.used) == sorted(f for f, count in zip(selection, counts, strict=True) if count)
    dense = stored_weights(Run(run).load("dense").model.head)
    assert not dense[1]
    assert torch.equal(dense[0], Run(run).load("dense").model.head.class_weights()[0])


def test_pictures_are_those_where_the_feature_is_largest(deciding):
    chosen = deciding.strongest_images(3)
    assert list(chosen) == deciding.used
    for feature, indices in chosen.items():
        assert torch.equal(deciding.features[indices, feature], deciding.features[:, feature].topk(3).values)
        named = {deciding.names.index(name) for name in deciding.weights_of(feature)}
        assert named == set((deciding.model.head.class_weights()[0][:, feature] != 0).nonzero()[:, 0].tolist())


def test_the_map_beside_a_picture_is_that_features_own(deciding, run, monkeypatch):
    drawn = []
    monkeypatch.setattr("handful.explain.deciding.overlay", lambda image, values, **more: drawn.append(values))
    data = Run(run).datamodule()
    cards = deciding.cards(data.test_dataset, Run(run).inputs(), 2)
    assert [card.number for card in cards] == deciding.used
    chosen = deciding.strongest_images(2)
    with torch.no_grad():
        for place, feature in enumerate(deciding.used):
            images = torch.stack([data.test_dataset[index][0] for index in chosen[feature]])
            maps = deciding.model.feature_maps(images)[:, feature]
            torch.testing.assert_close(torch.stack(drawn[2 * place : 2 * place + 2]), maps)
    names = [name for _, _, name in cards[0].pictures]
    assert names == [deciding.names[int(deciding.labels[index])] for index in chosen[deciding.used[0]]]


def test_recognised_images_of_all_classes_are_the_accuracy(deciding, run):
    rows = deciding.classes()
    right = sum(row.accuracy / 100 * row.images for row in rows)
    accuracy = json.loads((run / "results.json").read_text())["stages"]["finetuned"]["accuracy"]
    assert 100 * right / sum(row.images for row in rows) == pytest.approx(accuracy, abs=1e-3)
    for label, row in enumerate(rows):
        wrong = deciding.predicted[(deciding.labels == label) & (deciding.predicted != label)]
        if len(wrong):
            assert row.mistaken[0] == deciding.names[int(wrong.mode().values)] or len(wrong.unique()) > 1
            assert row.mistaken[1] == pytest.approx(100 * int(wrong.bincount().max()) / row.images)
        else:
            assert row.mistaken is None


def test_a_run_of_a_dense_stage_alone_has_a_report(tmp_path):
    config = write_config(tmp_path, phases={"dense": tiny_config()["phases"]["dense"]})
    main(["pipeline", "--config", str(config), "--run_dir", str(tmp_path / "run"), "--phases.dense.max_epochs", "1"])
    text = (tmp_path / "run/report/index.html").read_text()
    assert "<h2>Classes</h2>" in text


def test_the_tradeoff_of_other_weights_is_left_out(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    main(["tradeoff", "--run_dir", str(copy), "--n_features", "2,3", "--features_per_class", "1"])
    assert "<h2>Trade-off</h2>" in report(str(copy)).read_text()
    again = ["pipeline", "--config", str(copy / "config.yaml"), "--run_dir", str(copy)]
    main([*again, "--start_at", "dense", "--seed", "1"])
    assert "<h2>Trade-off</h2>" not in (copy / "report/index.html").read_text()
    for content in ("{", "[]", '{"made_from": {}, "dense": {}, "sizes": 3}', "\x00"):
        (copy / "tradeoff/tradeoff.json").write_text(content)
        with pytest.warns(UserWarning, match=r"tradeoff\.json: not a record of tradeoff"):
            assert report(str(copy)).is_file()


def test_a_report_that_fails_is_told_and_costs_nothing_else(run, monkeypatch, capsys):
    def broken(content, folder):
        raise RuntimeError("no ink")

    monkeypatch.setattr(module, "write_report", broken)
    main(["pipeline", "--config", str(run.parent / "tiny.yaml"), "--run_dir", str(run)])
    assert "handful: warning: the report could not be written (RuntimeError: no ink)" in capsys.readouterr().err


def test_bad_input_is_one_sentence(tmp_path, run):
    with pytest.raises(UserError, match="not the folder of a run"):
        report(str(tmp_path))
    with pytest.raises(UserError, match="--images must be at least 1"):
        report(str(run), images=0)


def test_a_torn_record_of_the_sparse_layer_is_one_sentence(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    forget_digests(tmp_path / "run")
    record = tmp_path / "run" / "sparsify" / "layer.json"
    record.write_text(record.read_text()[:40])
    for content in (record.read_text(), "[]", "3", '{"density_before_cut": "x"}', '{"features_per_class": [1]}'):
        record.write_text(content)
        with pytest.raises(UserError, match=r"layer\.json: not a record of a sparse layer .* --start_at sparsify"):
            report(str(tmp_path / "run"))


def test_a_path_that_is_no_table_of_numbers_is_one_sentence(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    forget_digests(tmp_path / "run")
    table = tmp_path / "run" / "sparsify" / "path.csv"
    head, first, *rest = table.read_text().splitlines()
    for damaged in ([head, first.replace(first.split(",")[0], "x"), *rest], [head.replace("density", "d"), first]):
        table.write_text("\n".join(damaged))
        with pytest.raises(UserError, match=r"path\.csv: row 1 has no number in column \w+, .* --start_at sparsify"):
            report(str(tmp_path / "run"))


def test_features_say_what_they_follow_and_a_name_of_yours_appears_everywhere(run, tmp_path, deciding):
    feature = deciding.used[0]
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/names.csv").write_text(f"feature,name\n{feature},red <eye>\n")
    rows = [f"{name},{10 * place},{20 - 10 * place},50" for place, name in enumerate(deciding.names)]
    (tmp_path / "attributes.csv").write_text("\n".join(["class,large,small,same", *rows]))
    text = report(str(tmp_path / "run"), attributes=str(tmp_path / "attributes.csv")).read_text()
    varying = (deciding.features[:, deciding.used].std(dim=0) > 0).sum()
    assert len(re.findall(r"follows <b>(?:large|small)</b> r = \+\d\.\d\d", text)) == varying
    assert f'<section class="tile" id="feature-{feature}"><h3>red &lt;eye&gt; ({feature})</h3>' in text
    assert f'data-label="red &lt;eye&gt; ({feature})"' in text
    assert "<eye>" not in text
    assert re.search(r"lies on <b>\w+</b> \d+ %", text)
    for content, says in (("a,b\n1,2\n", "expected the columns"), ("feature,name\nx,y\n", "not a number of a feature"),
                          ("feature,name\n1,y\n1,z\n", "named twice")):  # fmt: skip
        (tmp_path / "run/names.csv").write_text(content)
        with pytest.raises(UserError, match=f"names.csv: .*{says}"):
            report(str(tmp_path / "run"))
