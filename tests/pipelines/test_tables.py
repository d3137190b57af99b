"""The cells of the papers' tables: what their configs say; `test_recipes.py` runs them."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from handful.errors import UserError
from pipelines.cli import main
from pipelines.configs import read_config, read_configs
from pipelines.parse import parse_pipeline
from pipelines.seeds import parse_seeds, summarise
from tests.datamodules import official_forms as forms
from tests.helpers.pipeline import ROOT, without_reports, write_config
from tests.pipelines.test_recipes import CELLS


def test_cells_differ_only_in_what_differs():
    """Cells of one row of networks share everything but data and name; of one column everything but the network."""
    for cell in CELLS:
        _, content = read_config(ROOT / f"configs/sldd/{cell}.yaml")
        recipe = read_config(ROOT / "configs/sldd/recipe.yaml")[1]
        auxiliary = content["phases"]["dense"]["module"]["init_args"].pop("auxiliary", None)
        assert (auxiliary is not None) == cell.endswith("inception_v3")
        assert content["phases"] == recipe["phases"]
        own = {"class_path", "root", "remove_banner"}
        shared = {key: value for key, value in content["data"]["init_args"].items() if key not in own}
        assert shared == {key: value for key, value in recipe["data"]["init_args"].items() if key not in own}
        assert cell.endswith(content["network"]["backbone"].removesuffix(".tv_in1k"))


def test_published_numbers_have_a_config_each():
    """The paper's numbers stand beside the configs that measure them."""
    lines = (ROOT / "configs/sldd/published.csv").read_text().splitlines()
    cells = {f"{data}_{net}" for _, data, net, *_ in (line.split(",") for line in lines[1:])}
    assert cells == set(CELLS)
    assert all(len(line.split(",")) == 9 for line in lines)


@pytest.mark.parametrize("row", [[], ["without_l_div"], ["mcl"]])
def test_rows(row):
    """L_div, none, and the mutual-channel loss in its place."""
    files = [ROOT / "configs/sldd/cub200_resnet50.yaml", *(ROOT / f"configs/sldd/{name}.yaml" for name in row)]
    pipeline, _ = parse_pipeline([part for file in files for part in ("--config", str(file))])
    dense = pipeline.phases["dense"].module["init_args"]
    betas = {name: pipeline.phases[name].module["init_args"]["beta"] for name in ("dense", "finetune", "finetune_all")}
    assert set(betas.values()) == {0.0 if row else 0.196}
    assert (dense.get("mutual_channel") is not None) == (row == ["mcl"])


@pytest.mark.parametrize("row", ["without_l_div", "mcl"])
@pytest.mark.parametrize("base", ["quickstart", "sldd/photos", "qsenn/photos", "qpm/photos", "chiqpm/photos"])
def test_rows_of_other_pipelines(base, row, tmp_path):
    """The rows' files go behind any pipeline, whatever its phases of finetuning are called."""
    for split in ("train", "test"):
        for k in range(6):
            forms.picture(tmp_path / f"photos/{split}/{'ab'[k % 2]}/{k}.jpg", (8, 8), k + 10 * (split == "test"))
    more = [] if base == "quickstart" else ["--data.root", str(tmp_path / "photos")]
    files = [ROOT / f"configs/{base}.yaml", ROOT / f"configs/sldd/{row}.yaml"]
    pipeline, _ = parse_pipeline([*(part for file in files for part in ("--config", str(file))), *more])
    options = {name: phase.module.get("init_args", {}) for name, phase in pipeline.phases.items()}
    assert len([name for name in options if name.startswith("finetune")]) == (4 if base.startswith("qsenn") else 1)
    assert {found["beta"] for found in options.values() if "beta" in found} == {0.0}
    assert (options["dense"]["mutual_channel"] is not None) == (row == "mcl")


