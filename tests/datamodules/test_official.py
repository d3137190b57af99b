"""The field's data sets, each in the form on disk in which it is distributed."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import (
    CIFAR10,
    CIFAR100,
    CUB200,
    STL10,
    FGVCAircraft,
    ImageNet,
    NABirds,
    StanfordCars,
    TinyImageNet,
    TravelingBirds,
)
from handful.errors import UserError
from tests.datamodules import official_forms as forms


def made(kind, root, **options):
    """A data module of a part of the data set, with images of 8 pixels."""
    given = {"complete": False, "image_size": 8, "batch_size": 4, "cache_dir": str(Path(root).parent / "cache")}
    return kind(str(root), **(given | options))


def counts(data):
    return {split: len(images) for split, images in data.splits.items()}


FORMS = {
    "cub": (CUB200, forms.write_cub, 3, {"train": 6, "test": 6}),
    "nabirds": (NABirds, forms.write_nabirds, 3, {"train": 3, "test": 3}),
    "aircraft": (FGVCAircraft, forms.write_aircraft, 2, {"train": 8, "test": 4}),
    "cars": (StanfordCars, forms.write_cars, 2, {"train": 4, "test": 4}),
    "cars, single": (StanfordCars, forms.write_cars_single, 2, {"train": 4, "test": 4}),
    "tiny imagenet": (TinyImageNet, forms.write_tiny_imagenet, 2, {"train": 6, "test": 4}),
    "imagenet": (ImageNet, forms.write_imagenet, 2, {"train": 6, "test": 4}),
    "traveling birds": (TravelingBirds, forms.write_traveling_birds, 3, {"train": 6, "test": 6}),
    "stl-10": (STL10, forms.write_stl10, 10, {"train": 20, "test": 20}),
    "cifar-10": (CIFAR10, forms.write_cifar10, 10, {"train": 50, "test": 10}),
    "cifar-10, python": (CIFAR10, lambda r: forms.write_cifar10(r, "python"), 10, {"train": 50, "test": 10}),
    "cifar-100": (CIFAR100, forms.write_cifar100, 6, {"train": 12, "test": 12}),
    "cifar-100, python": (CIFAR100, lambda r: forms.write_cifar100(r, "python"), 6, {"train": 12, "test": 12}),
}


@pytest.mark.parametrize("name", FORMS)
def test_official_form(name, tmp_path):
    """Splits, labels and batches; from the folder, one above it among other things, and an archive."""
    kind, write, classes, expected = FORMS[name]
    home = write(tmp_path / "sets")
    data = made(kind, home)
    assert counts(data) == expected
    assert data.num_classes == classes == len(set(data.class_names))
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape[1:] == (3, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    forms.lines(tmp_path / "sets" / "notes" / "other.txt", ["not of the data set"])
    above = made(kind, tmp_path / "sets")
    assert above.splits["test"].labels.tolist() == data.splits["test"].labels.tolist()
    assert torch.equal(above.splits["train"].pixels(1), data.splits["train"].pixels(1))
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "sets", ".")
    packed = made(kind, tmp_path / "archive.tar.gz")
    assert packed.class_names == data.class_names
    assert torch.equal(packed.splits["test"].pixels(0), data.splits["test"].pixels(0))


@pytest.mark.parametrize("name", FORMS)
def test_part_of_a_data_set_is_refused_unless_asked_for(name, tmp_path):
    """The sentence has both numbers, what to download, and from where."""
    kind, write, *_ = FORMS[name]
    home = write(tmp_path)
    with pytest.raises(UserError, match=r"complete to false") as refused:
        _ = made(kind, home, complete=True).splits
    assert "https://" in str(refused.value) or "http://" in str(refused.value)


@pytest.mark.parametrize("name", FORMS)
def test_nothing_of_the_data_set(name, tmp_path):
    """An empty or missing root says what to download."""
    kind, *_ = FORMS[name]
    (tmp_path / "empty").mkdir()
    for root in ("empty", "emptied"):
        with pytest.raises(UserError, match="http"):
            _ = made(kind, tmp_path / root).splits


# -- CUB-200-2011 -------------------------------------------------------------------------------------------------


def test_cub_annotations(tmp_path):
    """Parts, boxes, attributes and segmentations arrive where the network sees them."""
    home = forms.write_cub(tmp_path)
    for image in sorted((home / "images").rglob("*.jpg")):
        mask = home / "segmentations" / image.relative_to(home / "images").with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        grey = np.zeros((20, 40), dtype=np.uint8)
        grey[5:15, 10:30] = 255
        forms.Image.fromarray(grey).save(mask)
    data = made(CUB200, home)
    assert data.class_names == ["Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross"]
    known = data.annotations("test")
    assert known.parts.part_names == list(forms.CUB_PARTS)
    places, seen = known.parts.positions([0, 1])
    # 40 × 20 pixels become 16 × 8, of which the middle 8 × 8 are seen
    assert places[0, 0].tolist() == pytest.approx([3.5, 3.5])
    assert seen[0].tolist() == [True, False, False]
    assert known.boxes.boxes([0]).tolist() == [[0.0, 2.0, 8.0, 6.0]]
    assert known.segmentation.segmentation([0])[0].sum() == 8 * 4
    assert known.masks.concepts[0].name == "bird"
    assert known.masks.annotated([0, 1]).all()
    table = known.attributes()
    assert list(table.names) == list(forms.CUB_ATTRIBUTES)
    assert table.present.shape == (6, 2)
    assert table.certain[:, 0].all()
    assert not table.certain[:, 1].any()
    assert table.present[:, 0].tolist() == [1.0] * 6  # image 2, 4, …; its number plus one is odd
    assert counts(data) == {"train": 6, "test": 6}  # the masks are not images


def test_cub_boxes_and_fit(tmp_path):
    """The box, stretched or padded, is what the network gets, and annotations follow."""
    home = forms.write_cub(tmp_path)
    squashed = made(CUB200, home, crop_to_box=True, fit="squash")
    assert squashed.splits["train"].pixels(0).shape == (3, 8, 8)
    known = squashed.annotations("train")
    assert known.boxes.boxes([0]).tolist() == [[0.0, 0.0, 8.0, 8.0]]
    assert known.parts.positions([0])[0][0, 0].tolist() == pytest.approx([3.5, 3.5])
    padded = made(CUB200, home, fit="pad")
    assert padded.splits["train"].pixels(1)[:, [0, 1, 6, 7]].sum() == 0  # bars above and below
    assert padded.annotations("train").boxes.boxes([0]).tolist() == [[2.0, 3.0, 6.0, 5.0]]
    assert len({d.fingerprint() for d in (squashed, padded, made(CUB200, home))}) == 3


def test_cub_without_annotations(tmp_path):
    """Missing annotation files leave the images usable; what needs them says so."""
    home = forms.write_cub(tmp_path)
    shutil.rmtree(home / "parts")
    shutil.rmtree(home / "attributes")
    (home / "bounding_boxes.txt").unlink()
    data = made(CUB200, home)
    known = data.annotations("test")
    assert (known.parts, known.boxes, known.attributes, known.masks) == (None, None, None, None)
    with pytest.raises(UserError, match="crop_to_box"):
        _ = made(CUB200, home, crop_to_box=True).splits


def _unlink_one(home):
    next((home / "images").rglob("*.jpg")).unlink()


def _cut(name, keep=0.6):
    def damage(home):
        path = home / name
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return damage


def _truncate_picture(home):
    path = sorted((home / "images").rglob("*.jpg"))[-1]
    path.write_bytes(path.read_bytes()[:200])


DAMAGES = {
    "a missing image": (_unlink_one, "There is no image"),
    "half-extracted": (lambda home: shutil.rmtree(home / "images/003.Sooty_Albatross"), "partly unpacked"),
    "a truncated image": (_truncate_picture, "cannot be read as an image"),
    "no split file": (lambda home: (home / "train_test_split.txt").unlink(), "lacks train_test_split.txt"),
    "a truncated split file": (lambda home: forms.lines(home / "train_test_split.txt", ["1 1", "2 0"]),
                               "has no line for image 3"),
    "a label file cut inside a line": (_cut("image_class_labels.txt"), "line 8: 1 values where 2 belong"),
    "another split": (lambda home: forms.lines(home / "train_test_split.txt", [f"{n} train" for n in range(1, 13)]),
                      "where 0 or 1 belongs"),
    "no test image": (lambda home: forms.lines(home / "train_test_split.txt", [f"{n} 1" for n in range(1, 13)]),
                      "has no test image"),
    "an unnamed class": (lambda home: forms.lines(home / "classes.txt", ["1 001.A", "2 002.B"]), "has no class 3"),
    "a line twice": (lambda home: forms.lines(home / "images.txt", ["1 a.jpg", "1 b.jpg"]), "has a line already"),
    "no text": (lambda home: (home / "images.txt").write_bytes(b"\xff\xfe\x00\xd8"), "is not text"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_copy(name, tmp_path):
    """One sentence that names the file."""
    damage, sentence = DAMAGES[name]
    home = forms.write_cub(tmp_path)
    damage(home)
    with pytest.raises(UserError, match=sentence) as refused:
        _ = made(CUB200, home).splits
    assert str(tmp_path) in str(refused.value)


def test_damaged_attributes(tmp_path):
    """A truncated table of attributes is refused when it is asked for; the images are not."""
    home = forms.write_cub(tmp_path)
    _cut("attributes/image_attribute_labels.txt", 0.9)(home)
    data = made(CUB200, home)
    assert counts(data)["train"] == 6
    with pytest.raises(UserError, match=r"image_attribute_labels.txt is truncated"):
        data.annotations("test").attributes()


def test_root_too_low(tmp_path):
    """A root inside the data set names the folder that is meant."""
    home = forms.write_cub(tmp_path)
    with pytest.raises(UserError, match=rf"give {home}\."):
        _ = made(CUB200, home / "images").splits
    birds = forms.write_traveling_birds(tmp_path)
    with pytest.raises(UserError, match=rf"give {birds}\."):
        _ = made(TravelingBirds, birds / "train").splits


def test_two_copies_and_an_archive_unpacked_nowhere(tmp_path):
    """Neither is guessed at."""
    forms.write_cub(tmp_path / "one")
    forms.write_cub(tmp_path / "two")
    with pytest.raises(UserError, match="twice"):
        _ = made(CUB200, tmp_path).splits
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/readme.txt").write_text("x")
    (tmp_path / "packed/CUB_200_2011.tgz").write_bytes(b"x")
    with pytest.raises(UserError, match=r"CUB_200_2011\.tgz: give that file"):
        _ = made(CUB200, tmp_path / "packed").splits


@pytest.mark.parametrize("rename", ["upper", "copy", "backslash", "copied folder"])
def test_renamed_by_tools(rename, tmp_path):
    """Names that unzip tools and file managers change are still found."""
    home = forms.write_cub(tmp_path)
    before = made(CUB200, home)
    expected = before.splits["train"].labels.tolist()
    if rename == "copied folder":
        home = home.rename(tmp_path / "CUB_200_2011 (1)")
    elif rename == "backslash":
        for path in sorted((home / "images").rglob("*.jpg")):
            path.rename(home / f"images\\{path.parent.name}\\{path.name}")
        shutil.rmtree(home / "images")
    else:
        for path in sorted((home / "images").rglob("*.jpg")):
            path.rename(path.with_name(f"{path.stem} (1).jpg" if rename == "copy" else path.name.upper()))
    assert made(CUB200, home).splits["train"].labels.tolist() == expected


# -- the others ---------------------------------------------------------------------------------------------------


def test_nabirds_hierarchy_and_parts(tmp_path):
    """Every class leads to all birds; parts and boxes are placed."""
    data = made(NABirds, forms.write_nabirds(tmp_path))
    known = data.annotations("test")
    assert data.class_names == ["Common Eider", "Common Eider (Adult male)", "Owl"]
    assert known.hierarchy["Common Eider (Adult male)"] == "Common Eider"
    assert known.hierarchy["Owl"] == "Birds"
    places, seen = known.parts.positions([0])
    assert seen.tolist() == [[False, True]]
    assert places[0, 1].tolist() == pytest.approx([14.5 * 8 / 30 - 0.5] * 2)
    assert known.boxes.boxes([0])[0].tolist() == pytest.approx([0.8, 1.6, 4.0, 5.6])


def test_aircraft_levels_banner_and_validation(tmp_path):
    """What a class is, which images validate, and rows without copyright are options."""
    home = forms.write_aircraft(tmp_path)
    assert made(FGVCAircraft, home, level="family").class_names == ["Boeing 707", "Falcon 2000"]
    assert counts(made(FGVCAircraft, home, train_on="train")) == {"train": 4, "val": 4, "test": 4}
    whole, cut = made(FGVCAircraft, home, image_size=30), made(FGVCAircraft, home, image_size=30, remove_banner=True)
    assert whole.splits["train"].pixels(0).shape == (3, 30, 36)
    assert cut.splits["train"].pixels(0).shape == (3, 30, 60)
    assert cut.annotations("test").boxes.boxes([0])[0].tolist() == pytest.approx([0.0, 5.0, 25.0, 25.0])
    with pytest.raises(UserError, match=r"data.level must be one of.*family"):
        made(FGVCAircraft, home, level="famly")


def test_cars_without_test_labels(tmp_path):
    """The file that the devkit leaves out is named; boxes count from 1."""
    home = forms.write_cars(tmp_path)
    data = made(StanfordCars, home)
    assert data.annotations("test").boxes.boxes([0])[0].tolist() == pytest.approx([0.0, 0.4, 8.0, 7.2])
    assert data.class_names[1] == "Ram C/V Cargo Van Minivan 2012"
    shutil.copy(home / "cars_test_annos_withlabels.mat", home / "devkit/cars_test_annos.mat")
    (home / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat.*has no labels"):
        _ = made(StanfordCars, home).splits
    (home / "devkit/cars_train_annos.mat").write_bytes(b"damaged")
    shutil.move(home / "devkit/cars_test_annos.mat", home / "devkit/cars_test_annos_withlabels.mat")
    with pytest.raises(UserError, match=r"cars_train_annos\.mat cannot be read"):
        _ = made(StanfordCars, home).splits


@pytest.mark.parametrize("form", ["folders", "kaggle", "devkit"])
def test_imagenet_validation(form, tmp_path):
    """Validation images by folder, by Kaggle's table and by the devkit have the same labels."""
    data = made(ImageNet, forms.write_imagenet(tmp_path, form))
    by_name = dict(zip((Path(name).stem for name in data.splits["test"].names), data.splits["test"].labels.tolist(),
                       strict=True))  # fmt: skip
    assert by_name == {f"ILSVRC2012_val_{n:08d}": label for n, label in enumerate((1, 0, 1, 0), 1)}
    assert data.class_names[0] == ("tench" if form == "kaggle" else "n01440764")


