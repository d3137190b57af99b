import errno
import io
import multiprocessing
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from datamodules import image_folder
from datamodules.archive import ZipArchive
from datamodules.image_folder import ImageFolder
from handful.errors import UserError
from handful.images import read_image
from tests.datamodules.fakes import write_images, zipped

COUNTS = {"train": {"owl": 10, "tit": 21}, "test": {"owl": 3, "tit": 4}}


@pytest.fixture
def root(tmp_path):
    return write_images(tmp_path / "data", COUNTS)


def folder(root, **options):
    return ImageFolder(str(root), **{"image_size": 8, "batch_size": 4, "augmentation": "none", **options})


def contents(data):
    """All images of all splits, as bytes, with labels and names."""
    data.prepare_data()
    data.setup()
    sets = {"train": data.plain_train_dataset, "val": data.val_dataset, "test": data.test_dataset}
    return {
        split: [(image.numpy().tobytes(), label, name) for (image, label), name in zip(items, items.names, strict=True)]
        for split, items in sets.items()
        if items is not None
    }


def test_splits_labels_and_names(root):
    data = folder(root)
    assert data.class_names == ["owl", "tit"]
    assert data.num_classes == 2
    found = contents(data)
    assert {split: len(items) for split, items in found.items()} == {"train": 28, "val": 3, "test": 7}
    for split, items in found.items():
        for _, label, name in items:
            assert name.split("/")[0] == ("test" if split == "test" else "train")
            assert name.split("/")[1] == ["owl", "tit"][label]
    assert [name for _, _, name in found["test"]] == sorted(name for _, _, name in found["test"])
    assert [label for _, label, _ in found["val"]] == [0, 1, 1]  # a tenth of 10 and of 21, rounded


@pytest.mark.parametrize(("split", "word"), [("val", "validation"), ("test", "test")])
def test_a_split_of_which_nothing_can_be_read_is_refused(tmp_path, split, word):
    """It was an empty split, and what was measured on it NaN."""
    root = write_images(tmp_path / "data", COUNTS | {"val": {"owl": 2, "tit": 2}})
    for path in (root / split).rglob("*.*"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=f"keeps no {word} image: all of them were left out"):
        _ = folder(root, unreadable="skip").splits


def test_the_validation_split_is_a_share_of_each_class_that_depends_on_the_seed(root):
    def names(seed, fraction=0.3):
        found = contents(folder(root, val_fraction=fraction, seed=seed))
        train, val = ([name for _, _, name in found[split]] for split in ("train", "val"))
        assert sorted(train + val) == sorted(set(train + val))
        assert len(train + val) == 31
        assert train == sorted(train)
        return val

    val = names(0)
    assert [name.split("/")[1] for name in val] == ["owl"] * 3 + ["tit"] * 6
    assert names(0) == val
    assert names(1) != val
    assert "val" not in contents(folder(root, val_fraction=0))
    assert folder(root, val_fraction=0).val_dataloader() == []


def test_a_val_folder_is_used_as_it_is(tmp_path):
    root = write_images(tmp_path / "data", COUNTS | {"val": {"owl": 2, "tit": 2}})
    found = contents(folder(root))
    assert {split: len(items) for split, items in found.items()} == {"train": 31, "val": 4, "test": 7}
    assert all(name.startswith("val/") for _, _, name in found["val"])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("top", ["", "birds", "birds/of/prey"])
def test_an_archive_equals_its_folder(root, tmp_path, keep, top):
    expected = contents(folder(root, cache=keep))
    assert contents(folder(zipped(root, tmp_path / "data.zip", top), cache=keep)) == expected


def test_kept_and_read_images_are_the_same_whatever_their_shape(tmp_path):
    root = write_images(tmp_path / "data", COUNTS, size=(23, 17), suffix=".jpg")
    assert contents(folder(root, cache=True)) == contents(folder(root, cache=False))


def test_images_are_those_of_torchvisions_resize_and_crop(tmp_path):
    root = write_images(tmp_path / "data", COUNTS, size=(23, 17), suffix=".jpg")
    data = folder(root, normalisation={"mean": [0.0] * 3, "std": [1.0] * 3})
    transform = v2.Compose([v2.Resize(8), v2.CenterCrop(8), v2.PILToTensor()])
    for (image, _), name in zip(data.test_dataset, data.test_dataset.names, strict=True):
        expected = transform(Image.open(root / name))
        assert torch.equal((image * 255).round().to(torch.uint8), expected)


