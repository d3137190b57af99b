"""Copies of published data sets as tools and editors leave them: read as the official ones, or refused by name."""

import re
import shutil

import pytest
from PIL import Image

from datamodules import CUB200, NABirds, StanfordCars, TinyImageNet, TravelingBirds
from handful.errors import UserError
from tests.datamodules import official_forms as forms
from tests.datamodules.test_official import FORMS, made

TABLES = ("cub", "nabirds", "aircraft", "tiny imagenet")
FOLDERS = ("cub", "nabirds", "aircraft", "cars", "cars, single", "tiny imagenet", "traveling birds", "imagenet")


def _texts(change):
    def edit(home):
        for path in (path for path in home.rglob("*.txt") if path.is_file()):
            path.write_bytes(change(path.read_bytes()))

    return edit


def _blank(text):
    first, *rest = text.split(b"\n")
    return b"\n".join([first, b"", b"  ", *rest, b"", b""])


EDITORS = {
    "Windows line endings": _texts(lambda text: text.replace(b"\n", b"\r\n")),
    "old Mac line endings": _texts(lambda text: text.replace(b"\n", b"\r")),
    "a byte order mark": _texts(lambda text: b"\xef\xbb\xbf" + text),
    "UTF-16": _texts(lambda text: text.decode().encode("utf-16")),
    "spaces at the ends": _texts(lambda text: text.replace(b"\n", b" \t\n")),
    "empty lines": _texts(_blank),
    "no newline at the end": _texts(lambda text: text.rstrip()),
}


def _images(home):
    return [path for path in sorted(home.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]


def _doubled(home):
    for folder in [folder for folder in sorted(home.iterdir()) if folder.is_dir() and _images(folder)]:
        shutil.move(folder, home / "moved")
        folder.mkdir()
        shutil.move(home / "moved", folder / folder.name)


def _suffix(suffix):
    def rename(home):
        for path in _images(home):
            path.rename(path.with_suffix(suffix))

    return rename


def _apple(home):
    for path in [path for path in home.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        beside = home.parent / "__MACOSX" / path.relative_to(home.parent)
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(b"\0\5\x16\7")
    (home / ".DS_Store").write_bytes(b"x")


TOOLS = {
    "folders unpacked into their own names": _doubled,
    "another suffix": _suffix(".jpeg"),
    "suffixes in capitals": _suffix(".JPG"),
    "what Mac OS leaves": _apple,
}
CHANGES = [(name, change, EDITORS[change]) for name in TABLES for change in EDITORS]
CHANGES += [(name, change, TOOLS[change]) for name in FOLDERS for change in TOOLS]


def known(data):
    """Names, labels, and what is known of the images, as far as the data set says it."""
    found = data.annotations("test")
    return (
        data.class_names,
        {split: images.labels.tolist() for split, images in data.splits.items()},
        found.boxes and found.boxes.boxes([0, 1]).tolist(),
        found.parts and [part.tolist() for part in found.parts.positions([0, 1])],
        found.attributes and found.attributes().present.tolist(),
    )


@pytest.mark.parametrize(("name", "change", "edit"), CHANGES, ids=[f"{name}-{change}" for name, change, _ in CHANGES])
def test_read_as_the_official_one(name, change, edit, tmp_path):
    """Classes, labels and annotations are those of an unchanged copy."""
    kind, write, *_ = FORMS[name]
    home = write(tmp_path / "sets")
    before = known(made(kind, home))
    edit(home)
    assert known(made(kind, home)) == before


def _lines_of(name, keep):
    def cut(home):
        path = home / name
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]))

    return cut


REFUSED = {
    "boxes that end early": (CUB200, forms.write_cub, _lines_of("bounding_boxes.txt", 7),
                             r"bounding_boxes.txt has no line for image 8"),
    "parts that end early": (CUB200, forms.write_cub, _lines_of("parts/part_locs.txt", 35),
                             r"part_locs.txt says nothing of belly in images/003"),
    "no parts at all": (NABirds, forms.write_nabirds, _lines_of("parts/part_locs.txt", 0), "part_locs.txt has no line"),
    "no names of classes": (TinyImageNet, forms.write_tiny_imagenet, _lines_of("words.txt", 1),
                            r"words.txt has no line for the class n01629819"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_annotations_that_end_early_are_refused(name, tmp_path):
    """Without this, images would silently have no box and no part."""
    kind, write, damage, said = REFUSED[name]
    home = write(tmp_path)
    damage(home)
    with pytest.raises(UserError, match=said) as refused:
        known(made(kind, home))
    assert str(tmp_path) in str(refused.value)


def test_a_single_file_of_annotations_beside_the_devkit(tmp_path):
    """Copies of the devkit's form have `cars_annos.mat` too, which names none of their images."""
    home = forms.write_cars(tmp_path)
    before = known(made(StanfordCars, home))
    shutil.copy(forms.write_cars_single(tmp_path / "other") / "cars_annos.mat", home)
    assert known(made(StanfordCars, home)) == before


@pytest.mark.parametrize("inside", ["cars_train", "devkit", "car_ims"])
def test_a_root_inside_of_the_cars(inside, tmp_path):
    """The folder that is meant is named, in both forms."""
    home = (forms.write_cars_single if inside == "car_ims" else forms.write_cars)(tmp_path)
    with pytest.raises(UserError, match=rf"(give {re.escape(str(home))}\.|lacks|is not Stanford Cars)"):
        _ = made(StanfordCars, home / inside).splits


def test_two_images_that_differ_in_their_suffix_alone(tmp_path):
    """Neither is guessed at where both could be meant."""
    home = forms.write_traveling_birds(tmp_path)
    cub = forms.write_cub(tmp_path)
    path = next(path for path in _images(cub))
    image = Image.open(path).convert("RGB")
    path.unlink()
    for suffix in (".png", ".jpeg"):
        image.save(path.with_suffix(suffix))
    with pytest.raises(UserError, match=rf"There is no image images/.*{path.name}"):
        _ = made(CUB200, cub).splits
    assert len(made(TravelingBirds, home).splits["train"]) == 6
