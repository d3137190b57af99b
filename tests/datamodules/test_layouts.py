"""The forms that a person's images come in: folders, archives, tables, and what lies among them."""

import io
import math
import os
import shutil
import stat
import tarfile
import unicodedata
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import base
from datamodules.image_folder import ImageFolder
from handful.errors import UserError
from tests.datamodules.fakes import write_images, zipped

COUNTS = {"train": {"owl": 10, "tit": 21}, "test": {"owl": 3, "tit": 4}}
CLASSES = {"": {"owl": 10, "tit": 21, "wren": 1}}


def data(root, **options):
    return ImageFolder(str(root), **{"image_size": 8, "batch_size": 4, "normalisation": "imagenet", **options})


def names(module):
    return {split: list(images.names) for split, images in module.splits.items()}


def png(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


# -- clutter ----------------------------------------------------------------------------------------------------------

CLUTTER = [
    "@eaDir/owl/SYNOPHOTO_THUMB_M.jpg", "train/@eaDir/x.jpg", "train/owl/@eaDir/000.png/SYNOFILE_THUMB_S.png",
    "train/.thumbnails/a.png", "train/owl/Thumbs.db", "test/tit/THUMBS.DB", "train/owl/.DS_Store",
    "train/owl/._000.png", "__MACOSX/train/owl/._000.png", "train/__MACOSX/a.png", "train/owl/desktop.ini",
    "train/.ipynb_checkpoints/a.png", "lost+found/a.png",
    "train/lost+found/a.png", "train/owl/.hidden.png", "train/owl/#recycle/a.png",
    "train/$RECYCLE.BIN/a.png", "train/owl/000.png:Zone.Identifier",
    # contents of images, beside the image or unfinished
    "train/owl/000.png.bak", "train/owl/000.jpg.tmp", "test/tit/a.JPEG.partial", "train/owl/~$000.png",
    "train/owl/0.webp.orig", "train/owl/thumbnails/000.png", "train/_thumbs/a.png",
]  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_clutter_is_neither_image_nor_class_and_is_counted(tmp_path, packed, capsys):
    root = write_images(tmp_path / "data", COUNTS)
    expected = names(data(root))
    for number, path in enumerate(CLUTTER):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png(1000 + number))
    (root / "train/owl/notes.txt").write_text("hello")
    capsys.readouterr()
    place = zipped(root, tmp_path / "data.zip") if packed else root
    assert names(data(place)) == expected
    (line,) = capsys.readouterr().out.splitlines()
    assert "38 images of 2 classes" in line
    assert "28 training, 3 validation (drawn: 10% of each class, seed 0), 7 test" in line
    assert "hidden (" in line
    assert "thumbnails and system files (" in line
    assert "unfinished files and backup copies (" in line
    assert "1 that is not an image (train/owl/notes.txt)" in line


def test_content_decides_where_a_suffix_misleads_or_is_missing(tmp_path):
    root = write_images(tmp_path / "data", COUNTS)
    (root / "train/owl/download").write_bytes(png(1))
    (root / "train/owl/picture.dat").write_bytes(png(2))
    file = io.BytesIO()
    Image.open(io.BytesIO(png(3))).save(file, "webp", lossless=True)
    (root / "train/owl/really_webp.JPG").write_bytes(file.getvalue())
    found = names(data(root, val_fraction=0))["train"]
    assert {"train/owl/download", "train/owl/picture.dat", "train/owl/really_webp.JPG"} <= set(found)


def test_validation_has_every_class_of_two_images_or_it_is_said(tmp_path, capsys):
    root = write_images(tmp_path / "data", {s: {"owl": 40, "tit": 2, "wren": 1} for s in ("train", "test")})
    module = data(root)
    assert torch.bincount(module.splits["val"].labels, minlength=3).tolist() == [4, 1, 0]
    assert "1 class has no validation image (wren)" in capsys.readouterr().out


# -- folders without splits -------------------------------------------------------------------------------------------


