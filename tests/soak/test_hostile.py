"""Files from somebody who means harm: nothing runs, nothing is written elsewhere, memory stays bounded."""

import csv
import io
import json
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.helpers.pipeline import ROOT
from tests.soak.canary import Touch
from tests.soak.outcome import Command, run_command
from tests.soak.pictures import png_header

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged input is warned of, as it should be

#: So much memory may be used.
LIMIT = 2**30

READERS = {
    "test": ["test", "--run_dir", "RUN"],
    "predict": ["predict", "--run_dir", "RUN"],
    "report": ["report", "--run_dir", "RUN", "--out", "OUT"],
    "explain": ["explain", "--run_dir", "RUN", "--images", "PICTURE", "--methods", "cam", "--out", "OUT"],
    "tradeoff": ["tradeoff", "--run_dir", "RUN", "--n_features", "4", "--features_per_class", "1", "--out", "OUT"],
    "pipeline": ["pipeline", "--config", "RUN/config.yaml", "--run_dir", "OUT"],
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for a case; programs that a reader of pictures may start leave a canary in it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("gs", "gswin64c", "convert", "magick", "rsvg-convert", "pdftoppm", "identify", "touch"):
        tool = tools / name
        tool.write_text(f"#!/bin/sh\n: > {tmp_path / 'canary'}\nexit 1\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers/evil_module.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Thing: ...\n")
    monkeypatch.syspath_prepend(tmp_path / "strangers")
    return tmp_path


def outcome_of(words, place, world, run=None, picture=None, allowed=("done", "refused")):
    """Run a command in this process; only what `allowed` lists may come of it, and no canary."""
    filled = {"RUN": run or world.run, "OUT": place / "out", "PICTURE": picture or world.photos / "test/robin/0.png"}
    arguments = []
    for word in words:
        for name, path in filled.items():
            word = word.replace(name, str(path))
        arguments.append(word)
    outcome = run_command(Command(arguments), world, place)
    assert not (place / "canary").exists(), f"executed: {arguments}"
    assert not outcome.faults, (arguments, outcome.faults, outcome.trace)
    assert outcome.status in allowed, (arguments, outcome)
    return outcome


# -- run folders and configs ------------------------------------------------------------------------------------------

SPECS = {
    "a shell": lambda canary: {"class_path": "os.system", "init_args": {"command": f"echo > {canary}"}},
    "a process": lambda canary: {"class_path": "subprocess.call", "init_args": {"args": ["touch", str(canary)]}},
    "a module": lambda canary: {"class_path": "evil_module.Thing"},
    "a module's function": lambda canary: {"class_path": "evil_module.function", "init_args": {}},
    "a file": lambda canary: {"class_path": "logging.FileHandler", "init_args": {"filename": str(canary)}},
    "torch's own": lambda canary: {"class_path": "torch.save", "init_args": {"obj": 1, "f": str(canary)}},
    "a built-in": lambda canary: {"class_path": "builtins.open", "init_args": {"file": str(canary), "mode": "w"}},
}  # fmt: skip


def put_module(tree, spec):
    tree["phases"]["dense"]["module"] = spec


def put_optimizer(tree, spec):
    tree["phases"]["dense"]["module"].setdefault("init_args", {})["optimizer"] = spec


def put_schedule(tree, spec):
    tree["phases"]["finetune"]["module"].setdefault("init_args", {})["lr_scheduler"] = spec


def put_callback(tree, spec):
    tree["phases"]["dense"]["callbacks"] = [spec]


def put_data(tree, spec):
    tree["data"] = spec


def put_trainer(tree, spec):
    tree["trainer"] |= {"logger": spec, "strategy": spec, "profiler": spec}


PUT = (put_module, put_optimizer, put_schedule, put_callback, put_data, put_trainer)


@pytest.mark.parametrize(
    ("put", "spec"), [(put, name) for i, put in enumerate(PUT) for name in [*SPECS, *SPECS][i : i + 3]]
)
def test_a_config(put, spec, place, world):
    tree = dict(world.settings) | {"run_dir": str(place / "out")}
    tree = json.loads(json.dumps(tree))
    put(tree, SPECS[spec](place / "canary"))
    (place / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    outcome_of(["pipeline", "--config", str(place / "config.yaml")], place, world, allowed=("refused",))


@pytest.mark.parametrize("command", READERS)
def test_a_run_folder(command, place, world):
    """Every place of the run's config and of its phases' configs."""
    for spec, put in zip(SPECS, PUT, strict=False):
        run = place / "run"
        shutil.copytree(world.run, run)
        for path in (run / "config.yaml", *run.glob("*/config.yaml")):
            tree = yaml.safe_load(path.read_text())
            harmful = SPECS[spec](place / "canary")
            if "phases" in tree:
                put(tree, harmful)
            elif put is put_trainer:
                tree["trainer"] = {**tree.get("trainer", {}), "logger": harmful, "callbacks": [harmful]}
            elif put is put_data:
                tree["data"] = harmful
            elif put is put_module:
                tree["model"] = harmful
            else:
                key = "optimizer" if put is put_optimizer else "lr_scheduler"
                tree["model"].setdefault("init_args", {})[key] = harmful
            path.write_text(yaml.safe_dump(tree, sort_keys=False))
        outcome_of(READERS[command], place, world, run)
        shutil.rmtree(run)
        shutil.rmtree(place / "out", ignore_errors=True)


TAGS = (
    "name: !!python/object/apply:os.system ['echo > {canary}']\n",
    "name: !!python/object/new:tests.soak.canary.Touch [{canary}]\n",
    "name: !!python/name:evil_module.Thing\n",
    "name: !!python/module:evil_module\n",
)


@pytest.mark.parametrize("tag", TAGS)
def test_tags_of_yaml(tag, place, world):
    run = place / "run"
    shutil.copytree(world.run, run)
    for path in (run / "config.yaml", *run.glob("*/config.yaml")):
        path.write_text(tag.replace("{canary}", str(place / "canary")) + path.read_text())
    for command in ("pipeline", "test", "report"):
        outcome_of(READERS[command], place, world, run, allowed=("refused",))


def test_aliases_that_multiply(place, world):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (place / "config.yaml").write_text("\n".join(levels) + "\n" + world.config.read_text())
    outcome_of(
        ["pipeline", "--config", str(place / "config.yaml"), "--run_dir", "OUT"], place, world, allowed=("refused",)
    )


# -- checkpoints ------------------------------------------------------------------------------------------------------


def evil_files(path: Path, canary: Path) -> None:
    """A pickle that leaves a file when it is read, in the forms that torch reads."""
    harmful = Touch(str(canary))
    canary.unlink()
    forms = {
        "legacy.ckpt": lambda f: torch.save({"state_dict": harmful}, f, _use_new_zipfile_serialization=False),
        "zip.ckpt": lambda f: torch.save({"state_dict": {"a": harmful}, "handful_module": harmful}, f),
        "pickle.ckpt": lambda f: f.write_bytes(pickle.dumps(harmful)),
        "archive.ckpt": lambda f: _scripted(f, pickle.dumps(harmful)),
        "tensors.safetensors": lambda f: f.write_bytes(pickle.dumps(harmful)),
    }
    for name, write in forms.items():
        write(path / name)
    canary.unlink(missing_ok=True)


def _scripted(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in ("archive/data.pkl", "archive/constants.pkl", "archive/code/x.py", "archive/version"):
            file.writestr(name, data if name.endswith("pkl") else "3\n")


@pytest.mark.parametrize("name", ["legacy.ckpt", "zip.ckpt", "pickle.ckpt", "archive.ckpt", "tensors.safetensors"])
def test_a_checkpoint(name, place, world):
    canary = place / "canary"
    evil_files(place, canary)
    evil = place / name
    run = place / "run"
    shutil.copytree(world.run, run)
    for path in run.glob("*/*.ckpt"):
        shutil.copy(evil, path)
    for command in ("test", "explain") if name != "zip.ckpt" else list(READERS)[:-1]:
        outcome_of(READERS[command], place, world, run, allowed=("refused",))
    for path in run.glob("*/done.json"):  # the phases look interrupted: they resume from last.ckpt
        path.unlink()
    again = ["pipeline", "--config", str(world.config), "--run_dir"]
    outcome_of([*again, "RUN"], place, world, run)
    outcome_of([*again, "OUT", "--init_from", str(evil)], place, world, allowed=("refused",))
    single = ["test", "--config", str(world.run / "dense/config.yaml")]
    outcome_of([*single, "--ckpt_path", str(evil)], place, world, allowed=("refused",))


# -- pictures ---------------------------------------------------------------------------------------------------------


def saved(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def frames(count: int, form: str) -> bytes:
    pictures = [Image.new("RGB", (400, 400), (i % 256, 0, 0)) for i in range(count)]
    return saved(pictures[0], form, save_all=True, append_images=pictures[1:])


PICTURES = {
    "bomb.png": lambda: png_header(30000, 30000, 1, 0, bytes(30000 * 3751)),
    "wide.png": lambda: saved(Image.new("RGB", (20000, 1)), "PNG"),
    "tall.png": lambda: saved(Image.new("RGB", (1, 20000)), "PNG"),
    "wide.jpg": lambda: saved(Image.new("RGB", (60000, 1)), "JPEG"),
    "tall.bmp": lambda: saved(Image.new("RGB", (1, 60000)), "BMP"),
    "header.png": lambda: png_header(2**31 - 1, 2**31 - 1),
    "header.bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHI20x", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, 0),
    "header.ppm": lambda: b"P6\n30000 30000\n255\n" + bytes(1000),
    "header.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(20) + b"\x3b",
    "header.tif": lambda: saved(Image.new("L", (8, 8)), "TIFF").replace(struct.pack("<HHI", 256, 4, 1), b""),
    "cut.png": lambda: saved(Image.effect_noise((300, 300), 50), "PNG")[:20000],
    "both.png": lambda: saved(Image.new("RGB", (30, 30)), "PNG") + b"<script>alert(1)</script>PK\x05\x06" + bytes(18),
    "exif.jpg": lambda: saved(Image.new("RGB", (30, 30)), "JPEG", exif=b"Exif\0\0II*\0\b\0\0\0\xff\xff" + bytes(60000)),
    "text.png": lambda: saved(Image.new("RGB", (30, 30)), "PNG", pnginfo=_text(2**25)),
    "drawing.svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "drawing.png": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "page.png": lambda: b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "postscript.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n",
    "frames.gif": lambda: frames(300, "GIF"),
    "frames.tif": lambda: frames(30, "TIFF"),
    "frames.webp": lambda: frames(30, "WEBP"),
    "list.gif": lambda: b"#!/bin/sh\n: > canary\n",
}  # fmt: skip


def _text(size: int):
    from PIL.PngImagePlugin import PngInfo

    note = PngInfo()
    note.add_text("comment", "x" * size, zip=True)
    return note


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """All of them in a folder, and a good one."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, make in PICTURES.items():
        (folder / name).write_bytes(make())
    saved_good = Image.effect_noise((40, 30), 60).convert("RGB")
    saved_good.save(folder / "good.png")
    return folder


def test_pictures_explained_together(pictures, place, world):
    outcome = outcome_of(READERS["explain"], place, world, picture=pictures, allowed=("done",))
    assert outcome.peak < LIMIT
    assert "good.png" in (place / "out/index.html").read_text()


@pytest.mark.parametrize("name", ["bomb.png", "postscript.png", "wide.png", "cut.png", "frames.gif"])
def test_a_picture_explained(name, pictures, place, world):
    assert outcome_of(READERS["explain"], place, world, picture=pictures / name).peak < LIMIT


@pytest.mark.parametrize("what", ["refuse", "skip"])
def test_pictures_among_those_to_train_on(what, pictures, place, world):
    photos = shutil.copytree(world.photos, place / "photos")
    for path in pictures.iterdir():
        shutil.copy(path, photos / "train/wren" / path.name)
    options = ["--data.unreadable", what, "--data.repeats", "drop"]
    expected = "refused" if what == "refuse" else "done"
    outcome = outcome_of([*_photo_words(world, photos), *options], place, world, allowed=(expected,))
    assert outcome.peak < LIMIT


READ = """
import sys
from pathlib import Path
from datamodules.image_folder import ImageFolder
from handful.errors import UserError
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
for root in sys.argv[1:]:
    try:
        for batch in ImageFolder(root, image_size=224, cache=False, val_fraction=0).test_dataloader():
            pass
    except UserError as error:
        print(error)
print(peak() - before, peak())
"""


def test_reading_them_all_takes_little_memory(pictures, place, world):
    """In a process of its own: what reading adds to it, and all of it."""
    for name in PICTURES:
        photos = place / name.replace(".", "_")
        shutil.copytree(world.photos, photos)
        for path in photos.glob("test/*/1.png"):
            path.unlink()
        shutil.copy(pictures / name, photos / "test/wren")
    folders = [str(place / name.replace(".", "_")) for name in PICTURES]
    done = subprocess.run(
        [sys.executable, "-c", READ, *folders], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "XDG_CACHE_HOME": str(place / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    added, whole = map(int, done.stdout.splitlines()[-1].split())
    assert added < 600 * 1024
    assert whole < 2**20 * 3 // 2, f"{whole} KiB, of which reading {added}"


# -- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_that_leads_elsewhere(place, world):
    picture = (world.photos / "test/robin/0.png").read_bytes()
    with zipfile.ZipFile(world.archive) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    names = ["../../canary", "../canary", str(place / "canary"), "train/wren/../../../canary.png", "C:\\canary.png"]
    link = zipfile.ZipInfo("train/wren/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(place / "photos.zip", "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
        for name in names:
            file.writestr(name, picture)
        file.writestr(link, str(place))
    words = [
        "pipeline",
        "--config",
        str(world.photo_config),
        "--data.root",
        str(place / "photos.zip"),
        "--run_dir",
        "OUT",
    ]
    outcome_of(words, place, world)
    assert not list(place.rglob("canary*"))


@pytest.mark.parametrize("name", ["train/wren/bomb.png", "notes.txt"])
def test_an_archive_that_grows(name, place, world):
    """A gigabyte and a half of zeros, in a few megabytes."""
    with zipfile.ZipFile(world.archive) as good:
        entries = {entry: good.read(entry) for entry in good.namelist()}
    with zipfile.ZipFile(place / "photos.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for entry, data in entries.items():
            file.writestr(entry, data)
        with file.open(name, "w", force_zip64=True) as bomb:
            for _ in range(96):
                bomb.write(bytes(2**24))
    outcome = outcome_of(_photo_words(world, place / "photos.zip"), place, world)
    assert outcome.peak < LIMIT


def _photo_words(world, root: Path, run: str = "OUT") -> list[str]:
    return ["pipeline", "--config", str(world.photo_config), "--data.root", str(root), "--run_dir", run]


# -- names ------------------------------------------------------------------------------------------------------------

NAMES = {
    "escape": "wren\x1b]0;owned\x07\x1b[2J",
    "newline": "wren\nhandful: all is well",
    "bidi": "wren\u202egnp.\u2066",
    "formula": "=cmd|' C calc'!A0",
    "formula2": "@SUM(1+1)*cmd|' C calc'!A0",
    "mathtext": "$\\frac{x^{2$",
    "dollar": "a$b$c_{",
    "html": "<img src=x onerror=alert(1)>",
    "quotes": "\"'`&amp;",
    "long": "n" * 200,
    "wide": "鳥" * 60,
    "percent": "%s%n{0}{a}",
    "backslash": "a\\n\\x1b",
    "zero width": "wr\u200ben\u00ad",
}


def photos_named(world, place, names) -> Path:
    """Classes of these names beside two others."""
    photos = shutil.copytree(world.photos, place / "photos")
    noise = np.random.default_rng(1)
    for split in ("train", "test"):
        for name in names:
            folder = os.path.join(os.fsencode(photos / split), os.fsencode(name))
            os.mkdir(folder)
            for number in (b"0", b"1"):
                picture = Image.fromarray(noise.integers(0, 256, (24, 24, 3), dtype=np.uint8))
                with open(os.path.join(folder, number + b".png"), "wb") as file:
                    picture.save(file, "PNG")
    return photos


def test_names_of_classes(place, world):
    """Trained, tested, predicted, reported and explained: nothing of them acts anywhere."""
    photos = photos_named(world, place, NAMES.values())
    run = place / "run"
    outcome_of(_photo_words(world, photos, str(run)), place, world, allowed=("done",))
    for command in ("test", "predict", "report"):
        outcome_of(READERS[command], place, world, run, allowed=("done",))
    outcome_of(READERS["explain"], place, world, run, picture=photos / "test", allowed=("done",))
    tables = [path for path in place.rglob("*.csv") if photos not in path.parents]
    assert any(path.name == "predictions.csv" for path in tables)
    for path in tables:
        for row in csv.reader(path.read_text(encoding="utf-8").splitlines()):
            assert not any(cell.startswith(("=", "@", "|", "+c", "\t")) for cell in row), (path, row)
    _check_pages(place)


def _check_pages(place: Path) -> None:
    pages = list(place.rglob("*.html"))
    assert pages
    for path in pages:
        page = path.read_text(encoding="utf-8")
        assert "<img src=x" not in page
        assert not set("\x1b\x07\u202e\u2066") & set(page), path


def test_a_name_that_is_not_utf8(place, world):
    photos = photos_named(world, place, [b"wren\xff\xfe"])
    words = [
        "pipeline",
        "--config",
        str(world.photo_config),
        "--data.root",
        str(photos),
        "--run_dir",
        str(place / "run"),
    ]
    outcome = outcome_of(words, place, world, allowed=("refused",))
    assert "wren" in outcome.sentence
    assert not (place / "run").exists()


def test_names_of_files(place, world):
    """Pictures whose names mean harm, explained and predicted."""
    pictures = place / "pictures"
    pictures.mkdir()
    for name in NAMES.values():
        shutil.copy(world.photos / "test/robin/0.png", pictures / f"{name[:60]}.png")
    outcome_of(
        ["explain", "--run_dir", "RUN", "--images", str(pictures), "--methods", "cam", "--out", "OUT"], place, world
    )
    _check_pages(place)