def test_imagenet_without_labels_of_validation(tmp_path):
    """Flat validation images without a table are refused; nothing is decoded before it is asked for."""
    home = forms.write_imagenet(tmp_path, "devkit")
    broken = home / "train/n01440764/n01440764_1.JPEG"
    broken.write_bytes(b"no image")
    data = made(ImageNet, home)
    assert counts(data)["train"] == 6
    with pytest.raises(UserError, match="n01440764_1"):
        data.splits["train"].pixels(1)
    shutil.rmtree(home / "ILSVRC2012_devkit_t12")
    with pytest.raises(UserError, match="LOC_val_solution"):
        _ = made(ImageNet, home).splits


def test_tiny_imagenet_forms(tmp_path):
    """Validation images sorted into folders by a script are read too."""
    official = made(TinyImageNet, forms.write_tiny_imagenet(tmp_path / "a"))
    sorted_in = made(TinyImageNet, forms.write_tiny_imagenet(tmp_path / "b", val_in_folders=True))
    assert official.class_names == ["goldfish", "European fire salamander"] == sorted_in.class_names
    assert official.splits["test"].labels.tolist() == sorted_in.splits["test"].labels.tolist()
    assert official.annotations("test").boxes.boxes([0])[0].tolist() == pytest.approx([0.0, 4.0, 5.625, 7.875])


