"""Names of classes and files chosen by a stranger, through a whole run: tables, pages, pictures, terminal, W&B."""

import json
import os
import re
import warnings

import numpy as np
import pytest
from PIL import Image

from handful.report.csv_file import read_csv
from handful.report.page import script_values
from pipelines.cli import main
from tests.helpers.hostile_names import CONTROLS, SCRIPTS, TRICKS
from tests.helpers.logged import wandb_kept
from tests.helpers.pipeline import tiny_config, write_config

NAMES = [*TRICKS, *SCRIPTS]
FORMULA = re.compile(r"[=+\-@\t\r＝]")


def write_images(folder, count, seed):
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run, and all that it said."""
    folder = tmp_path_factory.mktemp("hostile")
    for place, name in enumerate(NAMES):
        for split, count in (("train", 2), ("val", 1), ("test", 1)):
            write_images(folder / "data" / split / name, count, 3 * place + len(split))
    phases = tiny_config()["phases"]
    phases["dense"]["max_epochs"] = 1
    phases["dense"]["callbacks"] = [
        {"class_path": "Diversity"},
        {"class_path": "AttributionMaps", "init_args": {"methods": ["cam"], "images": len(NAMES)}},
        {"class_path": "ClassFilters"},
    ]
    phases["finetune"] |= {"max_epochs": 1, "callbacks": []}
    data = {"root": str(folder / "data"), "image_size": 12, "batch_size": 32, "cache_dir": str(folder / "cache")}
    config = write_config(
        folder, phases=phases, data={"class_path": "ImageFolder", "init_args": data}, wandb={"mode": "offline"}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        main(["pipeline", "--config", str(config), "--run_dir", str(folder / "run")])
    (folder / "said").write_text(json.dumps([str(one.message) for one in caught]))
    return folder / "run"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two pictures a folder, with names as the classes have."""
    folder = tmp_path_factory.mktemp("photos")
    for place, name in enumerate(NAMES):
        write_images(folder / name, 1, place)
        os.rename(folder / name / "0.png", folder / name / f"{name}.png"[-60:])
    return folder


def check_page(text):
    assert not [letter for letter in text if letter in CONTROLS.replace("\t", "")]
    text = text.replace(f"<script>{script_values('report.js')['script']}</script>", "")  # ours, permitted by its digest
    assert "<script" not in text
    assert "<img src=x" not in text
    assert not re.search(r"<[^>]+\son\w+=[^>]*>", re.sub(r'"[^"]*"', '""', text))
    assert "49" not in re.findall(r"<bdi[^>]*>([^<]*)</bdi>", text)


def test_nothing_was_skipped_and_no_glyph_was_missing(run):
    said = json.loads((run.parent / "said").read_text())
    assert not [one for one in said if "skipped" in one or "lyph" in one or "could not" in one]


def test_tables_start_no_formula_and_give_the_names_back(run):
    (table,) = (run / "dense/class_filters").glob("*.csv")
    assert sorted({row["class"] for row in read_csv(table)}) == sorted(NAMES)
    for path in run.rglob("*.csv"):
        for cell in re.split(r"[,;\n|]", path.read_text().replace('"', "")):
            if not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell):
                assert not FORMULA.match(cell.lstrip(" \ufeff\u200b")), (path, cell)


def test_the_report_shows_every_name_and_runs_none(run):
    text = (run / "report/index.html").read_text()
    check_page(text)
    for name in SCRIPTS:
        assert f"<bdi>{name}</bdi>" in text
    assert "\\x1b[31mred" in text
    assert "\\u202egpj.exe" in text
    assert f'title="{"x" * 200}"' in text


def test_wandb_has_the_pictures_and_visible_names(run):
    kept = wandb_kept(run / "dense")
    assert {"attribution/cam", "class_filters"} <= set(kept)
    names = {row[0] for row in kept["class_filters"][0].content["data"]}
    assert len(names) == len(NAMES)
    assert not [name for name in names if set(name) & set(CONTROLS)]
    assert set(SCRIPTS) <= names


@pytest.mark.parametrize("command", ["explain", "predict"])
def test_pages_and_tables_of_own_pictures(run, photos, tmp_path, capfd, command):
    more = ["--methods", "cam"] if command == "explain" else []
    main([command, "--run_dir", str(run), "--images", str(photos), "--out", str(tmp_path / "out"), *more])
    out, err = capfd.readouterr()
    for text in (out, err):
        assert not [letter for letter in text if letter in CONTROLS and letter not in "\r"]
    if command == "explain":
        assert len(out.splitlines()) <= len(NAMES) + 4  # no name starts a line of its own
        check_page((tmp_path / "out/index.html").read_text())
        records = json.loads((tmp_path / "out/explain.json").read_text())["images"]
        assert {record["true"] for record in records} <= set(NAMES)  # JSON keeps names as they are
    else:
        rows = read_csv(tmp_path / "out/predictions.csv")
        assert len(rows) == len(NAMES)
        assert set(NAMES) <= set(rows[0])
        for line in (tmp_path / "out/predictions.csv").read_text().splitlines():
            assert not FORMULA.match(line.lstrip('"'))