def test_loader_processes_read_an_archive(root, tmp_path):
    archive = zipped(root, tmp_path / "data.zip")
    alone, helped = (folder(archive, cache=False, num_workers=workers).test_dataloader() for workers in (0, 2))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(alone, helped, strict=True))


@pytest.mark.parametrize("keep", [True, False])
def test_images_are_checked_once_and_again_when_they_change(root, monkeypatch, keep):
    contents(folder(root, cache=keep))
    reader = image_folder.Reader
    monkeypatch.setattr(image_folder, "Reader", None)  # would fail if it were called
    contents(folder(root, cache=keep))
    monkeypatch.setattr(image_folder, "Reader", reader)
    (root / "test/owl/000.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"000\.png"):
        contents(folder(root, cache=keep))


def test_an_archive_whose_content_changed_at_equal_length_is_checked_again(root, tmp_path):
    contents(folder(zipped(root, tmp_path / "data.zip")))
    image = root / "test/owl/000.png"
    image.write_bytes(b"x" * image.stat().st_size)
    with pytest.raises(UserError, match=r"000\.png"):
        contents(folder(zipped(root, tmp_path / "data.zip")))


def read_often(tree, expected):
    for _ in range(60):
        for path, content in expected.items():
            assert tree.read(path) == content


def test_forked_processes_do_not_disturb_one_another_in_an_archive(root, tmp_path):
    tree = ZipArchive(zipped(root, tmp_path / "data.zip"))
    expected = {path: tree.read(path) for path in tree.files()}
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=read_often, args=(tree, expected)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(500)
    assert [child.exitcode for child in children] == [0, 0, 0]


def test_every_class_keeps_a_training_image(tmp_path):
    counts = {"train": {"owl": 1, "tit": 2, "wren": 9}, "test": {"owl": 1, "tit": 1, "wren": 1}}
    data = folder(write_images(tmp_path / "data", counts), val_fraction=0.9)
    assert torch.bincount(data.splits["train"].labels).tolist() == [1, 1, 1]
    assert torch.bincount(data.splits["val"].labels).tolist() == [0, 1, 8]


def test_a_failed_check_leaves_no_cache(root, tmp_path):
    (root / "test/owl/000.png").write_bytes(b"not an image")
    with pytest.raises(UserError):
        contents(folder(root, cache_dir=str(tmp_path / "cache")))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named_or_done_without(root, tmp_path):
    expected = contents(folder(root, cache=False))
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"The image cache .*cache cannot be written .*data.cache_dir"):
        contents(folder(root, cache_dir=str(tmp_path / "cache"), cache=True))
    with pytest.warns(UserWarning, match=r"cache cannot be written .* checked again in every run"):
        assert contents(folder(root, cache_dir=str(tmp_path / "cache"), cache=False)) == expected


def test_a_full_disk_is_reported_and_leaves_nothing_behind(root, tmp_path, monkeypatch):
    def full(images, folder, name):
        (folder / "half.pixels").write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_folder, "pack", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): .*data\.cache_dir"):
        folder(root, cache_dir=str(tmp_path / "cache")).prepare_data()
    assert list((tmp_path / "cache").iterdir()) == []


def test_grey_palette_and_transparent_images_become_rgb(root):
    image = Image.open(root / "train/owl/000.png")
    image.convert("L").save(root / "train/owl/grey.png")
    image.convert("P").save(root / "train/owl/palette.gif")
    image.convert("RGBA").save(root / "train/owl/transparent.webp", lossless=True)
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160).save(root / "train/owl/deep.png")
    assert len(contents(folder(root, val_fraction=0))["train"]) == 35


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    values = np.array([[0, 257 * 5], [257 * 200 + 90, 65535]], dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    assert read_image(buffer.getvalue(), "deep")[..., 1].tolist() == [[0, 5], [200, 255]]


def test_values_that_nothing_says_the_white_of_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0.25, 3.5]], dtype=np.float32)).save(buffer, "tiff")
    with pytest.raises(UserError, match=r"depth\.tiff cannot be read as an image: its values are of mode F .* to 3.5"):
        read_image(buffer.getvalue(), "depth.tiff")


