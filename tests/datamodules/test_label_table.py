import pytest
import torch
from PIL import Image

from datamodules.image_folder import ImageFolder
from handful.errors import UserError
from tests.datamodules.fakes import write_images, zipped

ROWS = [("owl/000.png", "owl", "train"), ("owl/001.png", "owl", "test"), ("tit/000.png", "tit", "train"),
        ("tit/001.png", "tit", "test"), ("tit/002.png", "tit", "val"), ("owl/002.png", "owl", "val")]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return write_images(tmp_path / "photos", {"": {"owl": 6, "tit": 7}})


def table(root, rows=ROWS, header="path,label,split", delimiter=",", name="labels.csv", encoding="utf-8", end="\n"):
    lines = ([header.replace(",", delimiter)] if header else []) + [delimiter.join(row) for row in rows]
    (root / name).write_bytes((end.join(lines) + end).encode(encoding))
    return root / name


def data(path, **options):
    return ImageFolder(str(path), **{"image_size": 8, "batch_size": 2, "normalisation": "imagenet", **options})


def found(module):
    return {(name, module.class_names[label], split)
            for split, images in module.splits.items()
            for name, label in zip(images.names, images.labels.tolist(), strict=True)}  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [{}, {"header": "Filename,Class,Subset"}, {"delimiter": ";"}, {"delimiter": "\t", "name": "labels.tsv"},
     {"delimiter": "|"}, {"encoding": "utf-8-sig"}, {"encoding": "utf-16"}, {"end": "\r\n"}, {"header": ""},
     {"rows": [(f'"{p}"', f'"{c}"', f" {s} ") for p, c, s in ROWS]},
     {"rows": [(f"./{p}", c, s.upper()) for p, c, s in ROWS]},
     {"rows": [(p.replace("/", "\\"), c, s.replace("val", "validation")) for p, c, s in ROWS]}],
    ids=str,
)  # fmt: skip
def test_forms_of_tables(root, form):
    module = data(table(root, **form))
    assert found(module) == set(ROWS)
    assert module.class_names == ["owl", "tit"]
    assert torch.equal(module.splits["test"].labels, torch.tensor([0, 1]))


