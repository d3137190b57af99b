"""The cells of the papers' tables: every config starts and runs every phase on a small copy of its data set."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from handful.errors import UserError
from pipelines.cli import main
from pipelines.configs import read_config
from pipelines.parse import parse_pipeline
from pipelines.seeds import parse_seeds, summarise
from tests.datamodules import official_forms as forms
from tests.helpers.pipeline import ROOT, write_config

SETS = {
    "cub200": forms.write_cub,
    "fgvc_aircraft": forms.write_aircraft,
    "nabirds": forms.write_nabirds,
    "stanford_cars": forms.write_cars,
}
CELLS = [f"{data}_{net}" for data in SETS for net in ("resnet50", "densenet121", "inception_v3")]


def calm_weights(backbone, file):
    """A file of random weights under timm's names, of which evaluation after two steps gives finite features."""
    import timm

    net = timm.create_model(backbone.split(".")[0], num_classes=3)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(net.state_dict(), file)
    return file


def two_steps(config, root, run, *more):
    """Arguments that shorten a cell to two steps of every phase on a small copy, from random weights."""
    _, content = read_config(ROOT / "configs" / config)
    phases = content["phases"]
    weights = calm_weights(content["network"]["backbone"], root.parent / "weights.pth")
    trained = [name for name, phase in phases.items() if phase.get("max_epochs")]
    arguments = [
        "pipeline", "--config", ROOT / "configs" / config, *more,
        "--data.root", root, "--data.complete", "false", "--data.image_size", "96", "--data.batch_size", "2",
        "--data.num_workers", "0", "--network.pretrained", "false", "--init_from", weights,
        "--wandb.mode", "disabled", "--run_dir", run,
        "--phases.sparsify.module.n_features", "6", "--phases.sparsify.module.features_per_class", "2",
        # of maps of one pixel in batches of two, gradients are huge
        "--trainer.gradient_clip_val", "0.01", "--trainer.limit_train_batches", "2",
        "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
        *(part for name in trained for part in (f"--phases.{name}.max_epochs", "1")),
    ]  # fmt: skip
    return [str(argument) for argument in arguments]


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


@pytest.mark.nightly
@pytest.mark.parametrize("cell", CELLS)
def test_two_steps_of_every_phase(cell, tmp_path):
    """Every cell of the tables, from the official form on disk to five columns."""
    home = next(write for data, write in SETS.items() if cell.startswith(data))(tmp_path / "data")
    main(two_steps(f"sldd/{cell}.yaml", home, tmp_path / "run"))
    stages = json.loads((tmp_path / "run/results.json").read_text())["stages"]
    assert list(stages) == ["dense", "sparse_all", "finetuned_all", "sparse", "finetuned"]


@pytest.mark.nightly
@pytest.mark.parametrize("row", ["without_l_div", "mcl"])
def test_two_steps_of_every_row(row, tmp_path):
    """The other rows, of one cell."""
    home = forms.write_cub(tmp_path / "data")
    more = ["--config", ROOT / f"configs/sldd/{row}.yaml"]
    main(two_steps("sldd/cub200_resnet50.yaml", home, tmp_path / "run", *more))
    assert len(json.loads((tmp_path / "run/results.json").read_text())["stages"]) == 5


# -- seeds --------------------------------------------------------------------------------------------------------


def test_several_seeds_give_mean_and_spread(tmp_path, capsys):
    """One command, a run for each seed, and a file of means that are those of the runs."""
    config = write_config(tmp_path)
    arguments = ["pipeline", "--config", str(config), "--seeds", "3,5", "--run_dir", str(tmp_path / "runs")]
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
