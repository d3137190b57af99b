"""A record of a finished phase that is torn or garbled is one sentence in every command that reads the run."""

import json

import pytest
from PIL import Image

from handful import load
from handful.errors import UserError
from pipelines.cli import main
from tests.helpers.finished_run import write_run


def halved(content):
    return content[: len(content) // 2]


def changed(content):
    return content.replace(b'"seconds": 1.0', b'"seconds": 2.0')


def without_files(content):
    return json.dumps(json.loads(content) | {"files": {"best.ckpt": "x"}}).encode()


DAMAGES = {
    "torn": halved,
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "garbled": lambda content: content.replace(b":", b"\xff"),
    "a changed number": changed,
    "another record": without_files,
    "a list": lambda content: b"[1]",
    "nested": lambda content: b"[" * 100_000,
    "another encoding": lambda content: content.decode().encode("utf-16"),
}
COMMANDS = {
    "explain": ["explain", "--images", "{picture}", "--methods", "cam"],
    "tradeoff": ["tradeoff", "--n_features", "4", "--features_per_class", "2"],
    "report": ["report"],
    "predict": ["predict"],
    "predict pictures": ["predict", "--images", "{picture}"],
    "test": ["test"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"))
    Image.new("RGB", (16, 16)).save(folder / "bird.png")
    return folder


@pytest.fixture(params=["dense", "finetune"])
def record(run, request):
    file = run / request.param / "done.json"
    content = file.read_bytes()
    yield file
    file.write_bytes(content)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_one_sentence(run, record, command, damage, capsys):
    content = DAMAGES[damage](record.read_bytes())
    assert content != record.read_bytes()
    record.write_bytes(content)
    name, *options = (part.format(picture=run / "bird.png") for part in COMMANDS[command])
    with pytest.raises(SystemExit) as end:
        main([name, "--run_dir", str(run), *options])
    assert end.value.code == 2
    sentences = [line for line in capsys.readouterr().err.splitlines() if line.startswith("handful: ")]
    assert len(sentences) == 1
    assert str(record) in sentences[0]
    assert "remove it, and the phase" in sentences[0]


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "a changed number"])  # files are unchanged
@pytest.mark.parametrize("record", ["finetune"], indirect=True)
def test_a_damaged_record_is_one_sentence_from_a_notebook(run, record, damage):
    record.write_bytes(DAMAGES[damage](record.read_bytes()))
    with pytest.raises(UserError, match=r"finetune/done\.json: "):
        load(run)
