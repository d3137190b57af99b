"""Copies of published data sets as they are found: tables damaged or saved again, folders beside or within others."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datamodules import (
    CIFAR10,
    CUB200,
    FGVCAircraft,
    ImageNet,
    NABirds,
    StanfordCars,
    TinyImageNet,
    TravelingBirds,
    locate,
)
from datamodules.cache import Cache
from datamodules.locate import Files
from datamodules.open_tree import open_tree
from handful.errors import UserError
from tests.datamodules import official_forms as forms
from tests.datamodules.test_changed_copies import known
from tests.datamodules.test_official import counts, made


def _write(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))


def _edit(name, change, encoding="utf-8"):
    def edit(home):
        path = next(home.rglob(name))
        _write(path, change(path.read_text()), encoding)

    return edit


# -- ImageNet's tables --------------------------------------------------------------------------------------------

SOLUTION, MAPPING, TRUTH = "LOC_val_solution.csv", "LOC_synset_mapping.txt", "ILSVRC2012_validation_ground_truth.txt"
SAVED_AGAIN = {
    "a byte order mark": _edit(SOLUTION, str, "utf-8-sig"),
    "UTF-16": _edit(SOLUTION, str, "utf-16"),
    "semicolons": _edit(SOLUTION, lambda text: text.replace(",", ";")),
    "columns in another order": _edit(
        SOLUTION, lambda text: "".join(",".join(line.split(",")[::-1]) + "\n" for line in text.splitlines())
    ),
    "empty lines": _edit(SOLUTION, lambda text: text.replace("\n", "\n\n")),
    "names with a byte order mark": _edit(MAPPING, str, "utf-8-sig"),
}


@pytest.mark.parametrize("name", SAVED_AGAIN)
def test_tables_of_imagenet_saved_by_editors(name, tmp_path):
    """Classes and labels are those of the official tables."""
    home = forms.write_imagenet(tmp_path, "kaggle")
    before = known(made(ImageNet, home))
    SAVED_AGAIN[name](home)
    assert known(made(ImageNet, home)) == before


def _mat(**content):
    return lambda home: savemat(next(home.rglob("meta.mat")), content)


def _packed_classes(home):
    shutil.rmtree(home / "train")
    for wnid in ("n01440764", "n01443537"):
        (home / "train").mkdir(exist_ok=True)
        (home / f"train/{wnid}.tar").write_bytes(b"x")


DAMAGED = {
    "a line that is cut": ("kaggle", _edit(SOLUTION, lambda text: text[:-25]), r"solution\.csv, line 5: no class of"),
    "no class": ("kaggle", _edit(SOLUTION, lambda text: text.replace(",n01443537 1 2 3 4", ",")), "no class of ILSVRC"),
    "another table": ("kaggle", _edit(SOLUTION, lambda text: "a,b\n"), "no columns ImageId and PredictionString"),
    "an empty table": ("kaggle", _edit(SOLUTION, lambda text: ""), "no columns ImageId and PredictionString"),
    "no text": ("kaggle", lambda home: next(home.rglob(MAPPING)).write_bytes(b"\xff\xfe\xff"), "is not text in UTF-8"),
    "a devkit that is cut": ("devkit", lambda home: next(home.rglob("meta.mat")).write_bytes(b"MATLAB 5.0"),
                             r"meta\.mat cannot be read as a MATLAB file"),
    "another devkit": ("devkit", _mat(other=1), r"meta\.mat has no synsets"),
    "synsets of another form": ("devkit", _mat(synsets=np.arange(3)), r"meta\.mat names no classes"),
    "labels that are none": ("devkit", _edit(TRUTH, lambda text: "a\n" + text), "line 1: 'a' is no class of"),
    "unknown labels": ("devkit", _edit(TRUTH, lambda text: text + "77\n"), "line 5: '77' is no class of"),
    "classes still packed": ("folders", _packed_classes, r"n01440764\.tar: the training images are still packed"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_tables_of_imagenet(name, tmp_path):
    """One sentence that names the file; these ended in tracebacks."""
    form, damage, said = DAMAGED[name]
    home = forms.write_imagenet(tmp_path, form)
    damage(home)
    with pytest.raises(UserError, match=said) as refused:
        _ = made(ImageNet, home).splits
    assert str(tmp_path) in str(refused.value)


def test_classes_of_imagenet_that_the_table_does_not_name(tmp_path):
    """It only names them, and other sets of ImageNet's classes have more: their WNID is their name."""
    home = forms.write_imagenet(tmp_path, "kaggle")
    before = counts(made(ImageNet, home))
    _edit(MAPPING, lambda text: text.splitlines()[0])(home)
    data = made(ImageNet, home)
    assert data.class_names == ["tench", "n01443537"]
    assert counts(data) == before