def test_class_folders_without_splits_are_divided_by_class_and_seed(tmp_path, capsys):
    root = write_images(tmp_path / "data", CLASSES)
    module = data(root, test_fraction=0.3, val_fraction=0.2)
    assert module.class_names == ["owl", "tit", "wren"]
    counts = {s: torch.bincount(images.labels, minlength=3).tolist() for s, images in module.splits.items()}
    assert counts == {"train": [6, 12, 1], "test": [3, 6, 0], "val": [1, 3, 0]}
    out = capsys.readouterr().out
    assert "9 test (drawn: 30% of each class, seed 0)" in out
    assert "1 class has no test image (wren)" in out
    every = sorted(name for split in names(module).values() for name in split)
    assert every == sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    assert names(data(root, test_fraction=0.3, val_fraction=0.2)) == names(module)
    assert names(data(root, test_fraction=0.3, val_fraction=0.2, seed=1))["test"] != names(module)["test"]


def test_a_results_file_says_which_images_tested(tmp_path):
    """Whichever folder or archive they lie in, and whatever validation images are drawn."""
    write_images(tmp_path / "data", CLASSES)
    write_images(tmp_path / "moved/birds", CLASSES)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "moved")

    def of(root, **options):
        return data(root, test_fraction=0.3, **options).summary()["test_images"]

    found = of(tmp_path / "data")
    assert found == of(tmp_path / "moved/birds") == of(tmp_path / "packed.zip") == of(tmp_path / "data", val_fraction=0)
    assert found != of(tmp_path / "data", seed=1)


def test_repeats_never_stand_on_both_sides_of_a_drawn_split(tmp_path):
    root = write_images(tmp_path / "data", CLASSES)
    for i in range(6):
        for copy in range(2):
            Image.open(root / f"tit/{i:03d}.png").save(root / f"tit/{i}-{copy}.bmp")
    for seed in range(4):
        splits = data(root, test_fraction=0.3, seed=seed).splits
        pixels = {s: {images.pixels(i).numpy().tobytes() for i in range(len(images))} for s, images in splits.items()}
        assert not pixels["train"] & pixels["test"]
        assert not pixels["train"] & pixels["val"]
        assert not pixels["val"] & pixels["test"]


@pytest.mark.parametrize("spelling", [("Train", "TEST"), ("training", "testing"), ("train ", "test")])
def test_other_spellings_of_the_splits(tmp_path, spelling):
    root = write_images(tmp_path / "data", COUNTS | {"Validation": {"owl": 2, "tit": 2}})
    for old, new in zip(("train", "test"), spelling, strict=True):
        (root / old).rename(root / new)
    assert {split: len(images) for split, images in data(root).splits.items()} == {"train": 31, "val": 4, "test": 7}


def test_train_alone_gives_test_images_too(tmp_path):
    root = write_images(tmp_path / "data", {"train": COUNTS["train"]})
    assert {s: len(images) for s, images in data(root).splits.items()} == {"train": 22, "test": 6, "val": 3}


def test_a_class_may_be_called_train(tmp_path):
    root = write_images(tmp_path / "data", {"": {"train": 5, "plane": 5, "car": 5}})
    assert data(root).class_names == ["car", "plane", "train"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: write_images(root, COUNTS) / "train", r"train is one of test, train: give the folder .*data"),
        (lambda root: write_images(root / "birds", COUNTS) and write_images(root / "cars", COUNTS) and root,
         r"one level too high: birds/ holds test and train itself; give .*data/birds"),
        (lambda root: write_images(root, {"": {"owl": 3, "tit": 3}}) / "owl", r"owl has 3 images and no class folders"),
        (lambda root: write_images(root, {"": {"train": 3, "test": 3}}), r"data/t.* has 0 class folders"),
        (lambda root: write_images(root, COUNTS | {"training": {"owl": 1}}), r"two folders for train images"),
        (lambda root: (root / "owl").mkdir(parents=True) or (root / "tit").mkdir() or root,
         r"class folder .*owl has no image"),
        (lambda root: write_images(root, {"train": {"owl": 2, "tit": 2}, "test": {"owls": 2, "tit": 1}}),
         r"The class 'owl' is in .*train, but not in .*test; is 'owls' the same"),
    ],
)  # fmt: skip
def test_a_root_too_high_or_too_low_is_said(tmp_path, build, message):
    with pytest.raises(UserError, match=message):
        _ = data(build(tmp_path / "data")).splits


