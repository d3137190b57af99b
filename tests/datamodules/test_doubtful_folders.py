"""Folders called `thumbnails` and the like: a class among classes, clutter where they hold copies; both said."""

import os
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.folder import Folder
from datamodules.image_folder import ImageFolder
from handful.images.doubtful import are_copies, by_plain_name
from handful.images.find import find_images

SPLITS = {"train": 4, "test": 2}


def picture(seed, size=(24, 16)):
    """A smooth picture, which smaller copies resemble."""
    values = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def write(root, classes, splits=SPLITS):
    for number, name in enumerate(classes):
        for split, count in splits.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for image in range(count):
                picture(1000 * number + 100 * len(split) + image).save(folder / f"{image:03d}.png")
    return root


def zipped(root, path):
    with zipfile.ZipFile(path, "w") as file:
        for found in sorted(root.rglob("*.png")):
            file.write(found, found.relative_to(root).as_posix())
    return path


def read(root, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = ImageFolder(str(root), image_size=8, normalisation="imagenet", repeats="warn", **options)
        module.setup("fit")
    return module, [str(one.message) for one in caught if "read as a class" in str(one.message)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["thumbnails", "_thumbs", "lost+found", "Recycler"])
def test_a_class_among_classes_is_kept_and_said(tmp_path, name, packed):
    root = write(tmp_path / "data", ["owl", name])
    module, said = read(zipped(root, tmp_path / "data.zip") if packed else root)
    assert sorted(module.class_names) == sorted(["owl", name])
    (sentence,) = said
    assert f"train/{name}" in sentence
    assert len(module.splits["test"]) == 4


def test_a_class_without_splits_and_in_folders_below_others(tmp_path):
    module, said = read(write(tmp_path / "a", ["owl", "thumbnails"], {"": 6}))
    assert module.class_names == ["owl", "thumbnails"]
    assert len(said) == 1
    module, said = read(write(tmp_path / "b", ["owl", "thumbnails"], {"birds/photos": 6}))
    assert module.class_names == ["owl", "thumbnails"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["small", "square", "marked"])
def test_smaller_copies_are_left_out_and_counted(tmp_path, packed, form):
    """They stand beside the classes, as programs put them there for a whole album."""
    root = write(tmp_path / "data", ["owl", "tit"], {"": 6})
    thumbnails = root / "thumbnails"
    thumbnails.mkdir()
    for file in sorted((root / "owl").iterdir()):
        image = Image.open(file)
        small = image.crop((4, 0, 20, 16)).resize((6, 6)) if form == "square" else image.resize((9, 6))
        small.save(thumbnails / (f"thumb_{file.name}" if form == "marked" else file.name))
    module, said = read(zipped(root, tmp_path / "data.zip") if packed else root)
    assert module.class_names == ["owl", "tit"]
    assert said == []
    assert "6 thumbnails and system files (thumbnails/" in module.report


@pytest.mark.parametrize("place", ["thumbnails/{}", "{}/thumbnails", "thumbnails/photos/{}"])
def test_copies_of_pictures_whose_names_many_classes_have(tmp_path, place):
    """Of the same name were the first classes' alone looked at: thumbnails of fifteen classes became a class."""
    classes = [f"c{number:02d}" for number in range(15)]
    root = write(tmp_path / "data", classes, {"": 6})
    for file in sorted(root.glob("*/*.png")):
        small = root / place.format(file.parent.name) / file.name
        small.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).resize((9, 6)).save(small)
    module, said = read(root)
    assert module.class_names == classes
    assert said == []
    with pytest.warns(UserWarning, match="thumbnails in .* are left out"):
        assert len(find_images(root)) == 15 * 6


def test_many_folders_of_thumbnails_and_long_names_take_no_minutes():
    """Every folder of them was compared with all names, and a name of digits with itself."""
    read_none = {}.__getitem__
    named = by_plain_name([f"c{one}/{one}_{number}.jpg" for one in range(1000) for number in range(20)])
    assert not any(are_copies([f"c{one}/thumbnails/x{number}.jpg" for number in range(20)], named, read_none)
                   for one in range(1000))  # fmt: skip
    assert list(by_plain_name(["1" * 50_000])) == ["/" + "1" * 50_000, "1" * 50_000]


def test_folders_of_the_system_at_the_top_of_a_disk(readable_folder):
    """`lost+found` can be listed by root alone; what lies in RECYCLER, under other names, was deleted."""
    root = write(readable_folder / "data", ["owl", "tit"], {"": 1})
    deleted = root / "RECYCLER/S-1-5-21-1214440339"
    deleted.mkdir(parents=True)
    picture(1).save(deleted / "Dc1.png")
    (root / "lost+found").mkdir(mode=0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        tree = Folder(root)
    finally:
        if is_root:
            os.seteuid(0)
    assert tree.folders() == ["owl", "tit"]
    assert str(tree.left_out).startswith("2 thumbnails and system files (")


@pytest.fixture
def readable_folder():
    """A folder that every user can read, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        if any(above.stat().st_mode & 0o001 == 0 for above in place.parents):
            pytest.skip("temporary files lie where other users cannot go")
        yield place


def test_pictures_inside_a_class_or_in_one_split_alone_are_left_out_and_counted(tmp_path):
    root = write(tmp_path / "data", ["owl", "tit"])
    for number, place in enumerate(("train/owl/thumbnails", "train/_thumbs", "lost+found")):
        (root / place).mkdir()
        picture(900 + number).save(root / place / "x.png")
    module, said = read(root)
    assert module.class_names == ["owl", "tit"]
    assert said == []
    assert "3 thumbnails and system files (" in module.report


@pytest.mark.parametrize("name", ["spare.part", "owl~", "c.crdownload"])
def test_a_class_whose_name_ends_as_unfinished_files_do(tmp_path, name):
    """The folder vanished where an archive of it did not."""
    root = write(tmp_path / "data", ["tit", name])
    for place in (root, zipped(root, tmp_path / "data.zip")):
        assert read(place)[0].class_names == sorted(["tit", name])


def test_an_archive_whose_only_folder_has_such_a_name(tmp_path):
    root = write(tmp_path / "data/thumbnails", ["owl", "tit"], {"": 6})
    shutil.copytree(root, tmp_path / "plain")
    assert read(tmp_path / "plain")[0].class_names == ["owl", "tit"]
    assert read(root.parent)[0].class_names == ["owl", "tit"]


def test_pictures_to_be_explained_are_not_dropped_in_silence(tmp_path):
    for place, name in (("album", "a"), ("album/thumbnails", "b"), ("other", "c"), ("other/thumbnails", "c")):
        (tmp_path / place).mkdir(exist_ok=True)
        picture(ord(name)).save(tmp_path / place / f"{name}.png")
    assert [file.name for file in find_images(tmp_path / "album")] == ["a.png", "b.png"]
    with pytest.warns(UserWarning, match="1 thumbnails in .*other/thumbnails are left out"):
        assert len(find_images(tmp_path / "other")) == 1
    assert len(find_images(tmp_path / "other/thumbnails")) == 1
