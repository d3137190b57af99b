"""Records of a run from elsewhere: nothing in them steers the terminal, or a page or card that is written."""

import contextlib
import json
import re

import pytest
import yaml

from pipelines.cli import main
from pipelines.phase_folder import PhaseFolder
from tests.helpers.finished_run import forget_digests, write_run

#: Control characters, marks that reorder, and what a page would run.
EVIL = "x\x1b[2J\x1b]0;t\x07\u202egnp\u200b\x9b31m<script>alert(1)</script>"
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A finished run whose records hold such text wherever a person may read it."""
    run = write_run(tmp_path_factory.mktemp("hostile"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {"name": EVIL, "seed": 0}
    stages = {EVIL: "dense", f"{EVIL}2": "finetune"}
    config["phases"]["evaluate"] = {"module": {"class_path": "Evaluate", "init_args": {"stages": stages}},
                                    "monitor": EVIL}  # fmt: skip
    (run / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=False))
    row = {"accuracy": 50.0, EVIL: 1.0, "note": EVIL, "n_features": 5}
    classes = [f"{EVIL}{number}" for number in range(3)]
    record = {
        "weights": EVIL, "stages": dict.fromkeys(stages, row), "versions": {EVIL: EVIL, "torch": EVIL},
        "data": {"class_names": classes, "image_size": 16, "mean": [0.5] * 3, "std": [0.2] * 3,
                 "images": {EVIL: 3, "train": 12}, "name": EVIL, "module": EVIL},
    }  # fmt: skip
    (run / "results.json").write_text(json.dumps(record))
    (run / "names.csv").write_text(f'feature,name\n3,"{EVIL}"\n0,"=cmd|{EVIL}"\n', encoding="utf-8")
    (run / "dense/metrics.csv").write_text(f'epoch,step,"{EVIL}"\n0,0,1.0\n1,1,2.0\n', encoding="utf-8")
    (run / "dense/stages.json").write_text(json.dumps({EVIL: row}))
    (run / "evaluate").mkdir()
    PhaseFolder(run / "evaluate").finish({}, {}, 1.0, 1.0)
    forget_digests(run)
    return run


def said(capfd):
    found = capfd.readouterr()
    return found.out.replace("\r", "").replace("\x1b[K", "") + found.err.replace("\r", "").replace("\x1b[K", "")


def call(*arguments):
    with contextlib.suppress(SystemExit):  # a traceback is none
        main([str(part) for part in arguments])


COMMANDS = {
    "report": ["report"], "export": ["export"], "evaluate": ["evaluate", "--measures", "features"],
    "tradeoff": ["tradeoff"], "stage": ["export", "--stage", EVIL + "3"], "unknown": ["report", "--" + EVIL],
    "phase": ["test", "--phase", EVIL],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_steers_the_terminal_or_what_is_written(hostile, command, capfd):
    before = {path for path in hostile.rglob("*") if path.is_file()}
    name, *options = COMMANDS[command]
    call(name, "--run_dir", hostile, *options)
    heard = said(capfd)
    assert heard
    assert not STEERS.search(heard), ascii(STEERS.search(heard)[0])
    written = [path for path in hostile.rglob("*") if path.is_file() and path not in before]
    for path in written:
        if path.suffix in (".html", ".md", ".json", ".txt"):  # tables give names back as they are
            text = path.read_text(encoding="utf-8")
            assert not STEERS.search(text), (path, ascii(STEERS.search(text)[0]))
            assert path.suffix == ".json" or "<script>alert(1)" not in text, path


@pytest.mark.parametrize("digits", [10, 5000])
def test_a_feature_with_a_number_of_many_digits(tmp_path, digits, capfd):
    """Python refuses to read whole numbers of more than 4300 digits, which was a traceback."""
    run = write_run(tmp_path)
    (run / "names.csv").write_text(f"feature,name\n{'9' * digits},eye\n")
    call("export", "--run_dir", run)
    assert "which is not a number of a feature" in said(capfd)