def test_a_table_for_a_folder_elsewhere_and_absolute_paths(root, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    expected = found(data(table(root)))
    assert "7 images that are not in labels.csv" in capsys.readouterr().out
    assert found(data(root, labels=str(table(elsewhere)))) == expected
    absolute = table(elsewhere, [(str(root / path), label, split) for path, label, split in ROWS])
    assert found(data(root, labels=str(absolute))) == expected
    assert len(data(absolute).splits["train"]) == 2
    assert len(data(table(elsewhere, [(f"../photos/{p}", c, s) for p, c, s in ROWS])).splits["train"]) == 2


@pytest.mark.parametrize("written", ["./owl/000.png", "owl//000.png", "owl/./000.png", "tit/../owl/000.png",
                                     "../photos/owl/000.png", "{root}/owl/000.png", "{root}/tit/../owl/000.png",
                                     "{link}/owl/000.png", "owl\\000.png"])  # fmt: skip
def test_a_file_has_one_name_however_a_row_writes_it(root, tmp_path, monkeypatch, written):
    """Otherwise the same image counts twice."""
    (tmp_path / "link").symlink_to(root)
    row = (written.format(root=root, link=tmp_path / "link"), "owl", "train")
    monkeypatch.chdir(tmp_path)
    for place in (root, "photos"):
        with pytest.raises(UserError, match=r"line 8: .*000\.png is in line 2 already"):
            _ = data(place, labels=str(table(root, [*ROWS, row]))).splits
    assert found(data(table(root, [row, *ROWS[1:]]))) == set(ROWS)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_paths_of_a_table_start_at_the_root_or_behind_its_only_folder(tmp_path, kind):
    """An archive is often one folder, and the table was made before or after it was packed."""
    outer = tmp_path / "outer"
    write_images(outer / "birds", {"": {"owl": 6, "tit": 7}})
    place = outer if kind == "folder" else zipped(outer, tmp_path / "birds.zip")
    for prefix in ("", "birds/", "./birds/"):
        labels = table(tmp_path, [(prefix + path, label, split) for path, label, split in ROWS])
        assert found(data(place, labels=str(labels))) == set(ROWS)
    labels = table(tmp_path, [("photos/owl/000.png", "owl", "train"), *ROWS[1:]])
    with pytest.raises(UserError, match=r"no file photos/owl/000\.png in .*; is owl/000\.png meant"):
        _ = data(place, labels=str(labels)).splits


def test_splits_are_drawn_where_the_table_has_none(root):
    rows = [(f"{c}/{i:03d}.png", {"owl": "10", "tit": "9"}[c]) for c in ("owl", "tit") for i in range(6)]
    module = data(table(root, rows, header="image,label"))
    assert module.class_names == ["9", "10"]
    assert {split: len(images) for split, images in module.splits.items()} == {"train": 8, "test": 2, "val": 2}


def test_other_labels_of_the_same_files_are_other_data(root):
    one = data(table(root))
    before = one.contents(), one.fingerprint()
    other = data(table(root, [(p, {"owl": "tit", "tit": "owl"}[c], s) for p, c, s in ROWS]))
    assert other.contents() != before[0]
    assert other.fingerprint() != before[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ("owl/0003.png", "owl", "train")],
         r"labels\.csv, line 8: there is no file owl/0003\.png in .*photos; is owl/003\.png meant"),
        ([*ROWS, ("owl/003", "owl", "train")], r"no file owl/003 in .*; is owl/003\.png meant"),
        ([*ROWS, ("owl/003.png", "owl", "trian")], r"line 8: unknown split 'trian', is train meant"),
        ([*ROWS, ("owl/003.png", "owl", "")], r"line 8: there is no split, as other lines have one"),
        ([*ROWS, ("owl/003.png", "", "train")], r"line 8: owl/003\.png has no label"),
        ([*ROWS, ROWS[0]], r"line 8: owl/000\.png is in line 2 already"),
        ([*ROWS, ("./owl/000.png", "tit", "train")],
         r"line 8: \./owl/000\.png has the label 'tit', but 'owl' in line 2"),
        ([*ROWS, ("owl/000.png", "owl", "test")], r"line 8: owl/000\.png has the split 'test', but 'train' in line 2"),
        ([*ROWS, ("gone1.png", "owl", "test"), ("gone2.png", "owl", "test")], r"^2 problems: .*gone1.*; .*gone2"),
        ([row for row in ROWS if row[1:] != ("owl", "train")], r"no training image of the class 'owl'"),
        ([row for row in ROWS if row[1] == "owl"], r"labels\.csv has 1 labels; at least two are needed"),
        ([], r"has a header and no rows"),
    ],
)  # fmt: skip
def test_wrong_rows_are_refused_in_a_sentence(root, rows, message):
    with pytest.raises(UserError, match=message) as refusal:
        _ = data(table(root, rows)).splits
    assert "\n" not in str(refusal.value)


def test_rows_that_repeat_another_are_dropped_where_repeats_are(root, capsys):
    module = data(table(root, [*ROWS, ROWS[0]]), repeats="drop")
    assert found(module) == set(ROWS)
    assert "1 rows that repeat another" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"a,b\nx,y\n", "needs the columns path and label"),
     (b"path,label\n\xff\xfeowl,x\n", "not UTF-8"),
     (b"path\nowl/000.png\n", "needs the columns"), (b"path,label\nowl/000.png\n", "line 2: there is no label"),
     (b"path,label\n\0\0", "not a text file")],
)  # fmt: skip
def test_tables_that_are_none(root, content, message):
    (root / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        _ = data(root / "labels.csv").splits


def test_a_folder_of_loose_images_with_a_table_is_pointed_to_the_option(root):
    flat = root.parent / "flat"
    flat.mkdir()
    Image.new("RGB", (9, 9)).save(flat / "a.png")
    table(flat)
    with pytest.raises(UserError, match=r"no class folders\. If labels\.csv lists the classes, set data\.labels"):
        _ = data(flat).splits
    with pytest.raises(UserError, match=r"gone\.csv cannot be read"):
        _ = data(root, labels=str(root / "gone.csv")).splits
