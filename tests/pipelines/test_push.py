"""`push` by the real client to a Hub on this machine, and what a person reads where it fails."""

import json
import os

import huggingface_hub
import pytest
from huggingface_hub import constants
from safetensors.torch import load

import handful
from handful.errors import UserError
from handful.export.hub import upload
from pipelines.cli import main
from tests.helpers import forked
from tests.helpers.finished_run import write_run
from tests.helpers.hub import local_hub
from tests.helpers.ports import closed_port


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"))
    (folder / "names.csv").write_text("feature,name\n3,wing bar\n")
    return folder


@pytest.fixture
def online(monkeypatch):
    """Point the client at an address, as HF_ENDPOINT does when it is imported, with LFS as its protocol."""

    def point(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_URL_HOSTS", constants.HF_URL_HOSTS | {"127.0.0.1"})
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_token_of_the_test")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1,localhost")

    yield point
    huggingface_hub.close_session()


@pytest.fixture
def hub(online):
    with local_hub() as server:
        online(server.address)
        yield server


def push(run, out, *more):
    main(["push", "--run_dir", str(run), "--repo_id", "somebody/birds", "--out", str(out), *more])


def test_files_arrive_whole(hub, run, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("not for the Hub")
    push(run, out)
    files = ("README.md", "config.json", "model.safetensors", "names.csv")
    assert {name: hub.files[name] for name in sorted(hub.files)} == {name: (out / name).read_bytes() for name in files}
    said = capsys.readouterr()
    assert f"uploaded to {hub.address}/somebody/birds" in said.out
    assert said.err == ""
    assert hub.private is True
    assert set(hub.tokens) == {"Bearer hf_token_of_the_test"}
    assert list(dict.fromkeys(hub.calls)) == [
        "POST /api/repos/create",
        "POST /api/validate-yaml",
        "POST /api/models/somebody/birds/preupload/main",
        "POST /somebody/birds.git/info/lfs/objects/batch",
        next(call for call in hub.calls if call.startswith("PUT /objects/")),
        "POST /api/models/somebody/birds/commit/main",
    ]
    again = tmp_path / "downloaded"
    again.mkdir()
    for name, content in hub.files.items():
        (again / name).write_bytes(content)
    model = handful.load(again)
    assert model.feature_names == {3: "wing bar"}
    weights = load(hub.files["model.safetensors"])
    assert all(weights[key].equal(value) for key, value in model.state_dict().items())
    assert json.loads(hub.files["config.json"])["inputs"]["class_names"] == list(model.inputs.class_names)

    push(run, out, "--private", "false")  # again, into the repository that is there now
    assert hub.private is True
    assert sum(call.startswith("PUT") for call in hub.calls) == 1  # the weights are there already


def test_by_the_protocol_that_the_client_prefers(hub, run, tmp_path, monkeypatch):
    """Xet, in a process of its own, for it starts threads."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_XORB_COMPRESSION_POLICY", "none")
    out = tmp_path / "out"
    command = ["push", "--run_dir", run, "--repo_id", "somebody/birds", "--out", out]
    ended = forked.run(command, out)
    assert ended.status == 0, ended.text
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors", "names.csv"]
    assert all((out / name).read_bytes() == content for name, content in hub.files.items())
    assert "POST /storage/v1/shards" in hub.calls
    assert "B/s" not in ended.text  # nobody watches a bar in a file

    hub.answers["xet-write-token"] = (403, "Forbidden")
    refused = forked.run([*command, "--stage", "dense"], out)
    assert refused.status == 2, refused.text
    assert "the token may not write to somebody/birds (403: Forbidden)" in refused.text


def test_a_storage_that_does_not_answer_is_given_up(hub, run, tmp_path, monkeypatch):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    out = tmp_path / "out"
    with closed_port() as port:
        hub.storage = f"http://127.0.0.1:{port}"
        ended = forked.run(["push", "--run_dir", run, "--repo_id", "somebody/birds", "--out", out], out)
    assert ended.status == 2, ended.text
    assert "cannot be reached" in ended.text


def test_what_the_client_is_to_do_is_said_for_the_upload_alone(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "7")
    monkeypatch.delenv("HF_XET_CLIENT_RETRY_MAX_DURATION", raising=False)
    before = dict(os.environ)
    (tmp_path / "config.json").write_text("{}")
    upload(tmp_path, ["config.json"], "somebody/birds", private=True)
    assert hub.files["config.json"] == b"{}"
    assert dict(os.environ) == before
    hub.answers["/api/repos/create"] = (500, "Internal Error")
    with pytest.raises(UserError, match="Internal Error"):
        upload(tmp_path, ["config.json"], "somebody/birds", private=True)
    assert dict(os.environ) == before


FAILURES = {
    "401": ("/api/repos/create", 401, "Invalid password.", "nobody is logged in, or the token is not valid (401)"),
    "403": ("/api/repos/create", 403, "You don't have the rights", "may not write to somebody/birds (403: You don't"),
    "409": ("/commit/", 409, "A commit has happened", "was changed at the same time (409: A commit has happened"),
    "500": ("/api/repos/create", 500, "Internal Error", "fails (500: Internal Error); try again later"),
    "503": ("/commit/", 503, "Service Unavailable", "fails (503: Service Unavailable); try again later"),
    "413": ("/commit/", 413, "Your quota is used up", "the Hub refuses the upload (413: Your quota is used up)"),
    "404": ("preupload", 404, "Repository not found", "has no somebody/birds that this token may see (404"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_refusal_is_one_sentence(hub, run, tmp_path, capsys, case):
    part, status, said, expected = FAILURES[case]
    hub.answers[part] = (status, said)
    message = refused(run, tmp_path, capsys)
    assert expected in message
    assert message.rstrip().endswith(f"{tmp_path} is ready")
    assert hub.files == {}


def test_where_nobody_answers(online, run, tmp_path, capsys):
    with closed_port() as port:
        online(address := f"http://127.0.0.1:{port}")
        assert f"push: {address} cannot be reached ([Errno 111] Connection refused)" in refused(run, tmp_path, capsys)


def test_where_nobody_is_logged_in(hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    hub.answers["/api/repos/create"] = (401, "Unauthorized")
    assert "`hf auth login` with a token" in refused(run, tmp_path, capsys)
    assert set(hub.tokens) == {None}


def refused(run, out, capsys):
    """What a person reads."""
    with pytest.raises(SystemExit) as end:
        push(run, out)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("handful: ")]
    assert len(lines) == 1
    return lines[0]