def test_traveling_birds_with_parts_of_cub(tmp_path):
    """Birds stand where CUB's stand."""
    cub = forms.write_cub(tmp_path)
    data = made(TravelingBirds, forms.write_traveling_birds(tmp_path), cub_root=str(cub))
    known = data.annotations("test")
    assert known.boxes.boxes([0]).tolist() == [[0.0, 2.0, 8.0, 6.0]]
    assert known.parts.positions([0])[1][0, 0]
    assert made(TravelingBirds, tmp_path / "CUB_fixed").annotations("test").parts is None


def test_stl10_is_upright_and_truncated_files_are_refused(tmp_path):
    """The red stripe lies in the first row, not in the first column."""
    home = forms.write_stl10(tmp_path)
    data = made(STL10, home, image_size=96, val_fraction=0.5)
    assert counts(data) == {"train": 10, "val": 10, "test": 20}
    image = data.splits["test"].pixels(3)
    assert (image[0, 0] == 255).all()
    assert (image[0, 1:] == 3).all()
    assert (image[1:] == 3).all()
    _cut("test_X.bin", 0.61)(home)
    with pytest.raises(UserError, match=r"test_X\.bin is truncated"):
        _ = made(STL10, home).splits


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_cifar_forms_agree(kind, tmp_path):
    """Binary and Python versions give the same; pickles are read without being run."""
    write = forms.write_cifar10 if kind is CIFAR10 else forms.write_cifar100
    names = ("binary", "python")
    one, two = (made(kind, write(tmp_path / form, form), image_size=32) for form in names)
    assert one.class_names == two.class_names
    for split in ("train", "test"):
        assert one.splits[split].labels.tolist() == two.splits[split].labels.tolist()
        assert all(torch.equal(one.splits[split].pixels(i), two.splits[split].pixels(i)) for i in (0, 7, 9))
    pixels = forms._rows(10 if kind is CIFAR10 else 12, 0)[3]
    assert one.splits["train"].pixels(3).flatten().tolist() == pixels.tolist()
    hostile = next(path for path in sorted(two.root.iterdir()) if path.name in ("data_batch_1", "train"))
    hostile.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(UserError, match="download it again"):
        _ = made(kind, two.root).splits
    assert not (tmp_path / "ran").exists()


def test_cifar100_coarse(tmp_path):
    """Twenty classes in the place of a hundred."""
    data = made(CIFAR100, forms.write_cifar100(tmp_path), level="coarse")
    assert data.class_names == ["fruit", "furniture", "people"]
    assert data.splits["train"].labels.tolist()[:6] == [0, 1, 2, 1, 2, 0]


def test_zip_of_a_data_set(tmp_path):
    """A zip with Mac OS's folders beside it is read where it lies."""
    home = forms.write_cub(tmp_path / "sets")
    with zipfile.ZipFile(tmp_path / "cub.zip", "w") as archive:
        for path in sorted((tmp_path / "sets").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "sets"))
            archive.writestr(f"__MACOSX/{path.relative_to(tmp_path / 'sets')}", b"x")
    data = made(CUB200, tmp_path / "cub.zip")
    assert counts(data) == {"train": 6, "test": 6}
    assert len(data.annotations("test").attributes().names) == 2
    assert home.is_dir()
