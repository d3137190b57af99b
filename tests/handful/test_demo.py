"""The demo: what decided, and the class when a feature is moved; the page answers over HTTP."""

import numpy as np
import pytest
import torch
from PIL import Image

from handful import Inputs, build_classifier
from handful.demo import Demo, build_page


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 3).eval()
    model.inputs = Inputs(["crow", "owl", "wren"], 24, (0.5,) * 3, (0.25,) * 3)
    return model


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)


def test_at_its_own_value_nothing_changes_and_at_the_tie_two_classes_are_level(model, pixels):
    demo = Demo(model)
    why = demo.decide(pixels)
    for _, feature in demo.features(why):
        scores = demo.moved(why, feature, demo.value(why, feature))
        assert scores[0].name == why.prediction.name
        assert scores[0].logit == pytest.approx(why.prediction.logit)
    change = why.runner_up.would_tie[0]
    first, second = demo.moved(why, change.feature, change.needed)[:2]
    assert first.logit == pytest.approx(second.logit)


def test_the_page_answers(model, pixels, tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio")
    client = pytest.importorskip("gradio_client")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    page = build_page(model)
    assert isinstance(page, gradio.Blocks)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        asked = client.Client(address, verbose=False)
        found = asked.predict(client.handle_file(tmp_path / "a.png"), api_name="/decide")
    finally:
        page.close()
    assert found[0]["label"] == Demo(model).decide(pixels).prediction.name
    assert "srcdoc" in str(found[1])
