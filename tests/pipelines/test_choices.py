"""What a config leaves to the images and the machine: settled, printed with its reason, overridden by options."""

import json
import re
import shutil

import pytest
import torch
import yaml
from PIL import Image

from handful.errors import UserError
from pipelines.cli import main
from pipelines.lightning_config import pipeline_config
from pipelines.parse import parse_pipeline
from pipelines.plan import _difference
from tests.helpers.pipeline import write_config

PHOTOS = "configs/sldd/photos.yaml"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of four images, without splits."""
    root = tmp_path_factory.mktemp("my photos!")
    for c in range(3):
        (root / f"class{c}").mkdir()
        for n in range(4):
            Image.new("RGB", (12, 12), (40 * n, 60 * c, 9)).save(root / f"class{c}" / f"{n}.png")
    return root


def test_a_picture_that_cannot_be_read_ends_a_run_before_it_has_a_folder(photos, tmp_path, capsys):
    """What the sentence advises works at once, without another folder or --start_at."""
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    (root / "class1" / "broken.jpg").write_bytes(b"")
    given = ["pipeline", "--config", write_config(tmp_path), "--data", "ImageFolder", "--data.root", root,
             "--data.image_size", "12", "--run_dir", tmp_path / "run"]  # fmt: skip
    with pytest.raises(SystemExit):
        main([str(argument) for argument in given])
    assert "leave it out with --data.unreadable skip" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_part_of_the_data_that_differs_is_named():
    one = json.dumps({"class_path": "datamodules.ImageFolder", "init_args": {"root": "a", "unreadable": "refuse"}})
    other = json.dumps({"class_path": "datamodules.ImageFolder", "init_args": {"root": "a", "unreadable": "skip"}})
    assert _difference(one, other) == 'unreadable "refuse", now "skip"'
    assert _difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a b 1, now 2"
    assert _difference(3, 5) == "3, now 5"


def chosen(*arguments):
    return parse_pipeline([*map(str, arguments)])[0]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_root_alone_is_enough(photos, capsys):
    pipeline = chosen("--data.root", photos)
    assert pipeline.network.backbone == "tf_efficientnet_lite0"
    assert pipeline.network.pretrained is True
    assert pipeline.data["init_args"]["image_size"] == 224
    assert pipeline.phases["dense"].max_epochs == 40
    assert pipeline.phases["finetune"].max_epochs == 60
    assert pipeline.phases["sparsify"].module["init_args"]["n_features"] == 10
    assert pipeline.name.startswith("my-photos")
    said = capsys.readouterr().out
    assert "3 classes, about 9 images to train on; no GPU" in said
    for option in ("--network.backbone tf_efficientnet_lite0", "--data.image_size 224",
                   "--phases.sparsify.module.n_features 10"):
        assert option in said


def test_what_is_printed_gives_the_same_run(photos, capsys):
    first = chosen("--data.root", photos)
    lines = capsys.readouterr().out.splitlines()[1:]
    options = [f"{line.split()[0]}={line.split()[1]}" for line in lines]
    assert chosen("--data.root", photos, *options) == first
    assert capsys.readouterr().out == ""  # nothing is left to be chosen


@pytest.mark.parametrize("as_option", ["--data.root={}", "--data.init_args.root={}"])
def test_any_way_of_naming_images(photos, as_option):
    assert chosen(as_option.format(photos)).network.backbone == "tf_efficientnet_lite0"


def test_a_table_of_labels_is_enough(photos, tmp_path):
    rows = [f"{photos}/class{n % 3}/{n // 3}.png,{'ab'[n % 2]}" for n in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    pipeline = chosen("--data.root", tmp_path / "labels.csv")
    assert pipeline.name == "labels"


def test_without_images_toy_birds_run():
    assert chosen().name == "quickstart"


def test_options_win_and_what_follows_from_them_follows(photos, capsys):
    pipeline = chosen("--data.root", photos, "--phases.dense.max_epochs", 6, "--network.backbone=resnet18",
                      "--phases.sparsify.module.init_args.n_features", 7, "--name", "mine")
    assert pipeline.phases["dense"].max_epochs == 6
    assert pipeline.phases["finetune"].max_epochs == 9
    assert pipeline.phases["sparsify"].module["init_args"]["n_features"] == 7
    assert (pipeline.network.backbone, pipeline.name) == ("resnet18", "mine")
    said = capsys.readouterr().out
    assert "--phases.dense.max_epochs" not in said
    assert "--network.backbone" not in said


def test_a_later_config_wins_and_may_leave_a_value_to_be_chosen(photos, tmp_path):
    (tmp_path / "a.yaml").write_text("network: {backbone: resnet18}\n")
    (tmp_path / "b.yaml").write_text("network: {backbone: auto}\n")
    names = [PHOTOS, tmp_path / "a.yaml"], [PHOTOS, tmp_path / "a.yaml", tmp_path / "b.yaml"]
    found = [chosen(*(f"--config={n}" for n in some), "--data.root", photos).network.backbone for some in names]
    assert found == ["resnet18", "tf_efficientnet_lite0"]


def test_an_option_may_leave_a_value_to_be_chosen(photos):
    pipeline = chosen("--config", "configs/quickstart.yaml", "--phases.sparsify.module.n_features", "auto",
                      "--phases.dense.max_epochs=auto")
    assert pipeline.phases["sparsify"].module["init_args"]["n_features"] == 16
    assert pipeline.phases["dense"].max_epochs == 18


@pytest.mark.parametrize("again", [["--phases.dense.max_epochs", "auto"], ["--phases.dense.max_epochs=auto"]])
def test_finetuning_follows_dense_training_in_whatever_order_they_are_settled(photos, again):
    pipeline = chosen("--data.root", photos, *again)
    assert (pipeline.phases["dense"].max_epochs, pipeline.phases["finetune"].max_epochs) == (40, 60)


def test_values_within_mappings_and_files_are_seen(photos, tmp_path, capsys):
    pipeline = chosen("--data.root", photos, "--network", '{"backbone": "tf_efficientnet_lite2"}')
    assert pipeline.network.backbone == "tf_efficientnet_lite2"
    assert pipeline.data["init_args"]["image_size"] == 260
    assert "--network.backbone" not in capsys.readouterr().out
    (tmp_path / "short.yaml").write_text("data: {image_size: 96}\n")
    pipeline = chosen("--config", PHOTOS, "--config", tmp_path / "short.yaml", "--data.root", photos)
    assert pipeline.data["init_args"]["image_size"] == 96
    assert "--data.image_size" not in capsys.readouterr().out
    (tmp_path / "network.yaml").write_text("backbone: auto\n")
    pipeline = chosen("--config", "configs/quickstart.yaml", "--network", tmp_path / "network.yaml")
    assert pipeline.network.backbone == "tf_efficientnet_lite0"


def test_labels_alone_are_enough(photos):
    rows = [f"class{n % 3}/{n // 3}.png,{'ab'[n % 2]}" for n in range(12)]
    (photos / "birds.csv").write_text("\n".join(["path,label", *rows]))
    try:
        pipeline = chosen("--data.labels", photos / "birds.csv")
        assert pipeline.name == "birds"
        assert pipeline.data["init_args"]["root"] == str(photos)
    finally:
        (photos / "birds.csv").unlink()


def test_a_run_that_has_begun_keeps_its_values(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("pipelines.photo_recipe.hub_has", lambda name: True)
    began = chosen("--data.root", photos, "--run_dir", tmp_path / "run", "--phases.dense.max_epochs", 4)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(pipeline_config(began)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    capsys.readouterr()
    resumed = chosen("--data.root", photos, "--run_dir", tmp_path / "run", "--phases.dense.max_epochs", 4)
    assert resumed == began
    assert resumed.network.backbone == "resnet50.tv_in1k"
    assert capsys.readouterr().out.count("kept from the start of this run") == 4
    other = chosen("--data.root", photos, "--run_dir", tmp_path / "run", "--phases.dense.max_epochs", 5)
    assert other.phases["finetune"].max_epochs == 6  # an option of one phase leaves the others as they began


def test_features_are_never_fewer_than_a_class_has(photos):
    pipeline = chosen("--data.root", photos, "--phases.sparsify.module.features_per_class", 12)
    assert pipeline.phases["sparsify"].module["init_args"]["n_features"] == 12


def test_text_that_looks_like_a_number_stays_text(photos, tmp_path):
    (tmp_path / "c.yaml").write_text('name: "007"\nnetwork: {backbone: auto}\n')
    assert chosen("--config", PHOTOS, "--config", tmp_path / "c.yaml", "--data.root", photos).name == "007"


def test_other_words_auto_stay_what_they_are(photos):
    pipeline = chosen("--data.root", photos, "--trainer.accelerator", "auto")
    assert pipeline.trainer["accelerator"] == "auto"
    assert pipeline.data["init_args"]["cache"] == "auto"


def test_on_a_gpu(photos, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("pipelines.photo_recipe.hub_has", lambda name: True)
    pipeline = chosen("--data.root", photos)
    assert pipeline.network.backbone == "resnet50.tv_in1k"
    assert "a GPU, and its ImageNet weights are available" in capsys.readouterr().out
    monkeypatch.setattr("pipelines.photo_recipe.hub_has", lambda name: False)
    monkeypatch.setattr("pipelines.photo_recipe.weights_at_hand", lambda name: "lite" in name)
    assert chosen("--data.root", photos).network.backbone == "tf_efficientnet_lite0"
    monkeypatch.setattr("pipelines.photo_recipe.hub_has", lambda name: True)
    assert chosen("--data.root", photos, "--trainer.accelerator", "cpu").network.backbone == "tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data.root", "nowhere"], "nowhere"),
        (["--data.root", "{photos}", "--network.backbone", "resnet81"], "timm knows no model 'resnet81'; did you mean"),
        (["--data.root", "{photos}", "--network.backbone", "conv4"], "conv4 has no published image size"),
        (["--data.root", "{photos}", "--phases.dense.max_epochs", "few"], "max_epochs"),
        (["--data.root", "{photos}/class0"], "class"),
    ],
)
def test_bad_input_is_one_sentence(photos, arguments, said):
    with pytest.raises(UserError, match=said):
        chosen(*(text.format(photos=photos) for text in arguments))


def test_the_template_holds_values_and_the_choices_stand_beside_it(photos, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "--data.root", str(photos), "--print_config"])
    printed = capsys.readouterr()
    assert ended.value.code == 0
    config = yaml.safe_load(printed.out)
    assert config["data"]["init_args"]["image_size"] == 224
    assert "--data.image_size 224" in printed.err


@pytest.mark.parametrize("root", [["--data.root", "nowhere"], []])
def test_a_template_needs_no_images(root, capsys):
    """The config then says `auto`, and is one that can be used."""
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "--config", PHOTOS, *root, "--phases.finetune.max_epochs", "7", "--print_config"])
    printed = capsys.readouterr()
    assert ended.value.code == 0
    config = yaml.safe_load(printed.out)
    assert config["data"]["init_args"]["image_size"] == config["name"] == config["network"]["backbone"] == "auto"
    assert config["phases"]["dense"]["max_epochs"] == "auto"
    assert config["phases"]["finetune"]["max_epochs"] == 7
    assert config["phases"]["sparsify"]["module"]["init_args"]["n_features"] == "auto"
    assert re.search(r"^handful: auto stays auto: data.root (nowhere|photos) does not exist", printed.err)


def test_a_template_of_a_config_that_is_wrong_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "--config", PHOTOS, "--data.root", "nowhere", "--phases.dense.betta", "7", "--print_config"])
    assert ended.value.code == 2
    assert "betta" in capsys.readouterr().err


def test_a_template_without_images_is_completed_by_them(photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["pipeline", "--config", PHOTOS, "--data.root", "nowhere", "--print_config"])
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert chosen("--config", tmp_path / "mine.yaml", "--data.root", photos) == chosen("--data.root", photos)