def test_a_copy_at_another_place_holds_the_same(root, tmp_path):
    copied = shutil.copytree(root, tmp_path / "copy")
    data = folder(copied)
    assert data.contents() == folder(root).contents()
    assert data.fingerprint() != folder(root).fingerprint()
    assert folder(zipped(root, tmp_path / "copy.zip")).contents() == data.contents()
    (copied / "notes.txt").write_text("nothing to do with it")
    assert folder(copied).contents() == data.contents()
    next((copied / "test").rglob("*.png")).unlink()
    assert folder(copied).contents() != folder(root).contents()


def test_a_photograph_taken_upright_is_turned_upright():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.new("RGB", (20, 10))
    sideways.paste((255, 0, 0), (0, 0, 10, 10))
    sideways.save(buffer, "png", exif=exif)
    upright = read_image(buffer.getvalue(), "photo.png")
    assert upright.shape == (20, 10, 3)
    assert upright[0, 0].tolist() == [255, 0, 0]
    assert upright[19, 0].tolist() == [0, 0, 0]


def test_files_that_are_no_images_by_name_are_left_out(root):
    (root / "train/owl/notes.txt").write_text("hello")
    (root / "train/owl/.DS_Store").write_bytes(b"x")
    (root / "train/.hidden").mkdir()
    (root / "readme.md").write_text("hello")
    (root / "train/owl/more").mkdir()
    (root / "train/owl/000.png").rename(root / "train/owl/more/zzz.PNG")
    data = folder(root, val_fraction=0)
    assert len(contents(data)["train"]) == 31
    assert "train/owl/more/zzz.PNG" in data.plain_train_dataset.names


# -- equal images -----------------------------------------------------------------------------------------------------


def with_repeats(root):
    """Repeat 6 of the 21 training images of a class as files of another format, one of them twice."""
    for i in range(6):
        Image.open(root / f"train/tit/{i:03d}.png").save(root / f"train/tit/copy{i}.bmp")
    Image.open(root / "train/tit/000.png").save(root / "train/tit/zcopy.tiff")
    return root


@pytest.mark.parametrize("keep", [True, False])
def test_equal_training_images_stay_on_one_side(root, keep):
    with_repeats(root)
    for seed in (0, 1, 2, 2):  # the last one from the cache
        found = contents(folder(root, val_fraction=0.3, seed=seed, cache=keep))
        train, val = ({image for image, _, _ in found[split]} for split in ("train", "val"))
        assert not train & val
        assert len(found["train"]) + len(found["val"]) == 38
        assert [label for _, label, _ in found["val"]] == [0] * 3 + [1] * 8  # 0.3 of 10 and of 28, rounded


def test_a_class_of_equal_images_is_not_divided(tmp_path):
    root = write_images(tmp_path / "data", {"train": {"owl": 1, "tit": 9}, "test": {"owl": 1, "tit": 1}})
    for i in range(4):
        Image.open(root / "train/owl/000.png").save(root / f"train/owl/{i}.bmp")
    data = folder(root, val_fraction=0.5)
    assert torch.bincount(data.splits["train"].labels).tolist() == [5, 5]
    assert torch.bincount(data.splits["val"].labels).tolist() == [0, 4]


def test_different_images_that_are_equal_once_resized_are_no_repeats(root):
    for split, grey in (("train", 100), ("test", 101)):
        pixels = np.full((80, 80, 3), 50, dtype=np.uint8)
        pixels[5, 5] = grey
        Image.fromarray(pixels).save(root / split / "owl/faint.png")
    found = contents(folder(root, val_fraction=0))
    faint = [image for split in ("train", "test") for image, _, name in found[split] if "faint" in name]
    assert len(faint) == 2
    assert faint[0] == faint[1]


def test_images_of_other_shape_with_the_same_bytes_are_no_repeats(root):
    for split, size in (("train", (20, 10)), ("test", (10, 20))):
        Image.new("RGB", size, (9, 8, 7)).save(root / split / "owl/plain.png")
    assert len(contents(folder(root, val_fraction=0))["train"]) == 32