def test_folders_within_folders_are_entered(tmp_path, capsys):
    inside = write_images(tmp_path / "photos/birds of prey", COUNTS)
    module = data(tmp_path / "photos")
    assert names(module) == names(data(inside))
    assert str(inside) in capsys.readouterr().out


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_unicode_forms_of_a_name_are_one_class(tmp_path, packed):
    root = write_images(tmp_path / "data", COUNTS)
    for split, form in (("train", "NFC"), ("test", "NFD")):
        (root / split / "owl").rename(root / split / unicodedata.normalize(form, "Käuzchen é"))
    module = data(zipped(root, tmp_path / "d.zip") if packed else root)
    assert module.class_names == [unicodedata.normalize("NFC", "Käuzchen é"), "tit"]
    assert len(module.splits["test"]) == 7


def test_names_that_are_not_utf8_are_refused_or_skipped(tmp_path):
    root = write_images(tmp_path / "data", COUNTS)
    os.rename(os.fsencode(root / "train/owl/003.png"), os.fsencode(root / "train/owl") + b"/caf\xe9.png")
    with pytest.raises(UserError, match=r"train/owl/caf\\xe9\.png cannot be used: its name is not UTF-8"):
        _ = data(root).splits
    assert len(data(root, unreadable="skip", val_fraction=0).splits["train"]) == 30
    os.rename(root / "train/owl", os.fsencode(root / "train") + b"/caf\xe9")
    os.rename(root / "test/owl", os.fsencode(root / "test") + b"/caf\xe9")
    with pytest.raises(UserError, match=r"class folder caf\\xe9 .*not UTF-8") as refusal:
        _ = data(root).splits
    str(refusal.value).encode("utf-8")


# -- links and devices ------------------------------------------------------------------------------------------------


def test_links_are_followed_and_circles_and_pipes_left_out(tmp_path, capsys):
    root = write_images(tmp_path / "data", COUNTS)
    elsewhere = write_images(tmp_path / "elsewhere", {"": {"more": 2}})
    for path in (elsewhere / "more").iterdir():
        path.write_bytes(png(int(path.stem) + 50))
    (root / "train/owl/linked").symlink_to(elsewhere / "more")
    (root / "train/owl/loop").symlink_to(root / "train")
    (root / "train/tit/self").symlink_to(".")
    (root / "train/tit/nothing.txt").symlink_to("nowhere")
    os.mkfifo(root / "train/tit/pipe.png")
    assert len(data(root, val_fraction=0).splits["train"]) == 33
    out = capsys.readouterr().out
    assert "2 symbolic links that lead in a circle (train/owl/loop/)" in out
    assert "1 link to nothing (train/tit/nothing.txt)" in out
    assert "1 file that is not regular (train/tit/pipe.png)" in out
    (root / "test/tit/gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"test/tit/gone\.png cannot be read: No such file"):
        _ = data(root).splits


# -- archives ---------------------------------------------------------------------------------------------------------


def archive(path, entries, change=lambda info: None):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            change(info)
            file.writestr(info, content)
    return path


def entries(join="/", prefix="", owl="owl"):
    found = {}
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            for i in range(count):
                found[prefix + join.join((split, owl if name == "owl" else name, f"{i:03d}.png"))] = png(len(found))
    return found


@pytest.mark.parametrize(("join", "prefix"), [("\\", ""), ("\\", "photos\\"), ("/", "./"), ("/", "./a/./"), ("/", "/")])
def test_archives_of_windows_and_of_find(tmp_path, join, prefix):
    expected = names(data(archive(tmp_path / "plain.zip", entries())))
    path = tmp_path / "other.zip"
    archive(path, {name.replace("\\", "|"): content for name, content in entries(join, prefix).items()})
    path.write_bytes(path.read_bytes().replace(b"|", b"\\"))
    assert names(data(path)) == expected


@pytest.mark.parametrize(("name", "encoding"), [("Käuzchen", "cp437"), ("フクロウ", "cp932"), ("梟", "cp932"),
                                                ("Käuzchen", "utf-8"), ("niño", "cp437")])  # fmt: skip
def test_names_in_the_code_pages_of_archives(tmp_path, name, encoding):
    path = tmp_path / "data.zip"
    stand_in = "Q" * len(name.encode(encoding))
    archive(path, entries(owl=stand_in))
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), name.encode(encoding)))
    assert sorted(data(path).class_names) == sorted([name, "tit"])


