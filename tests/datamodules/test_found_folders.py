"""Folders, archives and tables of a person's own images as people keep them: read as they are meant, or refused."""

import gzip
import zipfile

import pytest

from datamodules.image_folder import ImageFolder
from handful.errors import UserError
from tests.datamodules.fakes import write_images
from tests.datamodules.test_label_table import ROWS, data, found, table

# -- names of splits ----------------------------------------------------------------------------------------------

SPLITS = [
    ("train_images", "val_images", "test_images"), ("train-set", "dev-set", "test-set"),
    ("TrainData", "ValData", "TestData"), ("1_train", "2_val", "3_test"), ("train2024", "val2024", "test2024"),
    ("Training Set", "Validation Set", "Test Set"), ("birds_train", "birds_val", "birds_test"),
    ("Train", "Validate", "Test"), ("training_set", "dev", "test_set"),
]  # fmt: skip


@pytest.mark.parametrize("names", SPLITS, ids=[names[0] for names in SPLITS])
def test_splits_by_other_names(names, tmp_path):
    """`train_images` and `test_images` were taken for two classes in silence."""
    write_images(tmp_path, {name: {"owl": 3, "tit": 3} for name in names})
    module = data(tmp_path)
    assert module.class_names == ["owl", "tit"]
    assert {split: len(images) for split, images in module.splits.items()} == {"train": 6, "val": 6, "test": 6}


def test_classes_with_the_name_of_a_split_in_them(tmp_path):
    """`steam_train` is a class beside others, and unlabelled images beside splits are said to be left out."""
    write_images(tmp_path / "a", {"": {"steam_train": 6, "bus": 6}})
    assert data(tmp_path / "a").class_names == ["bus", "steam_train"]
    classes = {"owl": 3, "tit": 3}
    write_images(tmp_path / "b", {"seg_train": classes, "seg_test": classes, "seg_pred": {"seg_pred": 3}})
    module = data(tmp_path / "b")
    assert len(module.splits["test"]) == 6
    assert "3 images outside train/, val/ and test/ (seg_pred/seg_pred/000.png)" in module.report


