"""The demo: what decided, and the class when a feature is moved; the page answers over HTTP."""

import os
import re
import socket

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from PIL import Image
from playwright.sync_api import expect

from handful import Inputs, build_classifier
from handful.demo import Demo, build_page, reach_of
from handful.errors import UserError
from handful.networks import BinaryHead
from pipelines.commands.demo import check
from tests.helpers.browser import PATIENCE, PHONE, browser, needs_chromium, overflow

expect.set_options(timeout=PATIENCE)


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
        logits = demo.logits(why, feature, demo.value(why, feature))
        assert int(logits.argmax()) == model.inputs.class_names.index(why.prediction.name)
        assert float(logits.max()) == pytest.approx(why.prediction.logit)
    change = why.runner_up.would_tie[0]
    first, second = demo.logits(why, change.feature, change.needed).topk(2).values.tolist()
    assert first == pytest.approx(second)


def test_a_slider_goes_over_round_numbers_and_reaches_the_tie(model, pixels):
    demo = Demo(model)
    why = demo.decide(pixels)
    change = why.runner_up.would_tie[0]
    reach = demo.reach(why, change.feature)
    assert reach.least <= min(0, change.needed, change.value)
    assert reach.most >= max(0, change.needed, change.value)
    for value in (2.4106840252876283, -3e-5, 0.0, 71234.5, 1.0):
        reach = reach_of(value, value + 5 * abs(value))
        steps = (reach.most - reach.least) / reach.step
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert 100 <= steps <= 3000
        assert abs(reach.value - value) <= reach.step / 2 * 1.001
        assert max(len(f"{one:g}".lstrip("-")) for one in (reach.least, reach.most, reach.value)) <= 8


def test_a_head_that_is_linear_in_parts_moves_as_it_decides(pixels):
    torch.manual_seed(0)
    model = build_classifier({"backbone": "conv4", "options": {"width": 8}}, 3).eval()
    model.inputs = Inputs(["crow", "owl", "wren"], 24, (0.5,) * 3, (0.25,) * 3)
    head = BinaryHead(8, 3, 4)
    sets = torch.tensor([[True, True, False, False], [False, True, True, False], [False, False, True, True]])
    head.assign(torch.arange(4), torch.full((4,), 0.3), torch.ones(4), sets)
    model.head = head
    demo = Demo(model)
    why = demo.decide(pixels)
    features = why.parts.features.clone()
    for value in (-1.0, 0.1, 0.4, 5.0):
        features[0, 1] = value
        logits = model.head(features.float())[0]
        assert float(demo.logits(why, 1, value).max()) == pytest.approx(float(logits.max()), abs=1e-5)


def test_classes_that_look_alike_stay_apart(pixels):
    torch.manual_seed(0)
    model = build_classifier({"backbone": "conv4", "options": {"width": 8}}, 5).eval()
    long = "a_subspecies_of_" * 20
    names = ["wren\x1b", "wren\\x1b", f"{long}a", f"{long}b{long}", "owl"]
    model.inputs = Inputs(names, 24, (0.5,) * 3, (0.25,) * 3)
    demo = Demo(model)
    why = demo.decide(pixels)
    shares = demo.shares(why)
    assert set(shares) == set(demo.names)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(map(len, shares)) < 80
    assert shares[demo.names[names.index(why.prediction.name)]] == max(shares.values())
    feature = demo.features(why)[0][1]
    moved = demo.shares(why, feature, 50.0)
    assert moved != shares
    assert max(moved.values()) == pytest.approx(float(demo.logits(why, feature, 50.0).softmax(dim=0).max()))


@pytest.fixture(scope="module")
def address(model):
    pytest.importorskip("gradio")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    model.feature_names = {0: "dark *head*"}
    page = build_page(model, "What decides? a_run")
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", footer_links=[])
    yield address
    page.close()
    model.feature_names = {}


@pytest.fixture(scope="module")
def files(pixels, tmp_path_factory):
    """Pictures as people have them, and what are none."""
    folder = tmp_path_factory.mktemp("pictures")
    picture = Image.fromarray(pixels)
    picture.save(folder / "a.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.gif")
    picture.save(folder / "scan.tif")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    return folder


def test_the_page_answers(model, address, files):
    client = pytest.importorskip("gradio_client")
    asked = client.Client(address, verbose=False)
    for name in ("a.png", "cmyk.jpg", "palette.gif", "scan.tif", "deep.png"):
        said, found, page, *_ = asked.predict(client.handle_file(files / name), api_name="/decide")
        assert said == ""
        assert found["label"] == model.predict([files / name]).classes[0]
        assert "srcdoc" in page
        assert name in page
    for name, why in (("cut.png", "truncated"), ("text.jpg", "no known format"), ("empty.png", "empty")):
        said, found, *_ = asked.predict(client.handle_file(files / name), api_name="/decide")
        assert f"{name} cannot be read as an image: " in said
        assert why in said
        assert "/" not in said.replace("</", "").replace("/>", "")
        assert not found.get("label")