def test_unreadable_images_of_imagenet_cannot_be_passed_over(tmp_path):
    """They are not read beforehand; the option was taken and did nothing."""
    home = forms.write_imagenet(tmp_path)
    (home / "train/n01440764/n01440764_1.JPEG").write_bytes(b"no image")
    with pytest.raises(UserError, match="skip needs every image to be read beforehand"):
        _ = made(ImageNet, home, unreadable="skip").splits
    assert counts(made(ImageNet, home, unreadable="skip", cache=True)) == {"train": 5, "test": 4}


def test_kaggles_annotations_in_folders_of_the_same_names(tmp_path):
    """`Annotations/CLS-LOC/train` has no images; which folder was taken depended on the hash of its name."""
    home = forms.write_imagenet(tmp_path, "kaggle")
    for split in ("train", "val"):
        forms.lines(home / f"ILSVRC/Annotations/CLS-LOC/{split}/n01440764/a.xml", ["<annotation/>"])
    assert counts(made(ImageNet, home)) == {"train": 6, "test": 4}
    with pytest.raises(UserError, match=rf"{home} holds {SOLUTION}.*give it as data.root"):
        _ = made(ImageNet, home / "ILSVRC/Data/CLS-LOC").splits


@pytest.mark.parametrize(("kind", "write", "renamed"), [
    (ImageNet, forms.write_imagenet, {"val": "validation"}), (ImageNet, forms.write_imagenet, {"train": "Train"}),
    (TravelingBirds, forms.write_traveling_birds, {"train": "Training", "test": "TEST"})])  # fmt: skip
def test_folders_of_splits_called_otherwise(kind, write, renamed, tmp_path):
    """What stands for the split is read."""
    home = write(tmp_path / "sets")
    before = known(made(kind, home))
    for name, other in renamed.items():
        (home / name).rename(home / other)
    assert known(made(kind, home)) == before


def test_travelling_birds_beside_their_other_backgrounds(tmp_path):
    """The published archive holds other backgrounds too."""
    for name in ("CUB_black", "CUB_fixed", "CUB_random"):
        forms.write_traveling_birds(tmp_path / "one").rename(tmp_path / name)
    assert made(TravelingBirds, tmp_path).files.base == "CUB_fixed/"
    (tmp_path / "CUB_fixed").rename(tmp_path / "CUB_white")
    with pytest.raises(UserError, match=r"twice, in .*CUB_black/? and .*CUB_random/?: give that of TravelingBirds"):
        _ = made(TravelingBirds, tmp_path).splits


# -- CUB-200-2011 and NABirds -------------------------------------------------------------------------------------


def _segment(home, where):
    for image in sorted((home / "images").rglob("*.jpg")):
        mask = where / image.relative_to(home / "images").with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 20), 255).save(mask)


@pytest.mark.parametrize("above", [False, True])
def test_segmentations_and_attributes_beside_the_folder(above, tmp_path):
    """`segmentations.tgz` is an archive of its own; unpacked beside the folder, masks were missing in silence."""
    home = forms.write_cub(tmp_path / "sets")
    _segment(home, tmp_path / "sets/segmentations")
    shutil.move(home / "attributes", tmp_path / "sets/attributes")
    data = made(CUB200, tmp_path / "sets" if above else home)
    found = data.annotations("test")
    assert found.segmentation is not None
    assert found.segmentation.segmentation([0, 5]).all()
    assert found.attributes().names == list(forms.CUB_ATTRIBUTES)
    assert counts(data) == {"train": 6, "test": 6}
    assert "not in the tables" not in data.report