@pytest.mark.parametrize(("keep", "old_key"), [(True, "images-{}-8"), (False, "checked-{}")])
def test_what_an_earlier_version_kept_is_not_used(root, tmp_path, keep, old_key):
    def data():
        return folder(root, cache=keep, cache_dir=str(tmp_path / "cache"), normalisation="imagenet")

    contents(data())
    (entry,) = (tmp_path / "cache").iterdir()
    repeated_in_another_format(root)
    # the first version's keys had no number, and it let such a copy pass
    tree = data().listing.tree.fingerprint()
    entry.rename(entry.with_name(old_key.format(tree)))
    assert data().fingerprint() != f"{tree}-0.1-0"  # of kept statistics
    with pytest.raises(UserError, match="in two splits"):
        contents(data())


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_kept_of_other_images_of_the_same_files_is_not_used(root, tmp_path, keep):
    """Where another version finds other splits in a folder, the pixels of one image had the label of another."""

    def data(change):
        module = folder(root, cache=keep, cache_dir=str(tmp_path / "cache"), normalisation="imagenet")
        listing = module.listing
        module.__dict__["listing"] = replace(listing, files=change(listing.files))
        return module

    one, other = data(lambda files: files), data(lambda files: {split: rows[::-1] for split, rows in files.items()})
    contents(one)
    contents(other)
    assert len(list((tmp_path / "cache").glob("images-*" if keep else "checked-*"))) == 2
    assert one.fingerprint() != other.fingerprint()
    whole = {name: pixels for pixels, _, name in contents(one)["test"]}
    assert {name: pixels for pixels, _, name in contents(other)["test"]} == whole


def test_an_entry_of_fewer_images_is_made_again(root, tmp_path):
    """It was taken for whole, since its own numbers agree."""

    def data():
        return folder(root, cache=True, cache_dir=str(tmp_path / "cache"), normalisation="imagenet")

    before = contents(data())
    (entry,) = (tmp_path / "cache").glob("images-*")
    for end in ("pixels", "crc32", "shapes.json"):
        shutil.copy(entry / f"test.{end}", entry / f"train.{end}")
    assert contents(data()) == before


# -- refusals, each by a real broken data set -------------------------------------------------------------------------


def truncated(root):
    path = root / "test/tit/002.png"
    path.write_bytes(path.read_bytes()[:-80])