def test_links_bombs_and_paths_that_lead_outside_of_an_archive(tmp_path, capsys):
    path = archive(tmp_path / "data.zip", entries())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        for name in ("../../escaped.png", "train/owl/../../../out.png", "C:/windows/owl.png"):
            file.writestr(name, png(7))
        link = zipfile.ZipInfo("train/owl/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        pipe = zipfile.ZipInfo("train/owl/pipe.png")
        pipe.external_attr = (stat.S_IFIFO | 0o777) << 16
        file.writestr(pipe, "")
    assert len(data(path, val_fraction=0).splits["train"]) == 31
    out = capsys.readouterr().out
    assert "3 with names that lead outside the archive" in out
    assert "2 links or devices in the archive (train/owl/link.png)" in out
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open("train/owl/bomb.png", "w") as bomb:
        for _ in range(70):
            bomb.write(bytes(2**20))
    with pytest.raises(UserError, match=r"train/owl/bomb\.png in .*data\.zip cannot be read: it unpacks to 70 MiB"):
        _ = data(path).splits


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("again", ["train/owl/000.png", "./train/owl/000.png", "train//owl/./000.png"])
def test_of_entries_with_one_name_the_last_counts_and_the_others_are_said(tmp_path, capsys, kind, again):
    """As when the archive is unpacked; a name may be written in several ways."""
    path, changed = tmp_path / f"data.{kind}", png(99)
    everything = [*entries().items(), (again, changed)]
    if kind == "zip":
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
            warnings.simplefilter("ignore")
            for name, content in everything:
                file.writestr(name, content)
    else:
        with tarfile.open(path, "w") as file:
            for name, content in everything:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))
    module = data(path, val_fraction=0)
    assert len(module.splits["train"]) == 31
    assert module.listing.tree.read("train/owl/000.png") == changed
    assert "1 replaced by a later one of the same name (train/owl/000.png)" in capsys.readouterr().out