@needs_chromium
def test_a_person_drops_a_picture_and_moves_a_feature(model, address, files):
    demo = Demo(model)
    why = demo.decide(files / "a.png")
    # of another feature than the page begins with: its value says when the page has answered
    change = next(one for one in why.runner_up.would_tie if one.feature != demo.features(why)[0][1])
    other, there = why.runner_up.score.name, demo.reach(why, change.feature).value
    beyond = change.needed + 0.05 * (change.needed - change.value)
    with browser() as chromium:
        page = chromium.new_page(viewport=PHONE)
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.set_input_files("input[type=file]", files / "a.png")
        labels = page.locator("[data-testid=label-output-value]")
        expect(labels).to_have_text([why.prediction.name] * 2)
        assert page.locator("h1").inner_text() == "What decides? a_run"
        frame = page.frame_locator("iframe")
        expect(frame.locator("h1")).to_have_text(f"Why {why.prediction.name}")
        page.wait_for_function("document.querySelector('iframe').style.height != '720px'")
        assert page.evaluate(
            "(f => f.contentDocument.documentElement.scrollWidth <= f.clientWidth)(document.querySelector('iframe'))"
        )
        assert overflow(page) <= 0
        page.get_by_label("feature · what it added to the class").click()
        page.get_by_role("option", name=re.compile(rf"(feature {change.feature}|\({change.feature}\)) · ")).click()
        number = page.locator("input[type=number]")
        shown = "document.querySelector('input[type=number]').value"
        page.wait_for_function(f"there => Math.abs({shown} - there) < 1e-6", arg=there)
        number.fill(f"{beyond:.4f}")
        number.press("Enter")
        expect(labels.last).to_have_text(other)
        page.get_by_text("as in the picture").click()
        expect(labels.last).to_have_text(why.prediction.name)
        slider = page.locator("input[type=range]")
        slider.focus()
        page.keyboard.press("Home" if change.needed < change.value else "End")
        expect(labels.last).to_have_text(other)
        page.set_input_files("input[type=file]", files / "a.png") if page.locator("input[type=file]").count() else None
        assert page.locator(".error").count() == 0


@needs_chromium
def test_a_number_that_is_erased_is_said_and_two_people_do_not_meet(model, address, files):
    Image.new("RGB", (40, 30), (250, 250, 20)).save(files / "yellow.png")
    whys = [Demo(model).decide(files / name) for name in ("a.png", "yellow.png")]
    with browser() as chromium:
        people = [chromium.new_context(viewport=PHONE).new_page() for _ in whys]
        frames = []
        for page, name in zip(people, ("a.png", "yellow.png"), strict=True):
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            page.set_input_files("input[type=file]", files / name)
            frames.append(page.frame_locator("iframe"))
        for page, why, frame in zip(people, whys, frames, strict=True):
            expect(frame.locator("h1")).to_have_text(f"Why {why.prediction.name}")
            feature = Demo(model).features(why)[0][1]
            shown, there = "document.querySelector('input[type=number]').value", Demo(model).reach(why, feature).value
            page.wait_for_function(f"there => {shown} && Math.abs({shown} - there) < 1e-6", arg=there)
            number = page.locator("input[type=number]")
            number.fill("")
            number.press("Enter")
            said = f"No number: the class is that of the picture, where it is {Demo(model).value(why, feature):.3g}."
            expect(page.get_by_text("No number")).to_have_text(said)
            page.get_by_text("as in the picture").click()
            expect(page.get_by_text("No number")).to_have_count(0)
            assert overflow(page) <= 0
            assert page.locator(".error").count() == 0
        assert Demo(model).value(whys[0], 0) != Demo(model).value(whys[1], 0)


@needs_chromium
def test_two_hundred_long_names_fit_a_phone(pixels, files):
    pytest.importorskip("gradio")
    torch.manual_seed(0)
    many = build_classifier({"backbone": "conv4", "options": {"width": 8}}, 200).eval()
    names = [f"{'A_subspecies_of_the_common_sparrow_' * 6}{number}" for number in range(200)]
    many.inputs = Inputs(names, 24, (0.5,) * 3, (0.25,) * 3)
    page = build_page(many)
    _, there, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", footer_links=[])
    try:
        with browser() as chromium:
            tab = chromium.new_page(viewport=PHONE)
            tab.set_default_timeout(PATIENCE)
            tab.goto(there)
            tab.set_input_files("input[type=file]", files / "a.png")
            best = Demo(many).names[names.index(Demo(many).decide(files / "a.png").prediction.name)]
            expect(tab.locator("[data-testid=label-output-value]").first).to_have_text(best)
            tab.frame_locator("iframe").locator("h1").wait_for()
            assert overflow(tab) <= 0
    finally:
        page.close()


@pytest.mark.parametrize(("port", "said"), [(70000, "from 1 to 65535"), (0, "from 1 to"), (None, "not available")])
def test_a_port_that_cannot_be_served_is_refused_before_anything_is_read(port, said, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = Namespace(run_dir=str(tmp_path), port=taken.getsockname()[1] if port is None else port)
        with pytest.raises(UserError, match=said):
            check(values)


@pytest.mark.parametrize("version", ["5.49.1", "unknown"])
def test_another_gradio_is_refused_before_anything_is_read(version, tmp_path, monkeypatch):
    about = tmp_path / "gradio-5.49.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gradio\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="needs the package gradio: pip install 'gradio>=6,<7'"):
        check(Namespace(run_dir=str(tmp_path), port=7860))