TABLES = {
    "boxes of CUB": (CUB200, forms.write_cub, lambda data: data.boxes()),
    "parts of CUB": (CUB200, forms.write_cub, lambda data: data.parts()),
    "boxes of aircraft": (FGVCAircraft, forms.write_aircraft, lambda data: data.boxes()),
    "boxes of Tiny ImageNet": (TinyImageNet, forms.write_tiny_imagenet, lambda data: data.boxes()),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_name_of_a_table_is_not_looked_up_for_every_line(name, tmp_path, monkeypatch):
    """It stands in messages alone; tables have up to half a million lines."""
    kind, write, read = TABLES[name]
    data = made(kind, write(tmp_path))
    asked = []
    shown = Files.shown
    monkeypatch.setattr(Files, "shown", lambda self, name="": asked.append(name) or shown(self, name))
    assert read(data)
    assert max(asked.count(one) for one in asked) <= 3  # as its lines are read, divided, and made numbers


def test_runs_know_cropped_images_from_those_before_boxes_were_turned(tmp_path):
    """The same files stood for other crops, where their EXIF tag turns them."""
    home = forms.write_cub(tmp_path)
    plain, cropped = (made(CUB200, home, crop_to_box=crop).contents() for crop in (False, True))
    assert cropped.endswith("-turned")
    assert not plain.endswith("-turned")


def test_a_folder_that_is_not_beside_is_looked_for_once(tmp_path, monkeypatch):
    """Not for the mask of every image; and a table anywhere is found without spelling every name anew."""
    data = made(CUB200, forms.write_cub(tmp_path))
    assert data.files.base == ""
    looked = []
    for ask in ("is_file", "is_dir"):
        real = getattr(Path, ask)
        monkeypatch.setattr(Path, ask, lambda self, real=real: looked.append(self) or real(self))
    assert [data.files.beside(f"segmentations/owl/{number}.png") for number in range(50)] == [None] * 50
    assert sum("segmentations" in str(path) for path in looked) == 1
    spelt = []
    real_name = locate.plain_name
    monkeypatch.setattr(locate, "plain_name", lambda path: spelt.append(path) or real_name(path))
    assert data.files.anywhere("Train_Test_Split.TXT") == "train_test_split.txt"
    assert len(spelt) == 2


@pytest.mark.parametrize("name", ["TABLE.csv", "table (1).csv", "table copy.csv", "table.csv (1)", "Table(2).CSV"])
def test_a_table_anywhere_under_other_spellings(name, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_text("x")
    (tmp_path / "other table.csv").write_text("x")
    assert Files(open_tree(tmp_path, Cache(tmp_path / "cache")), "").anywhere("table.csv") == f"deep/{name}"


@pytest.mark.parametrize(("content", "said"), [((12, 9), "has 12 × 9 pixels, where its picture has 40 × 20"),
                                               (None, "cannot be read as a mask")])  # fmt: skip
def test_masks_that_are_none(content, said, tmp_path):
    """A damaged one ended in a traceback, one of another shape lay somewhere on the picture."""
    home = forms.write_cub(tmp_path)
    _segment(home, home / "segmentations")
    data = made(CUB200, home)
    for path in (home / "segmentations").rglob("*.png"):
        Image.new("L", content, 255).save(path) if content else path.write_bytes(b"no image")
    with pytest.raises(UserError, match=said) as refused:
        data.annotations("test").segmentation.segmentation([0])
    assert str(tmp_path) in str(refused.value)
    for path in (home / "segmentations").rglob("*.png"):
        Image.new("L", (80, 40), 255).save(path)
    assert data.annotations("test").segmentation.segmentation([0]).all()


def _lines(name, rows):
    return lambda home: forms.lines(home / name, rows)


WRONG = {
    "boxes of no number": (CUB200, forms.write_cub, _lines("bounding_boxes.txt", ["1 nan 5 9 9"]),
                           "line 1: nan 5 9 9 are not numbers"),
    "parts without end": (CUB200, forms.write_cub, _lines("parts/part_locs.txt", ["1 1 inf 9 1"]),
                          "line 1: inf 9 1 are not numbers"),
    "labels of no number": (CUB200, forms.write_cub, _lines("image_class_labels.txt", [f"{n} x" for n in range(1, 13)]),
                            r"classes\.txt has no class x"),
    "attributes without name": (CUB200, forms.write_cub, _lines("../attributes.txt", ["1 ", "2"]),
                                r"attributes\.txt, line 1: 1 values where 2 belong"),
    "attributes that are neither": (CUB200, forms.write_cub,
                                    _edit("image_attribute_labels.txt", lambda text: text.replace("1 1 0", "1 1 7")),
                                    "line 1: 7 where 0 or 1 belongs"),
    "a hierarchy in a circle": (NABirds, forms.write_nabirds, _lines("hierarchy.txt", ["1 2", "2 1", "817 2", "900 1"]),
                                "leads in a circle from the class 2"),
    "a class without a group": (NABirds, forms.write_nabirds, _lines("hierarchy.txt", ["1 0", "2 1", "817 2"]),
                                "says no group of the class 900"),
    "an unknown group": (NABirds, forms.write_nabirds, _lines("hierarchy.txt", ["1 0", "2 1", "817 2", "900 55"]),
                         "line 4: there is no class 55"),
    "boxes that end early": (FGVCAircraft, forms.write_aircraft,
                             _lines("data/images_box.txt", [f"{n:07d} 11 6 40 25" for n in range(5)]),
                             r"no box of .*0000006\.jpg"),
    "an image twice": (FGVCAircraft, forms.write_aircraft,
                       _edit("images_variant_test.txt", lambda text: text + text.splitlines()[0]),
                       r"0000008\.jpg is named twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_tables_that_say_nothing_useful_are_refused(name, tmp_path):
    """Before, they ended in tracebacks, or in whole pictures as boxes and attributes of 7."""
    kind, write, damage, said = WRONG[name]
    home = write(tmp_path)
    damage(home)
    with pytest.raises(UserError, match=said) as refused:
        known(made(kind, home))
    assert str(tmp_path) in str(refused.value)


def test_boxes_that_hold_nothing_are_warned_of(tmp_path):
    """The whole picture is taken in their place."""
    home = forms.write_cub(tmp_path)
    forms.lines(home / "bounding_boxes.txt", [f"{n} 10 5 {-3 if n == 2 else 20} 10" for n in range(1, 13)])
    with pytest.warns(UserWarning, match=r"1 boxes of CUB-200-2011 hold nothing, such as that of images/001"):
        assert made(CUB200, home).annotations("test").boxes.boxes([0]).tolist() == [[0.0, 0.0, 8.0, 8.0]]


# -- Stanford Cars ------------------------------------------------------------------------------------------------


def _devkit_within(home):
    (home / "car_devkit").mkdir()
    shutil.move(home / "devkit", home / "car_devkit/devkit")


def _moved(name, to):
    def move(home):
        (home / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(home / name, home / to)

    return move


LABELS = "cars_test_annos_withlabels"
PLACES = {
    "the devkit in its archive's folder": (forms.write_cars, _devkit_within),
    "labels of the test in a folder": (forms.write_cars, _moved(f"{LABELS}.mat", f"more/{LABELS}.mat")),
    "labels downloaded twice": (forms.write_cars, _moved(f"{LABELS}.mat", f"{LABELS} (1).mat")),
    "the single table among the images": (forms.write_cars_single, _moved("cars_annos.mat", "car_ims/cars_annos.mat")),
    "the single table beside the folder": (forms.write_cars_single, _moved("cars_annos.mat", "../cars_annos.mat")),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_tables_of_cars_in_other_places(name, tmp_path):
    """Mirrors put them wherever they please."""
    write, move = PLACES[name]
    home = write(tmp_path / "sets")
    before = known(made(StanfordCars, home))
    move(home)
    assert known(made(StanfordCars, home.parent)) == before


@pytest.mark.parametrize("boxes", [True, False])
def test_cars_in_class_folders(boxes, tmp_path):
    """The copy without the authors' tables, by its folders; boxes from the tables beside them."""
    names = ("AM General Hummer SUV 2000", "Ram C-V Cargo Van Minivan 2012")
    for split in ("train", "test"):
        rows = []
        for label, name in enumerate(names):
            for n in range(2):
                file = f"{10 * label + n:05d}.jpg"
                seed = 10 * label + n + 100 * (split == "test")
                forms.picture(tmp_path / "car_data/car_data" / split / name / file, (40, 20), seed)
                rows.append(f"{file},3,2,30,18,{label + 1}")
        if boxes:
            forms.lines(tmp_path / f"anno_{split}.csv", rows)
    data = made(StanfordCars, tmp_path)
    assert data.class_names == list(names)
    assert counts(data) == {"train": 4, "test": 4}
    found = data.annotations("test").boxes
    assert (found is not None) == boxes
    if boxes:
        assert found.boxes([0])[0].tolist() == pytest.approx([0.0, 0.4, 8.0, 7.2])


# -- the others ---------------------------------------------------------------------------------------------------


def test_tiny_imagenet_without_its_inner_folders(tmp_path):
    """Scripts move the images; boxes follow by name, where they were whole pictures."""
    home = forms.write_tiny_imagenet(tmp_path, val_in_folders=True)
    before = known(made(TinyImageNet, home))
    for folder in [*home.glob("train/*/images"), *home.glob("val/n*/images")]:
        for path in list(folder.iterdir()):
            path.rename(folder.parent / path.name)
        folder.rmdir()
    data = made(TinyImageNet, home)
    assert known(data) == before
    assert data.annotations("train").boxes.boxes([0]).tolist() == [[0.0, 1.25, 8.0, 7.375]]


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda text: text + text.splitlines()[0] + "\n", "wnids.txt: the class n[0-9]+ is named twice"),
    (lambda text: text + "\0\0\n", "wnids.txt: a line is no class; the file seems to be damaged"),
], ids=["twice", "zeros"])  # fmt: skip
def test_classes_of_tiny_imagenet_that_are_none(change, sentence, tmp_path):
    """Of a class named twice it was said that it has no image."""
    home = forms.write_tiny_imagenet(tmp_path)
    _edit("wnids.txt", change)(home)
    with pytest.raises(UserError, match=sentence):
        counts(made(TinyImageNet, home))


def test_tiny_imagenet_sorted_in_part(tmp_path):
    """Validation images that a script has not reached yet are of the table's class."""
    home = forms.write_tiny_imagenet(tmp_path)
    before = counts(made(TinyImageNet, home))
    (home / "val/n01443537/images").mkdir(parents=True)
    (home / "val/images/val_0.JPEG").rename(home / "val/n01443537/images/val_0.JPEG")
    assert counts(made(TinyImageNet, home)) == before


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("text", [str, str.encode])
def test_cifar_pickled_again(protocol, text, tmp_path):
    """By any protocol, with keys of text or of bytes."""
    home = tmp_path / "cifar-10-batches-py"
    home.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    for batch in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        content = {text("labels"): list(range(10)), text("data"): pixels, text("batch_label"): text(batch)}
        (home / batch).write_bytes(pickle.dumps(content, protocol=protocol))
    names = {text("label_names"): [text(f"class {n}") for n in range(10)], text("num_vis"): 3072}
    (home / "batches.meta").write_bytes(pickle.dumps(names, protocol=protocol))
    data = made(CIFAR10, home, image_size=32)
    assert data.class_names[3] == "class 3"
    assert data.splits["train"].labels.tolist() == 5 * list(range(10))
    assert data.splits["test"].pixels(7).flatten().tolist() == pixels[7].tolist()