def test_encrypted_nested_and_foreign_archives_are_said(tmp_path):
    path = archive(tmp_path / "locked.zip", entries())
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(mark, start + 4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"locked\.zip is encrypted"):
        _ = data(path).splits
    inner = archive(tmp_path / "inner.zip", entries())
    nested = archive(tmp_path / "nested.zip", {"photos/inner.zip": inner.read_bytes(), "__MACOSX/._inner.zip": b"x"})
    with pytest.raises(UserError, match=r"holds another archive, .*inner\.zip"):
        _ = data(nested).splits
    (tmp_path / "data.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(40))
    with pytest.raises(UserError, match=r"data\.7z is neither a folder nor a readable zip or tar archive"):
        _ = data(tmp_path / "data.7z").splits
    (tmp_path / "one.png").write_bytes(png(0))
    with pytest.raises(UserError, match=r"one\.png is one image"):
        _ = data(tmp_path / "one.png").splits
    with pytest.raises(UserError, match=r"does not exist\. Is .*nested\.zip meant\?"):
        _ = data(tmp_path / "nestd.zip").splits


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("keep", [True, False])
def test_tar_archives_equal_their_folder(tmp_path, kind, keep):
    root = write_images(tmp_path / "data", COUNTS)
    (root / "train/owl/._000.png").write_bytes(b"x")
    path = tmp_path / f"data.{kind}"
    with tarfile.open(path, "w:" + kind.partition(".")[2]) as file:
        file.add(root, "./photos")
        for name, target in (("./photos/train/owl/link.png", "/etc/passwd"), ("../out.png", "x")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            file.addfile(link)
        hard = tarfile.TarInfo("./photos/train/owl/second_name.png")
        hard.type, hard.linkname = tarfile.LNKTYPE, "photos/train/tit/000.png"
    module, folder = data(path, cache=keep, num_workers=2), data(root, cache=keep)
    assert names(module) == names(folder)
    for one, other in zip(module.test_dataloader(), folder.test_dataloader(), strict=True):
        assert torch.equal(one[0], other[0])


def test_a_damaged_tar_archive_is_named(tmp_path):
    root = write_images(tmp_path / "data", COUNTS)
    path = tmp_path / "data.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(root, "photos")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"data\.tar\.gz is not a readable tar archive"):
        _ = data(path, cache_dir=str(tmp_path / "cache")).splits
    assert list((tmp_path / "cache").iterdir()) == []


# -- many problems at once --------------------------------------------------------------------------------------------


def test_all_problems_are_listed_together(tmp_path):
    root = write_images(tmp_path / "data", COUNTS)
    for i in range(9):
        (root / f"train/tit/{i:03d}.png").write_text("no image")
    for i in range(3):
        (root / f"test/owl/copy{i}.png").write_bytes((root / f"train/owl/{i:03d}.png").read_bytes())
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"^12 problems: .*train/tit/000\.png cannot .* and 2 more, all listed in") as e:
        _ = data(root, cache_dir=str(cache)).splits
    assert "\n" not in str(e.value)
    assert "data.unreadable skip" in str(e.value)
    assert "data.repeats warn or drop" in str(e.value)
    (listed,) = cache.iterdir()
    assert str(listed) in str(e.value)
    assert len(listed.read_text().splitlines()) == 12


@pytest.mark.parametrize("keep", [True, False])
def test_unreadable_images_are_skipped_and_counted(tmp_path, keep, capsys):
    root = write_images(tmp_path / "data", COUNTS)
    whole = data(root, val_fraction=0)
    expected = {n: whole.splits["train"].pixels(i) for i, n in enumerate(whole.splits["train"].names)}
    for i in (0, 7):
        (root / f"train/tit/{i:03d}.png").write_text("no image")
    options = {"unreadable": "skip", "cache": keep, "val_fraction": 0, "cache_dir": str(tmp_path / "cache")}
    for read in range(2):  # the second time from the cache
        module = data(root, **options)
        train = module.splits["train"]
        assert len(train) == 29
        assert all(torch.equal(train.pixels(i), expected[name]) for i, name in enumerate(train.names))
        assert "2 unreadable (train/tit/000.png)" in module.report
        assert (module.report in capsys.readouterr().out) == (read == 0)  # said once in a process
    with pytest.raises(UserError, match="2 problems"):
        _ = data(root, **options | {"unreadable": "refuse"}).splits


def test_repeats_are_kept_with_a_warning_or_dropped_from_training(tmp_path, capsys):
    root = write_images(tmp_path / "data", COUNTS)
    (root / "test/owl/copy.png").write_bytes((root / "train/owl/000.png").read_bytes())
    (root / "train/owl/twice.png").write_bytes((root / "train/owl/001.png").read_bytes())
    (root / "train/tit/torn.png").write_bytes((root / "train/owl/002.png").read_bytes())
    with pytest.raises(UserError, match=r"2 problems: The same image is in two splits: .* in two classes"):
        _ = data(root).splits
    kept = data(root, repeats="warn", val_fraction=0)
    assert {s: len(i) for s, i in kept.splits.items()} == {"train": 33, "test": 8}
    assert "2 images stand in two splits or classes" in capsys.readouterr().out
    dropped = names(data(root, repeats="drop", val_fraction=0))
    assert {s: len(i) for s, i in dropped.items()} == {"train": 29, "test": 8}
    assert not {"train/owl/000.png", "train/owl/002.png", "train/tit/torn.png", "train/owl/twice.png"} & set(
        dropped["train"]
    )
    out = capsys.readouterr().out
    assert "2 repeated (" in out
    assert "2 that stand in two classes (" in out
    for options in ({"repeats": "keep"}, {"unreadable": "ignore"}, {"white": 0}, {"white": math.inf},
                    {"max_megapixels": -1}, {"max_megapixels": math.inf}, {"max_megapixels": math.nan}):  # fmt: skip
        with pytest.raises(UserError, match=r"^data\.\w+ must be"):
            data(root, **options)


# -- names that look alike --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "archive", "table"])
@pytest.mark.parametrize("other", ["Owl", "owl\u200b", "\u043ewl", "owl_"])
def test_classes_that_look_alike_are_warned_of_once(tmp_path, form, other, recwarn):
    root = write_images(tmp_path / f"data{form}{other}", {"": {"owl": 4, other: 5, "tit": 4}})
    if form == "table":
        rows = [f"{p.relative_to(root)},{p.parent.name}" for p in root.rglob("*.png")]
        (root / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    place = {"folder": root, "archive": tmp_path / "data.zip", "table": root / "labels.csv"}[form]
    if form == "archive":
        zipped(root, place)
    base._reported.clear()
    assert len(data(place).splits) == len(data(place).splits) == 3
    (said,) = [str(w.message) for w in recwarn if "look alike" in str(w.message)]
    assert "'owl'" in said
    assert "tit" not in said


def test_classes_that_do_not_look_alike_are_not(tmp_path, recwarn):
    _ = data(write_images(tmp_path / "data", CLASSES)).splits
    assert not [w for w in recwarn if "look alike" in str(w.message)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("beside", ["README.txt", "LICENSE", "read me.html", "about.pdf"])
def test_a_document_beside_the_only_folder_does_not_hide_it(tmp_path, packed, beside):
    """The folder was taken for the only class."""
    root = tmp_path / "download"
    write_images(root / "photos", CLASSES)
    (root / beside).write_text("where these come from")
    module = data(zipped(root, tmp_path / "data.zip") if packed else root)
    assert module.class_names == ["owl", "tit", "wren"]
    assert len(module.splits) == 3
    assert f"1 that is not an image ({beside})" in module.report


@pytest.mark.parametrize(("beside", "said"), [
    ("license-plate.png", "at least two are needed"), ("Terms of use.png", "at least two are needed"),
    ("citation.csv", r"all images lie in photos/; give .*citation\.csv"),
])  # fmt: skip
def test_a_picture_or_a_table_beside_a_folder_is_no_document(tmp_path, beside, said):
    root = tmp_path / "download"
    write_images(root / "photos", CLASSES)
    if beside.endswith(".csv"):
        (root / beside).write_text("path,label\n")
    else:
        (root / beside).write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=said):
        _ = data(root).splits


def unmarked(folder, *names, encoding):
    """A zip archive as old tools write it: names in a code page that it does not name."""
    path = folder / "data.zip"
    places = [f"{number:020}" for number in range(len(names))]
    with zipfile.ZipFile(path, "w") as file:
        for number, place in enumerate(places):
            file.writestr(place, png(number))
    content = path.read_bytes()
    for name, place in zip(names, places, strict=True):
        encoded = name.encode(encoding)
        stem, suffix = encoded[: -len(b".png")], b".png"
        content = content.replace(place.encode(), stem + b"0" * (20 - len(encoded)) + suffix)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("word", "encoding"),
    [("Häher", "cp1252"), ("Häher", "cp437"), ("Wing 45°", "cp437"), ("2 m²", "cp437"), ("Elle £5", "cp437"),
     ("Häher", "utf-8"), ("Crécerelle", "cp1252"), ("かもめ", "cp932"), ("鳥", "cp932"), ("鳥2", "cp932")],
)  # fmt: skip
def test_names_in_an_unnamed_code_page(tmp_path, word, encoding, recwarn):
    names = [f"{name}/{number}.png" for name in (word, "owl") for number in range(3)]
    module = data(unmarked(tmp_path, *names, encoding=encoding))
    assert set(module.class_names) == {word, "owl"}
    assert not [w for w in recwarn if "code page" in str(w.message)]


@pytest.mark.parametrize(("word", "encoding"), [("Чайка", "cp866"), ("海鸥", "gbk"), ("갈매기", "euc-kr")])
def test_names_that_nobody_can_decode_are_warned_of(tmp_path, word, encoding):
    names = [f"{name}/{number}.png" for name in (word, "owl") for number in range(3)]
    with pytest.warns(UserWarning, match="are in a code page that the archive does not name.*pack it again"):
        assert len(data(unmarked(tmp_path, *names, encoding=encoding)).class_names) == 2


MIXED = [("Häher", "cp437"), ("フクロウ", "cp932"), ("Crécerelle", "cp1252"), ("梟", "utf-8"), ("niño", "cp437")]


@pytest.mark.parametrize("words", [MIXED[:2], MIXED[1:3], MIXED, [MIXED[1], MIXED[3]]])
def test_names_in_several_code_pages(tmp_path, words):
    """One page for all gave garbled names of classes; each part of a name is read by itself, equal bytes alike."""
    path = tmp_path / "mixed.zip"
    names = {f"{number}{'Q' * len(word.encode(page))}": f"{number}".encode() + word.encode(page)
             for number, (word, page) in enumerate(words)}  # fmt: skip
    with zipfile.ZipFile(path, "w") as file:
        for number, (stand_in, _) in enumerate(names.items()):
            for image in range(3):
                file.writestr(f"{stand_in}/{image}.png", png(10 * number + image))
    content = path.read_bytes()
    for stand_in, name in names.items():
        content = content.replace(stand_in.encode(), name)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"names such as .* are in several code pages .*pack it again") as caught:
        found = data(path).class_names
    assert found == sorted(f"{number}{word}" for number, (word, _) in enumerate(words))
    assert len([one for one in caught if "code pages" in str(one.message)]) == 1