def test_every_loss_trains(tmp_path, capsys):
    """The rows' files on a whole pipeline: what is logged is the loss that was asked for."""
    rows = {"without_l_div": set(), "mcl": {"train/mutual_channel_loss"}}
    for row, logged in rows.items():
        files = [write_config(tmp_path), ROOT / f"configs/sldd/{row}.yaml"]
        arguments = [str(part) for file in files for part in ("--config", file)]
        once = [part for name in ("dense", "finetune") for part in (f"--phases.{name}.max_epochs", "1")]
        with without_reports():
            main(["pipeline", *arguments, *once, "--run_dir", str(tmp_path / row)])
        columns = (tmp_path / row / "dense/metrics.csv").read_text().splitlines()[0].split(",")
        assert {name for name in columns if "mutual" in name} == logged


def test_every_config_is_run_or_is_a_part():
    """No recipe of these folders is forgotten."""
    run = {f"sldd/{cell}" for cell in CELLS} | {"sldd/without_l_div", "sldd/mcl", "sldd/imagenet_resnet50"}
    run |= {f"{method}/reference_resnet50" for method in ("qpm", "chiqpm", "qsenn")} | {"filters/imagenet_resnet50"}
    run |= {f"filters/cifar10_resnet{depth}" for depth in (20, 32, 44, 56)}
    run |= {"plugin/stl10_resnet50", "plugin/cifar10_resnet20", "plugin/cub_protonet", "plugin/cub_protonet_resnet50"}
    found = {f"{file.parent.name}/{file.stem}" for file in (ROOT / "configs").glob("*/*.yaml")
             if file.parent.name in ("sldd", "qpm", "chiqpm", "qsenn", "plugin", "filters")}  # fmt: skip
    elsewhere = {"sldd/recipe", "sldd/photos", "sldd/photos_frozen", "sldd/cifar10_resnet20", "filters/last_layer",
                 "filters/toy_birds", "plugin/quickstart", "plugin/learning", "plugin/after_quickstart"}  # fmt: skip
    elsewhere |= {f"{method}/{name}" for method in ("qpm", "chiqpm", "qsenn") for name in ("photos", "quickstart")}
    elsewhere |= {"qpm/photos_frozen", "filters/photos", "filters/imagenet_lite0", "plugin/photos"}
    elsewhere |= {f"{method}/photos_adapter" for method in ("sldd", "qpm", "chiqpm", "qsenn")}
    assert found - elsewhere == run


# -- seeds --------------------------------------------------------------------------------------------------------


def test_several_seeds_give_mean_and_spread(tmp_path, capsys):
    """One command, a run for each seed, and a file of means that are those of the runs."""
    config = write_config(tmp_path)
    arguments = ["pipeline", "--config", str(config), "--seeds", "3,5", "--run_dir", str(tmp_path / "runs")]
    with without_reports():
        main([*arguments, "--phases.dense.max_epochs", "1", "--phases.finetune.max_epochs", "1"])
    record = json.loads((tmp_path / "runs/seeds.json").read_text())
    single = [json.loads((tmp_path / f"runs/seed_{seed}/results.json").read_text())["stages"] for seed in (3, 5)]
    found = record["stages"]["dense"]["accuracy"]
    values = [stages["dense"]["accuracy"] for stages in single]
    assert record["seeds"] == [3, 5]
    assert found["values"] == values
    assert found["mean"] == pytest.approx(sum(values) / 2)
    assert single[0]["dense"]["loss"] != single[1]["dense"]["loss"]
    assert "±" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", "1,,2", "1,1", "a", "-1", "1.5", "²"])
def test_seeds_that_are_none(given):
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(given)


def test_spread_of_one_seed_and_of_what_is_no_number():
    """One seed has no spread; a measure that one seed lacks has no mean."""
    found = summarise({0: {"dense": {"accuracy": 50.0, "loss": None}}})
    assert found == {"dense": {"accuracy": {"mean": 50.0, "sd": None, "values": [50.0]}}}
    assert summarise({0: {"d": {"a": 1.0}}, 1: {"d": {"a": 3.0}}})["d"]["a"]["sd"] == pytest.approx(2**0.5)


# -- configs that extend others -----------------------------------------------------------------------------------