BIRDS = {"owl": 3, "tit": 3}
#: By folders at the top with their class folders: classes, and images by split; all are training images without splits.
ORDINARY = {
    "a class with folders": ({"090.train": {"a": 3, "b": 3}, "012.bus": {"a": 3, "b": 3}, "013.car": {"": 3}}, {},
                             ["012.bus", "013.car", "090.train"]),
    "numbered classes": ({f"test_{number}": {"": 3} for number in (1, 2, 3)}, {}, ["test_1", "test_2", "test_3"]),
    "classes with another beside": ({"1_train": {"a": 3}, "2_test": {"a": 3}, "3_owl": {"a": 3}}, {},
                                    ["1_train", "2_test", "3_owl"]),
    "two of one split": ({"train_1": BIRDS, "train_2": BIRDS, "test_1": BIRDS}, {}, ["test_1", "train_1", "train_2"]),
    "more test images": ({"train": BIRDS, "test": BIRDS, "test_images": {"x": 3}}, {"train": 6, "test": 6}, [*BIRDS]),
    "more training images": ({"train": BIRDS, "test": BIRDS, "train_2": BIRDS}, {"train": 6, "test": 6}, [*BIRDS]),
    "data of development": ({"train": BIRDS, "test": BIRDS, "dev_data": {"x": 3}}, {"train": 6, "test": 6}, [*BIRDS]),
    "an extra beside train": ({"train": BIRDS, "train_2": {"x": 3}}, {"train": 6}, [*BIRDS]),
    "train and a decorated one": ({"train": BIRDS, "test_images": BIRDS}, {"train": 6, "test": 6}, [*BIRDS]),
    "a folder without images": ({"1_train": BIRDS, "2_test": BIRDS, "notes": {"": 0}},
                                {"train": 6, "test": 6}, [*BIRDS]),
    "one alone": ({"seg_train": BIRDS}, {"train": 6}, [*BIRDS]),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_folders_whose_names_only_hold_that_of_a_split(name, tmp_path):
    """They weighed as much as `train` and `test`: classes were refused, and folders beside splits joined them."""
    folders, splits, classes = ORDINARY[name]
    write_images(tmp_path, folders)
    (tmp_path / "x.csv").write_text("x")
    listing = data(tmp_path).listing
    assert listing.class_names == classes
    everything = {"train": sum(map(sum, (inner.values() for inner in folders.values())))}
    assert {split: len(files) for split, files in listing.files.items()} == (splits or everything)


@pytest.mark.parametrize("inner", ["{split}", "images", "{split}/Images"])
def test_splits_within_folders_that_say_nothing(inner, tmp_path):
    """Tools unpack a folder into one of its own name; others put the classes below `images`."""
    places = [f"{split}/{inner.format(split=split)}" for split in ("train", "test")]
    write_images(tmp_path, {place: {"owl": 3, "tit": 3} for place in places})
    module = data(tmp_path, val_fraction=0)
    assert {split: len(images) for split, images in module.splits.items()} == {"train": 6, "test": 6}
    assert module.class_names == ["owl", "tit"]


def test_a_split_with_one_class_is_not_entered(tmp_path):
    """Its folders would be taken for classes."""
    write_images(tmp_path, {"train/owl": {"2023": 3, "2024": 3}, "test/owl": {"2023": 3, "2024": 3}})
    with pytest.raises(UserError, match="has 1 class folders"):
        _ = data(tmp_path).splits


@pytest.mark.parametrize(("inside", "beside", "said"), [
    ("a/b", "names.csv", r"is too high: all images lie in a/b/; give .*/a/b\. If names\.csv lists the classes"),
    ("photos", "x.log", r"is too high: all images lie in photos/; give .*/photos\.$")])  # fmt: skip
def test_a_root_too_high_beside_other_files(inside, beside, said, tmp_path):
    """It had "1 class folders"; the folder that is meant is named."""
    write_images(tmp_path, {inside: {"owl": 3, "tit": 3}})
    (tmp_path / beside).write_text("x")
    with pytest.raises(UserError, match=said):
        _ = data(tmp_path).splits


# -- archives -----------------------------------------------------------------------------------------------------


def _zip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("000.png", b"x")


@pytest.mark.parametrize(("names", "said"), [
    (["train.zip", "test.zip"], r"holds 2 other archives, such as test\.zip: unpack each into a folder of its own"),
    (["data.zip", "readme.txt"], r"no class folders\. It holds the archive data\.zip: unpack it, or give it"),
    (["train/owl.zip", "train/tit.zip"], r"holds 2 other archives, such as train/owl\.zip: unpack each"),
    (["train/owl.zip", "train/tit.zip", "test/notes.txt"], r"It holds 2 archives, such as train/owl\.zip: unpack each"),
])  # fmt: skip
def test_archives_within_a_folder(names, said, tmp_path):
    """`train.zip` beside `test.zip`: to give one of them was no advice."""
    for name in names:
        _zip(tmp_path / name)
    with pytest.raises(UserError, match=said):
        _ = data(tmp_path).splits


def test_an_archive_among_class_folders_is_said(tmp_path):
    """It may be a class that has not been unpacked."""
    _zip(write_images(tmp_path, {"": {"owl": 6, "tit": 6}}) / "wren.zip")
    module = data(tmp_path)
    assert len(module.splits["train"])
    assert "1 archive, which is not unpacked (wren.zip)" in module.report


KINDS = {
    "a.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "it is a 7z archive: unpack it"),
    "a.rar": (b"Rar!\x1a\x07\x01\x00", "it is a RAR archive: unpack it"),
    "a.tar.zst": (b"\x28\xb5\x2f\xfd" + bytes(40), "compressed by Zstandard: unpack it"),
    "a.zip": (b"<!DOCTYPE html><title>Virus scan warning</title>", "a web page in the place of the file"),
    "b.zip": (b"", "it is empty: download it again"),
    "c.zip": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    "d.zip": (b"PK\x03\x04" + bytes(60), "it ends early, or is one of several parts"),
    "e.zip.001": (b"PK\x03\x04" + bytes(60), "it ends early, or is one of several parts"),
    "f.tgz": (gzip.compress(b"text" * 500), "compressed, but holds no tar archive"),
    "labels.txt": (b"a.png owl\n", "a table of labels is a CSV file"),
    "labels.xlsx": (b"PK\x03\x04" + bytes(60), "is a document: save the table of labels as CSV"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_root_that_is_another_file(name, tmp_path):
    """What it is, and what to do, in one line."""
    content, said = KINDS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as refused:
        _ = data(tmp_path / name).splits
    assert name in str(refused.value)
    assert "\\n" not in str(refused.value)


def test_a_pointer_in_the_place_of_an_image(tmp_path):
    """A clone without its large files."""
    root = write_images(tmp_path, {"": {"owl": 6, "tit": 6}})
    (root / "owl/000.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match=r"000\.png cannot be read .*Git LFS.*git lfs pull"):
        _ = data(root).splits


# -- tables of labels ---------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    return write_images(tmp_path / "photos", {"": {"owl": 6, "tit": 7}})


def test_a_spreadsheets_note_of_its_delimiter(root):
    """`sep=;` before the header, as spreadsheets write and read it."""
    path = table(root, delimiter=";")
    path.write_text("sep=;\n" + path.read_text())
    assert found(data(path)) == set(ROWS)
    path.write_text(path.read_text().replace("owl/000", "owl/zero"))
    with pytest.raises(UserError, match=r"labels\.csv, line 3: there is no file owl/zero"):
        _ = data(path).splits


@pytest.mark.parametrize("values", [
    ("1", "0"), ("True", "False"), ("yes", "no"), ("1.0", "0.0"), ("T", "F"), ("t", "f"), ("y", "n"), ("Y", "N"),
    ("TRUE", "FALSE"), ("train", "test"),
])  # fmt: skip
def test_a_column_that_says_which_images_train(values, root):
    """It was ignored, and splits were drawn."""
    rows = [(path, label, values[split == "test"]) for path, label, split in ROWS]
    module = data(table(root, rows, header="path,label,is_training_image"), val_fraction=0)
    assert found(module) == {(path, label, "test" if split == "test" else "train") for path, label, split in ROWS}


def test_a_column_of_yes_and_no_that_says_something_else_is_ignored(root):
    """As before it was read at all; it is said."""
    rows = [(path, label, "2" if split == "val" else "1") for path, label, split in ROWS]
    module = data(table(root, rows, header="path,label,is_train"))
    with pytest.warns(UserWarning, match=r"labels\.csv, line 6: '2' is neither yes nor no; this column is ignored"):
        names = found(module)
    assert {row[:2] for row in names} == {row[:2] for row in ROWS}


def test_a_column_of_yes_and_no_with_a_gap(root):
    rows = [(path, label, {"train": "1.0", "test": "0.0"}.get(split, "")) for path, label, split in ROWS]
    with pytest.raises(UserError, match=r"line 6: there is no split, as other lines have one"):
        _ = data(table(root, rows, header="path,label,is_train")).splits


@pytest.mark.parametrize(("header", "more"), [
    ("path,label,split,caption", ["a bird", " brown"]), ("path,label,split,is_good,caption", ["1", "a", " b", "c"]),
    ("path,label,split,", ["", "seen"]),
])  # fmt: skip
def test_more_cells_behind_all_that_are_read(header, more, root):
    """They were refused: a caption with a comma in it loses nothing that counts."""
    rows = [(*ROWS[0], *more), *((*row, "x") for row in ROWS[1:])]
    assert found(data(table(root, rows, header=header))) == set(ROWS)


def test_more_cells_in_a_table_without_header(root):
    rows = [ROWS[0][:2], *ROWS[1:]]
    assert {row[:2] for row in found(data(table(root, rows, header="")))} == {row[:2] for row in ROWS}


@pytest.mark.parametrize("name", ["null", "Null", "NULL", "NAN", "Nan", "NA", "None"])
def test_classes_with_names_that_elsewhere_stand_for_nothing(name, root):
    """They were refused, even in quotes."""
    rows = [(path, label.replace("owl", name), split) for path, label, split in ROWS]
    assert found(data(table(root, rows))) == set(rows)


def test_paths_in_another_case(root):
    """As systems write them that take both cases for one; not where two files could be meant."""
    rows = [(path.upper(), label, split) for path, label, split in ROWS]
    assert found(data(table(root, rows))) == set(ROWS)
    (root / "owl/A.png").write_bytes((root / "owl/005.png").read_bytes())
    (root / "owl/a.png").write_bytes((root / "owl/004.png").read_bytes())
    with pytest.raises(UserError, match=r"there is no file OWL/A\.PNG"):
        _ = data(table(root, [*rows, ("OWL/A.PNG", "owl", "train")])).splits


@pytest.mark.parametrize(("rows", "header", "said"), [
    ([("owl/003.png", "owl, barn")], "path,label", r"line 2: 3 values where 2 belong; .*in quotes"),
    ([*ROWS, ("owl/003.png", "owl", "train", "blurred")], "path,label,split", "line 8: 4 values where 3 belong"),
    ([*ROWS, ("owl/003.png", "nan", "train")], "path,label,split",
     r"003\.png has no label \('nan' stands for a missing one; if a class is meant, rename it\)"),
    ([*ROWS, ("owl/003.png", "", "train")], "path,label,split", r"003\.png has no label\."),
    ([(*ROWS[0][1::-1], "owl, barn")], "caption,label,path", "line 2: 4 values where 3 belong"),
    ([*ROWS, ("owl/003.png", "N/A", "train")], "path,label,split", r"003\.png has no label \('N/A' stands for"),
])  # fmt: skip
def test_labels_that_would_be_cut_or_invented(rows, header, said, root):
    """Of `owl, barn` the barn was lost, and `nan` was a class."""
    with pytest.raises(UserError, match=said):
        _ = data(table(root, rows, header=header)).splits


def test_cells_that_are_empty_are_none(root):
    """Spreadsheets end lines with delimiters."""
    path = table(root)
    path.write_text(path.read_text().replace("\n", ",,\n"))
    assert found(ImageFolder(str(path), image_size=8)) == set(ROWS)
