"""A person's pictures in `explain` and `predict`: folders as they come, bad files, true classes, odd arguments."""

import csv
import json
import os
import re
import tracemalloc

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import handful
import pipelines.explain_files
from datamodules.base import HandfulDataModule
from handful.errors import UserError, did_you_mean
from handful.images import Inputs, Pictures, find_images
from handful.report.prediction_table import prediction_columns, prediction_rows, said_accuracy
from lightning_modules import load_module, save_module
from pipelines.array_files import GrowingArrays
from pipelines.cli import main
from pipelines.errors import run_command
from pipelines.explain import explain
from pipelines.finished_run import Run
from pipelines.predict import predict
from tests.helpers.finished_run import forget_digests, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def draw(path, seed=0, size=(20, 18)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Eight good pictures in nested folders, four bad ones, and what systems leave beside them."""
    photos = tmp_path / "photos"
    for number in range(6):
        draw(photos / f"{number}.png", number)
    draw(photos / "deep/deeper/6.jpg", 6)
    draw(photos / "deep/7.WEBP", 7)
    (photos / "cut.png").write_bytes((photos / "0.png").read_bytes()[:200])
    (photos / "text.jpg").write_text("<html>not found</html>")
    (photos / "empty.png").touch()
    (photos / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for clutter in ("._0.png", ".DS_Store", "Thumbs.db", "__MACOSX/._0.png", "@eaDir/0.png", "readme.txt"):
        (photos / clutter).parent.mkdir(exist_ok=True)
        (photos / clutter).write_bytes(b"clutter")
    (photos / "round").symlink_to(photos)
    return photos


def test_bad_pictures_are_listed_together_and_the_rest_is_explained(run, folder, tmp_path, capsys):
    page = explain(str(run), str(folder), methods="cam", out=str(tmp_path / "out"))
    record = json.loads((tmp_path / "out/explain.json").read_text())
    expected = [f"{n}.png" for n in range(6)] + ["deep/7.WEBP", "deep/deeper/6.jpg"]
    assert [image["name"] for image in record["images"]] == expected
    assert set(record["unreadable"]) == {"cut.png", "text.jpg", "empty.png", "gone.png"}
    assert np.load(tmp_path / "out/maps.npz")["cam"].shape[0] == 8
    heard = capsys.readouterr().err
    assert "4 of 12 image files" in heard
    for name in record["unreadable"]:
        assert heard.count(f"{name} cannot be read") == 1
        assert f"{name} cannot be read" in page.read_text()


@pytest.mark.parametrize("kept_in", ["results", "checkpoint"])
def test_a_model_of_deep_pictures_knows_their_white(tmp_path, capsys, kept_in):
    """`data.white` was known in training alone: `predict` and `explain` asked for an option that they do not have."""
    run = write_run(tmp_path)
    facts = {"class_names": ["a", "b", "c"], "image_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3, "fit": "crop"}
    if kept_in == "results":
        (run / "results.json").write_text(json.dumps({"data": {**facts, "white": 1000.0}, "stages": {}}))
    (tmp_path / "deep").mkdir()
    values = np.random.default_rng(0).integers(0, 1001, (16, 16))
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "deep/x.tif")
    inputs = Inputs(*facts.values(), 1000.0)
    if kept_in == "results":
        forget_digests(run)
        predict(str(run), str(tmp_path / "deep"), out=str(tmp_path / "out"))
        assert (tmp_path / "out/predictions.csv").read_text().count("x.tif") == 1
    else:
        model = handful.load(run / "finetune/best.ckpt")
        model.inputs = inputs
        handful.save(model, tmp_path / "model.ckpt")
        model = handful.load(tmp_path / "model.ckpt")
        assert model.inputs == inputs
        found = model.predict([tmp_path / "deep/x.tif", Image.open(tmp_path / "deep/x.tif")]).probabilities
        assert torch.equal(found[0], found[1])
        assert handful.explain(model, tmp_path / "deep/x.tif", methods="none").prediction.name in "abc"


def test_larger_pictures_can_be_allowed(run, tmp_path, capsys):
    draw(tmp_path / "photos/a.png", size=(60, 50))
    given = {"run_dir": str(run), "images": str(tmp_path / "photos"), "out": str(tmp_path / "out")}
    for command in (predict, explain):
        with pytest.raises(UserError, match="allow more with max_megapixels"):
            command(**given, max_megapixels=0.002)
        command(**given, max_megapixels=0.003)
        with pytest.raises(UserError, match="max_megapixels: 0 lies outside"):
            command(**given, max_megapixels=0)


def test_bad_pictures_do_not_stop_predict_either(run, folder, tmp_path, capsys):
    path = predict(str(run), str(folder), out=str(tmp_path / "out"), batch_size=3)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows][-2:] == ["deep/7.WEBP", "deep/deeper/6.jpg"]
    assert len(rows) == 8
    names = Run(run).datamodule().class_names
    assert list(rows[0]) == ["image", "predicted", "probability", *names]
    for row in rows:
        shares = [float(row[name]) for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == names[int(np.argmax(shares))]
    heard = capsys.readouterr()
    assert "4 of 12 image files" in heard.err
    assert "accuracy" not in heard.out


def test_a_folder_without_a_readable_picture_is_refused_and_nothing_is_written(run, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    out = tmp_path / "out"
    with pytest.raises(UserError, match="there is no image in"):
        explain(str(run), str(photos), out=str(out))
    (photos / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"no image in .*; its only file, notes\.txt, is none$"):
        predict(str(run), str(photos), out=str(out))
    for name in "abc":
        (photos / f"{name}.png").write_text("no picture")
    for command in (explain, predict):
        with pytest.raises(UserError, match=r"a\.png cannot be read as an image.* Nor can the other 2"):
            command(str(run), str(photos), out=str(out))
    assert not out.exists()


def test_predicting_pictures_gives_what_the_data_module_gives(run, tmp_path):
    """The test images written as files: the same pixels, the same probabilities to the last digit."""
    data = Run(run).datamodule()
    dataset = data.test_dataset
    for number, label in enumerate(dataset.labels.tolist()):
        pixels = dataset.split.pixels(number).permute(1, 2, 0).numpy()
        file = tmp_path / "photos" / data.class_names[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    pictures = Pictures(tmp_path / "photos", Run(run).inputs())
    batch = next(pictures.batches(6, ""))
    order = [int(file.stem) for file in batch.files]
    assert torch.equal(batch.images, torch.stack([dataset[number][0] for number in order]))
    assert batch.labels == [int(dataset.labels[number]) for number in order]


def test_folders_that_are_classes_give_the_true_class(run, tmp_path, capsys):
    names = Run(run).datamodule().class_names
    for number in range(4):
        draw(tmp_path / f"photos/{names[number % 2]}/{number}.png", number)
    draw(tmp_path / "photos/else/9.png", 9)
    with predict(str(run), str(tmp_path / "photos"), out=str(tmp_path)).open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows[f"{names[1]}/1.png"]["true"] == names[1]
    assert rows["else/9.png"]["true"] == rows["else/9.png"]["correct"] == ""
    right = [row["predicted"] == row["true"] for row in rows.values() if row["true"]]
    assert [row["correct"] for row in rows.values() if row["true"]] == ["yes" if one else "no" for one in right]
    assert f"accuracy {25 * sum(right):.2f} %" in capsys.readouterr().out
    page = explain(str(run), str(tmp_path / "photos" / names[0]), methods="none", out=str(tmp_path / "out"))
    records = json.loads((tmp_path / "out/explain.json").read_text())["images"]
    assert {record["true"] for record in records} == {names[0]}
    assert all(record["correct"] == (record["predicted"]["class"] == names[0]) for record in records)
    assert page.read_text().count("True class: <b>") == 2
    assert "on the 2 pictures" in capsys.readouterr().out


def test_accuracy_of_the_pictures_whose_class_is_known():
    assert said_accuracy([None, None], ["owl", "wren"]) == []
    (sentence,) = said_accuracy(["owl"] * 3 + ["wren", None], ["owl"] * 5)
    assert sentence == "accuracy 75.00 %, balanced 50.00 %, on the 4 pictures whose folder names their class"


def test_a_class_called_like_a_column_keeps_its_own():
    assert prediction_columns(["image", "true", "owl"], False)[3:] == ["class image", "class true", "owl"]
    rows = list(prediction_rows(["a"], ["x", "y"], torch.tensor([[0.9, 0.1]]), [None]))
    assert rows == [["a", "x", "0.900000", "", "", "0.900000", "0.100000"]]


def test_many_pictures_are_divided_over_pages_and_an_earlier_rest_is_removed(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines.explain_files, "ON_A_PAGE", 3)
    out = tmp_path / "out"
    explain(str(run), str(folder), methods="cam", out=str(out))
    pages = sorted(path.name for path in out.iterdir())
    names = ["index-1.html", "index-2.html", "index-3.html"]
    assert pages == ["explain.json", *names, "index.html", "maps.npz"]
    texts = [(out / name).read_text() for name in names]
    assert [text.count("<article") for text in texts] == [3, 3, 2]
    links = [re.findall(r'<a href="([^"#]+)"', text) for text in texts]
    assert links == [["index.html", names[1]], ["index.html", names[0], names[2]], ["index.html", names[1]]]
    index = (out / "index.html").read_text()
    addresses = re.findall(r'<a href="([^"]+)">', index)
    assert addresses == [f"{names[place // 3]}#{place % 3}" for place in range(8)]
    assert index.count("<img") == 8
    (out / "index-me.html").write_text("a person's own")
    explain(str(run), str(folder / "0.png"), methods="cam", out=str(out))
    assert sorted(path.name for path in out.iterdir()) == ["explain.json", "index-me.html", "index.html", "maps.npz"]


def test_an_explanation_that_fails_leaves_the_earlier_one_whole(run, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    explain(str(run), str(folder / "0.png"), methods="cam", out=str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real = GrowingArrays.append

    def full(self, name, values):
        if self._shapes.get(name, (0,))[0] == 3:
            raise OSError(28, "No space left on device", "maps")
        real(self, name, values)

    monkeypatch.setattr(GrowingArrays, "append", full)
    with pytest.raises(OSError, match="No space"):
        explain(str(run), str(folder), methods="cam", out=str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_memory_does_not_grow_with_the_pictures(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines.explain_files, "ON_A_PAGE", 8)
    draw(tmp_path / "few/0.png")
    for number in range(48):
        (tmp_path / "many").mkdir(exist_ok=True)
        os.link(tmp_path / "few/0.png", tmp_path / f"many/{number:02}.png")
    for number in range(1, 16):
        os.link(tmp_path / "few/0.png", tmp_path / f"few/{number:02}.png")
    peaks = []
    for name in ("few", "few", "many"):  # the first fills caches
        tracemalloc.start()
        explain(str(run), str(tmp_path / name), methods="cam", features=1, out=str(tmp_path / "out"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]


def test_growing_arrays_are_read_as_numpy_writes_them(tmp_path):
    (tmp_path / "draft").mkdir()
    arrays = GrowingArrays(tmp_path / "draft")
    values = {"a": np.arange(24, dtype=np.float32).reshape(4, 2, 3), "b": np.arange(4, dtype=np.int64)}
    for part in (slice(0, 1), slice(1, 4)):
        for name, array in values.items():
            arrays.append(name, array[part])
    with pytest.raises(ValueError, match="appended to"):
        arrays.append("a", np.zeros((1, 3, 3), np.float32))
    arrays.write(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        assert {name: found[name].tolist() for name in found} == {k: v.tolist() for k, v in values.items()}
        assert found["a"].dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"features": -3}, "features must be at least 1, not -3"),
        ({"seed": -1}, "seed: a whole number from 0"),
        ({"seed": 2**70}, "seed: a whole number from 0"),
        ({"methods": "gradcan"}, "did you mean 'gradcam'"),
        ({"methods": ["cam", "IG_"]}, "did you mean 'ig'"),
        ({"stage": "finetun"}, "no finished stage 'finetun'"),
        ({"target": "-1"}, "no class '-1'"),
        ({"target": "²"}, "no class '²'"),
        ({"target": "perd"}, "did you mean 'pred'"),
        ({"images": "no\0where"}, "no file or folder"),
        ({"images": "x" * 5000}, "no file or folder"),
        ({"out": "y" * 300}, "--out: .* cannot be written to"),
        ({"out": "no\0where"}, "--out: .* cannot be written to"),
    ],
)
def test_odd_arguments_end_in_a_sentence(run, folder, tmp_path, arguments, sentence):
    given = {"images": str(folder), "out": str(tmp_path / "out"), "methods": "none"} | arguments
    with pytest.raises(UserError, match=sentence):
        explain(str(run), **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [explain, predict])
def test_a_file_in_place_of_the_output_folder_is_refused_before_the_work(run, folder, tmp_path, command):
    (tmp_path / "out").write_text("a person's own")
    for out in ("out", "out/below"):
        with pytest.raises(UserError, match=r"--out: .*out"):
            command(str(run), str(folder), out=str(tmp_path / out))
    assert (tmp_path / "out").read_text() == "a person's own"


def test_names_that_are_not_utf8_long_or_full_of_signs_are_explained(run, tmp_path, capsys):
    photos = tmp_path / "photos"
    draw(photos / "a.png")
    names = [b"\xff\xfe.png", b"x" * 240 + b".png", b"$x_1$ <b>.png", b"new\nline.png", "Käuzchen 🦉.png".encode()]
    for name in names:
        os.link(photos / "a.png", os.fsencode(photos) + b"/" + name)
    explain(str(run), str(photos), methods="cam", out=str(tmp_path / "out"))
    records = json.loads((tmp_path / "out/explain.json").read_text(encoding="utf-8"))["images"]
    assert len(records) == 6
    assert r"\xff\xfe.png" in {record["name"] for record in records}
    assert "&lt;b&gt;" in (tmp_path / "out/index.html").read_text(encoding="utf-8")
    with predict(str(run), str(photos), out=str(tmp_path / "out")).open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 6


def test_a_network_that_gives_no_numbers_explains_and_predicts_nothing(tmp_path, folder):
    broken = write_run(tmp_path)
    module = load_module(broken / "finetune/best.ckpt")
    module.model.head.bias.fill_(float("nan"))
    save_module(module, broken / "finetune/best.ckpt")
    forget_digests(broken)  # as a training that went astray left it
    with pytest.raises(UserError, match=r"logits of 8 of 8 images, 0\.png the first, are not finite"):
        explain(str(broken), str(folder), out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="not finite numbers"):
        predict(str(broken), str(folder), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_links_that_lead_back_are_followed_once(folder):
    assert len(find_images(folder)) == 12
    assert find_images(folder / "0.png") == [folder / "0.png"]


def test_a_picture_without_an_ending_is_known_by_its_content(folder):
    (folder / "0.png").rename(folder / "photograph")
    assert folder / "photograph" in find_images(folder)


def test_the_nearest_name():
    assert did_you_mean("Cam", ["ig", "cam"]) == "; did you mean 'cam'?"
    assert did_you_mean("", ["ig", "cam"]) == did_you_mean("zzzz", []) == ""


def test_predict_of_pictures_on_the_command_line(run, folder, tmp_path, capsys):
    main(["predict", "--run_dir", str(run), "--images", str(folder), "--phase", "dense", "--out", str(tmp_path / "o")])
    assert f"written to {tmp_path / 'o' / 'predictions.csv'}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--run_dir", str(run), f"--images={tmp_path / 'none'}"])
    assert ended.value.code == 2
    assert "--images: there is no file or folder" in capsys.readouterr().err


def test_an_error_in_a_loader_process_is_one_sentence(run, tmp_path, capsys, monkeypatch):
    """A picture that was whole when it was checked and is damaged when a loader process reads it."""
    photos = tmp_path / "photos"
    for split in ("train", "test"):
        for number, name in enumerate(("a", "b", "c")):
            for image in range(3):
                draw(photos / split / name / f"{image}.png", 100 * image + 10 * number + (split == "test"))
    arguments = [
        "predict", "--ckpt_path", str(run / "dense/best.ckpt"),
        "--data.class_path", "ImageFolder", "--data.init_args.root", str(photos),
        "--data.init_args.image_size", "16", "--data.init_args.cache", "false", "--data.init_args.num_workers", "1",
        "--data.init_args.val_fraction", "0.34", "--trainer.accelerator", "cpu", "--trainer.logger", "false",
        "--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false",
        "--model.class_path", "Dense", "--model.init_args.network.backbone", "cifar_resnet20",
    ]  # fmt: skip
    real = HandfulDataModule.setup

    def setup(self, stage=None):
        real(self, stage)
        (photos / "test/b/1.png").write_bytes(b"damaged since")

    monkeypatch.setattr(HandfulDataModule, "setup", setup)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    heard = capsys.readouterr().err
    assert "1.png cannot be read as an image" in heard.splitlines()[-1]
    assert "Traceback" not in heard


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("data", None, "data names no class"),
        ("data", "photos", "data names no class"),
        ("network", "resnet", "network is not a description"),
        ("phases", {"dense": 3}, r"phases\.dense is not a phase"),
        ("phases", {"dense": {}}, r"phases\.dense\.module names no class"),
        ("phases", {"dense": {"module": "Dense"}}, r"phases\.dense\.module names no class"),
        ("phases", {1: {"module": {"class_path": "Dense"}}}, r"line \d+: the key 1 is a number"),
        ("phases", {"dense": {"module": {"class_path": "Dense", "init_args": [1]}}}, r"phases\.dense\..*init_args are"),
    ],
)
def test_a_config_of_a_run_that_holds_something_else_is_one_sentence(tmp_path, folder, part, value, sentence):
    broken = write_run(tmp_path)
    config = yaml.safe_load((broken / "config.yaml").read_text())
    config[part] = value
    (broken / "config.yaml").write_text(yaml.safe_dump(config))
    for command in (explain, predict):
        with pytest.raises(UserError, match=rf"config\.yaml: {sentence}"):
            command(str(broken), str(folder))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class_names": "abc"}, "class_names must be a list of names"),
        ({"class_names": []}, "class_names must be a list of names"),
        ({"image_size": "16"}, "image_size must be a number of pixels up to 8192, not '16'"),
        ({"image_size": True}, "image_size must be a number"),
        ({"mean": [0.5]}, r"mean must be a list of three numbers, not \[0.5\]"),
        ({"std": [0.5, None, 0.5]}, "std must be a list of three numbers"),
        ({"std": [0.5, 0, 0.5]}, "std must be above 0"),
        ({"mean": [0.5, float("nan"), 0.5]}, "mean must be a list of three numbers"),
    ],
)
def test_inputs_that_results_cannot_mean_are_one_sentence(change, sentence):
    record = {"class_names": ["a", "b"], "image_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert Inputs.from_record(record, "results.json").image_size == 16
    with pytest.raises(UserError, match=f"^results.json: {sentence}"):
        Inputs.from_record(record | change, "results.json")


def test_a_stage_that_is_misspelt_is_named(run, folder):
    with pytest.raises(UserError, match=r"no finished stage 'finetun'.*; did you mean 'finetune"):
        predict(str(run), str(folder), phase="finetun")


class Own(torch.utils.data.Dataset):
    """A person's own data set, whose error reaches the command from a loader process with a traceback."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError("photos/3.raw cannot be read")


def test_an_error_of_a_data_set_of_ones_own_is_one_sentence_too(capsys):
    loader = torch.utils.data.DataLoader(Own(), num_workers=1)
    with pytest.raises(SystemExit):
        run_command(lambda: list(loader))
    assert capsys.readouterr().err == "handful: photos/3.raw cannot be read\n"