def truncated_jpeg(root):
    path = root / "test/tit/002.jpg"
    Image.open(root / "test/tit/002.png").resize((64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unreadable(root):
    (root / "train/owl/003.png").write_text("I am not an image")


def empty_file(root):
    (root / "train/owl/003.png").write_bytes(b"")


def empty_class(root):
    for path in (root / "train/owl").iterdir():
        path.unlink()


def class_only_in_test(root):
    write_images(root, {"test": {"wren": 2}})


def class_only_in_train(root):
    write_images(root, {"train": {"wren": 2}})


def class_only_in_val(root):
    write_images(root, {"val": {"owl": 1, "tit": 1, "wren": 2}})


def class_missing_in_val(root):
    write_images(root, {"val": {"owl": 1}})


def repeated(root):
    (root / "test/tit/copy.png").write_bytes((root / "train/owl/005.png").read_bytes())


def repeated_in_another_format(root):
    Image.open(root / "train/owl/005.png").save(root / "test/owl/copy.bmp")


def repeated_with_another_tag(root):
    exif = Image.Exif()
    exif[0x010E] = "another description"
    image = Image.open(root / "train/owl/005.png")
    image.save(root / "test/owl/copy.png", exif=exif)
    assert (root / "test/owl/copy.png").read_bytes() != (root / "train/owl/005.png").read_bytes()


def repeated_turned_with_a_note_of_it(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.open(root / "train/owl/005.png").rotate(90, expand=True).save(root / "test/owl/copy.png", exif=exif)


def repeated_in_val(root):
    write_images(root, {"val": {"owl": 0, "tit": 0}})
    Image.open(root / "train/owl/005.png").resize((9, 9)).save(root / "val/owl/000.png")
    Image.open(root / "test/tit/001.png").save(root / "val/tit/copy.bmp")


def repeated_in_another_class(root):
    Image.open(root / "train/owl/005.png").save(root / "train/tit/copy.bmp")


def repeated_in_another_class_of_test(root):
    (root / "test/tit/copy.png").write_bytes((root / "test/owl/001.png").read_bytes())


def no_test(root):
    (root / "test").rename(root / "holdout")


def one_class(root):
    for split in ("train", "test"):
        for path in (root / split / "tit").iterdir():
            path.unlink()
        (root / split / "tit").rmdir()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "test/tit/002.png cannot be read as an image"),
        (truncated_jpeg, "test/tit/002.jpg cannot be read as an image"),
        (unreadable, "train/owl/003.png cannot be read as an image"),
        (empty_file, "train/owl/003.png cannot be read as an image"),
        (empty_class, "The class folder .*train/owl has no image in it"),
        (class_only_in_test, "The class 'wren' is in .*test, but not in .*train"),
        (class_only_in_train, "The class 'wren' is in .*train, but not in .*test"),
        (class_only_in_val, "The class 'wren' is in .*val, but not in .*train"),
        (class_missing_in_val, "The class 'tit' is in .*train, but not in .*val"),
        (repeated, "The same image is in two splits: .*train/owl/005.png and .*test/tit/copy.png have equal pixels"),
        (repeated_in_another_format, "in two splits: .*train/owl/005.png and .*test/owl/copy.bmp have"),
        (repeated_with_another_tag, "in two splits: .*train/owl/005.png and .*test/owl/copy.png have"),
        (repeated_turned_with_a_note_of_it, "in two splits: .*train/owl/005.png and .*test/owl/copy.png have"),
        (repeated_in_val, "in two splits: .*val/tit/copy.bmp and .*test/tit/001.png have"),
        (repeated_in_another_class, "The same image is in two classes: .*train/owl/005.png and .*tit/copy.bmp have"),
        (repeated_in_another_class_of_test, "in two classes: .*test/owl/001.png and .*test/tit/copy.png have"),
        (no_test, "has no folder test/ with a folder of images for each class"),
        (one_class, "train has 1 class folders; at least two are needed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data_is_refused_with_a_sentence_that_names_the_file(root, tmp_path, damage, message, keep, packed):
    damage(root)
    place = zipped(root, tmp_path / "data.zip") if packed else root
    with pytest.raises(UserError, match=message) as refusal:
        folder(place, cache=keep).prepare_data()
    assert "\n" not in str(refusal.value)
    assert "0x" not in str(refusal.value)
    assert str(place) in str(refusal.value)


def test_a_missing_root_and_a_broken_archive_are_refused(tmp_path, root):
    with pytest.raises(UserError, match=r"data.root .*nowhere does not exist"):
        _ = folder(tmp_path / "nowhere").num_classes
    (tmp_path / "text.zip").write_text("not an archive")
    with pytest.raises(UserError, match=r"text.zip is neither a folder nor a readable zip or tar archive"):
        _ = folder(tmp_path / "text.zip").num_classes
    archive = zipped(root, tmp_path / "data.zip")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo("test/tit/001.png").header_offset
    content[start + 100] ^= 255
    archive.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"test/tit/001.png in .*data.zip cannot be read"):
        folder(archive, cache_dir=str(tmp_path / "cache")).prepare_data()


def test_an_archive_is_never_unpacked(tmp_path, root):
    archive = zipped(root, tmp_path / "data.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../outside.png", (root / "train/owl/000.png").read_bytes())
        file.writestr("train/../../escaped.png", b"x")
    folder(archive, cache_dir=str(tmp_path / "cache")).prepare_data()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "data.zip"]


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_an_impossible_fraction_is_refused(root, fraction):
    with pytest.raises(UserError, match=r"data\.val_fraction must be at least 0 and below 1"):
        folder(root, val_fraction=fraction)


def test_a_small_fraction_still_takes_one_image_of_every_class(root):
    data = folder(root, val_fraction=0.01)
    assert torch.bincount(data.splits["val"].labels).tolist() == [1, 1]


def test_classes_of_one_image_leave_nothing_to_validate_on(tmp_path):
    one = {"owl": 1, "tit": 1}
    with pytest.raises(UserError, match=r"No validation image can be drawn .* Set data\.val_fraction to 0"):
        folder(write_images(tmp_path / "data", {"train": one, "test": one})).prepare_data()


def test_what_was_read_is_said_once(root, capsys):
    for _ in range(2):
        _ = ImageFolder(str(root)).splits
    assert capsys.readouterr().out.count("Read ") == 1