def test_extends(tmp_path):
    """Mappings are merged, the file itself last; paths start at its folder; lists replace."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/a.yaml").write_text("seed: 1\nphases: {dense: {max_epochs: 1, callbacks: [x, y]}}\n")
    (tmp_path / "parts/b.yaml").write_text("extends: a.yaml\nphases: {dense: {max_epochs: 2}}\n")
    (tmp_path / "c.yaml").write_text("extends: [parts/b.yaml]\nname: c\nphases: {dense: {callbacks: [z]}}\n")
    text, content = read_config(tmp_path / "c.yaml")
    assert content == {"seed": 1, "phases": {"dense": {"max_epochs": 2, "callbacks": ["z"]}}, "name": "c"}
    assert yaml.safe_load(text) == content


def test_phases_of_a_pattern(tmp_path):
    """A name with a star stands for the phases below, of what a file extends and of the configs before it."""
    (tmp_path / "base.yaml").write_text("phases: {dense: {max_epochs: 1}, tune: {max_epochs: 1}, tune_all: {x: 1}}\n")
    (tmp_path / "row.yaml").write_text("phases: {tune*: {max_epochs: 2}}\n")
    (tmp_path / "own.yaml").write_text("extends: [base.yaml, row.yaml]\nphases: {tune_all: {max_epochs: 3}}\n")
    (tmp_path / "above.yaml").write_text("extends: row.yaml\nphases: {'*': {data: {a: 1}}, dense: {data: {a: 2}}}\n")
    (tmp_path / "plain.yaml").write_text("phases: {tune: {}, tune_all: {}}\n")
    assert read_configs([tmp_path / "own.yaml"])[0].content["phases"] == {
        "dense": {"max_epochs": 1}, "tune": {"max_epochs": 2}, "tune_all": {"x": 1, "max_epochs": 3}
    }  # fmt: skip
    found = read_configs([tmp_path / "base.yaml", tmp_path / "above.yaml"])[1]
    assert yaml.safe_load(found.text) == found.content
    assert found.content["phases"] == {
        "tune": {"max_epochs": 2, "data": {"a": 1}},
        "tune_all": {"max_epochs": 2, "data": {"a": 1}},
        "dense": {"data": {"a": 2}},
    }
    assert read_configs([tmp_path / "plain.yaml", tmp_path / "row.yaml"])[1].content["phases"]["tune"] == {
        "max_epochs": 2
    }
    (tmp_path / "other.yaml").write_text("phases: {tun_*: {max_epochs: 2}}\n")
    for files, said in ((["base", "other"], "'tun_*'; there are dense, tune, tune_all; did you mean 'tune'?"),
                        (["row", "base"], "'tune*'; it belongs behind a pipeline's config")):  # fmt: skip
        with pytest.raises(UserError, match=re.escape(said)):
            read_configs([tmp_path / f"{name}.yaml" for name in files])


def test_a_config_through_a_pipe_is_read_once(tmp_path):
    """What a shell makes of <(command): a second reader would find it empty."""
    reader, writer = os.pipe()
    os.write(writer, write_config(tmp_path).read_bytes())
    os.close(writer)
    pipeline, _ = parse_pipeline(["--config", f"/dev/fd/{reader}"])
    os.close(reader)
    assert list(pipeline.phases) == ["dense", "sparsify", "finetune", "evaluate"]


BAD = {
    "in a circle": ("b.yaml", "extends: a.yaml\n", "extends a.yaml, which extends it in turn"),
    "itself": ("x.yaml", "", "extends"),
    "no such file": ("none.yaml", "", "there is no file"),
    "a number": (3, "", "extends is a file or a list of files, not 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_extends_what_it_cannot(name, tmp_path):
    """One sentence that names the file."""
    named, content, sentence = BAD[name]
    (tmp_path / "a.yaml").write_text(f"extends: {'a.yaml' if name == 'itself' else named}\n")
    (tmp_path / "b.yaml").write_text(content)
    with pytest.raises(UserError, match=re.escape(sentence)) as refused:
        read_config(tmp_path / "a.yaml")
    assert str(Path(tmp_path)) in str(refused.value)
