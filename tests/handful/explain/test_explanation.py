"""`handful.explain`: numbers that add up, maps that are those of the image, every kind of picture taken alike."""

import shutil
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from handful.attribution import Attribution, attribute, contributions
from handful.attribution.contributions import Contributions
from handful.errors import UserError
from handful.explain import Explainer, explain
from handful.explain.comparison import smallest_changes
from handful.explain.explainer import class_number, method_map, method_names
from handful.explain.explanation import SIDE
from handful.images import Inputs, Pictures, read_image
from handful.networks import Classifier
from handful.networks.heads import SparseHead
from handful.report.overlays import overlay
from pipelines.finished_run import Run
from tests.helpers.finished_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (40, 30)), ("b.jpg", (20, 33)), ("deeper/c.webp", (16, 16))):
        Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not for us")
    return folder


def test_the_changes_listed_are_the_smallest_in_standard_deviations():
    head = SparseHead(5, 2, 4)
    weight = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    head.fill(torch.tensor([4, 0, 2, 1]), torch.zeros(4), torch.tensor([8.0, 0.1, 1, 2]), weight, torch.zeros(2))
    features = torch.full((1, 5), 9.0, dtype=torch.float64)
    parts = Contributions(
        classes=torch.tensor([0]), runner_up=torch.tensor([1]), logits=torch.zeros(1, 2), features=features,
        weights=torch.tensor([[2.0, 0.5, 1, 0, 4]], dtype=torch.float64), other_weights=torch.zeros(1, 5),
        bias=torch.tensor([-60.5], dtype=torch.float64), other_bias=torch.zeros(1), maps=features[:, :, None, None],
        least=torch.full_like(features, -torch.inf),
    )  # fmt: skip
    assert float(parts.margin) == 7  # 3.5 of 0 is 35 deviations, 14 of 1 more than there is, 7 of 2 is 7, 1.75 of 4 0.2
    told = smallest_changes(parts, 0, head)
    assert [change.feature for change in told] == [4, 2, 0]
    assert [change.needed for change in told] == pytest.approx([7.25, 2, 5.5])
    assert all(change.value == 9 for change in told)


def test_each_image_gets_its_own_numbers():
    found = Attribution(
        torch.zeros(2, 3, 3), "lime", torch.tensor([1, 0]), torch.tensor([2.0, 3.0]), None, torch.zeros(2, 2), (3, 3),
        completeness=torch.tensor([0.25, 0.5]), notes={"r2": torch.tensor([0.75, 0.125]), "baseline": "mean"},
    )  # fmt: skip
    told = {"title": "LIME", "target": "wren", "score": 3, "completeness": 0.5, "r2": 0.125, "baseline": "mean"}
    one = method_map(found, 1, ["wren", "robin"])
    assert one.to_dict() == told
    assert one.map.shape == (3, 3)


@pytest.fixture
def explainer(run):
    def make(target="pred", seed=0, methods=("cam", "integrated_gradients", "smoothgrad")):
        return Explainer(Run(run).load("finetune").model, Run(run).inputs(), methods, target, 2, seed)

    return make


def work(at_work, photos, size):
    """Explanations of all photos, `size` at a time; their records, pictures and raw maps."""
    found = [
        why for batch in Pictures(photos, at_work.inputs).batches(size, "", SIDE) for why in at_work.explain(batch)
    ]
    maps = {name: np.stack([why.methods[name].raw for why in found]) for name in at_work.methods}
    return [why.to_dict() for why in found], [why.pictures() for why in found], maps


def test_a_pictures_page_does_not_depend_on_those_beside_it(explainer, photos):
    together, pictures, maps = work(explainer(), photos, 3)
    alone, other_pictures, other_maps = work(explainer(), photos, 1)
    for name, raw in maps.items():
        np.testing.assert_allclose(other_maps[name], raw, rtol=1e-3, atol=1e-4)
    for one, other in zip(pictures, other_pictures, strict=True):
        for kind in ("features", "lead", "methods"):
            assert getattr(one, kind).keys() == getattr(other, kind).keys()
            for key, image in getattr(one, kind).items():
                apart = np.abs(np.asarray(image).astype(int) - np.asarray(getattr(other, kind)[key]))
                assert apart.mean() < 1, (kind, key)
        assert np.array_equal(one.image, other.image)
    for one, other in zip(together, alone, strict=True):
        for method, told in one["methods"].items():
            numbers = {key: value for key, value in told.items() if isinstance(value, float)}
            expected = {key: other["methods"][method][key] for key in numbers}
            assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert "score" in numbers


def test_pictures_are_of_the_features_and_methods_they_are_named_after(explainer, photos):
    at_work = explainer()
    _, pictures, _ = work(at_work, photos, 3)
    batch = next(Pictures(photos, at_work.inputs).batches(3, "", SIDE))
    shown, images = batch.shown, batch.images
    parts = contributions(at_work.model, images)
    cam = attribute(at_work.model, images, method="cam")
    for row, drawn in enumerate(pictures):
        strongest = parts.strongest(row, 2).tolist()
        sizes = {f: abs(float(parts.weights[row, f] * parts.features[row, f])) for f in strongest}
        assert list(drawn.features) == [f for f, size in sizes.items() if size >= 0.01 * max(sizes.values())]
        assert set(drawn.lead) | set(drawn.repeated) <= set(parts.strongest_lead(row, 2).tolist())
        assert int(parts.strongest_lead(row)[0]) in {*drawn.lead, *drawn.repeated}
        for feature in drawn.repeated:  # no picture twice
            assert np.array_equal(
                drawn.features[feature], overlay(shown[row], parts.lead_map_of(row, feature), True, SIDE)
            )
        for feature, image in drawn.features.items():
            values = parts.weights[row, feature] * parts.maps[row, feature]
            assert np.array_equal(image, overlay(shown[row], values, True, SIDE))
        for feature, image in drawn.lead.items():
            values = (parts.weights - parts.other_weights)[row, feature] * parts.maps[row, feature]
            assert np.array_equal(image, overlay(shown[row], values, True, SIDE))
        assert np.array_equal(drawn.methods["cam"], overlay(shown[row], cam.map()[row], True, SIDE))


def test_random_numbers_belong_to_the_seed_and_the_pictures_name(explainer, photos):
    shutil.copy(photos / "a.png", photos / "b.png")
    first, named_otherwise, seeded_otherwise = (
        work(explainer(seed=seed, methods=["smoothgrad"]), photos / f"{name}.png", 1)[2]["smoothgrad"]
        for seed, name in ((0, "a"), (0, "b"), (1, "a"))
    )
    assert not np.array_equal(first, named_otherwise)
    assert not np.array_equal(first, seeded_otherwise)




# -- the front door ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(run):
    found = Run(run).load("finetune").model
    found.inputs = Run(run).inputs()
    return found


def test_contributions_add_up_to_the_logit_exactly(model, photos):
    why = explain(model, photos / "a.png")
    total = sum(part.contribution for part in why.contributions) + why.bias
    assert total == pytest.approx(why.explained.logit, rel=1e-12)
    lead = sum(part.lead for part in why.runner_up.features) + why.runner_up.bias_lead
    assert lead == pytest.approx(why.runner_up.lead, rel=1e-9, abs=1e-12)
    assert why.runner_up.lead == pytest.approx(why.explained.logit - why.runner_up.score.logit, rel=1e-9, abs=1e-12)
    for feature, values in why.features.items():
        (part,) = (one for one in why.contributions if one.feature == feature)
        assert float(values.mean()) == pytest.approx(part.contribution, rel=1e-6, abs=1e-9)
    image = model.inputs.image(Image.fromarray(read_image(photos / "a.png")))
    logits = model(image[None])[0].detach()
    assert why.prediction.name == model.inputs.class_names[int(logits.argmax())]
    assert why.explained.logit == pytest.approx(float(logits.max()), rel=1e-5)
    assert why.prediction.probability == pytest.approx(float(logits.softmax(0).max()), rel=1e-5)


def test_every_kind_of_picture_gives_the_same_explanation(model, photos):
    file = photos / "a.png"
    pixels = read_image(file)
    image = model.inputs.image(Image.fromarray(pixels))
    kinds = [file, str(file), Image.open(file), pixels, image, image[None]]
    records = [explain(model, kind).to_dict() | {"name": "", "file": ""} for kind in kinds]
    assert all(record == records[0] for record in records)
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    white = Image.new("RGB", (20, 20), "white")
    assert explain(model, clear).to_dict() == explain(model, white).to_dict()


def test_the_model_is_left_as_it_was_found(model, photos):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    explain(model, photos / "a.png", methods="smoothgrad,ig")
    assert all(module.training for module in model.modules())
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_it_is_shown_as_figure_page_and_in_notebooks(model, photos, tmp_path):
    names = ["$x_1$", "<b>owl</b>", "wren"]
    odd = Inputs(names, model.inputs.image_size, model.inputs.mean, model.inputs.std)
    why = explain(model, photos / "a.png", methods="cam,gradcam", target="$x_1$", inputs=odd)
    assert list(why.maps) == ["cam", "gradcam"]
    assert why.maps["cam"].shape == (16, 16)
    figure = why.show()
    figure.savefig(tmp_path / "why.png")
    assert Image.open(tmp_path / "why.png").width > 500
    page = why.to_html(tmp_path / "why.html")
    assert (tmp_path / "why.html").read_text(encoding="utf-8") == page
    assert page.count("<article") == 1
    assert "<b>owl</b>" not in page
    assert why._repr_html_().startswith('<iframe srcdoc="')
    assert why._repr_html_().count('"') == 8  # of its four attributes
    assert str(why).startswith("a.png: ")
    with matplotlib.rc_context({"backend": "agg"}):
        explain(model, photos / "a.png", methods=()).show().savefig(tmp_path / "bare.png")


@pytest.mark.parametrize(
    ("values", "bias", "words"),
    [
        ((5, 3), 0, " because of feature 3 (+5.00), feature 10 (+3.00); next "),
        ((-9, 8), 1, " because of feature 10 (+8.00), in spite of feature 3 (-9.00); next "),
        ((-4, -3), 90, " because of its bias (+90.00), in spite of feature 3 (-4.00), feature 10 (-3.00); next "),
        ((-4, -3), -1, " in spite of feature 3 (-4.00), feature 10 (-3.00); next "),
        ((0, 0), -1, " %); next "),
    ],
)
def test_a_feature_against_the_class_is_not_said_to_be_its_reason(model, photos, values, bias, words):
    """Every large contribution was, whatever its sign: `because of feature 43 (-10.19)`."""
    why = explain(model, photos / "a.png", methods=())
    parts = [
        replace(why.contributions[0], feature=feature, contribution=float(value))
        for feature, value in zip((3, 10), values, strict=True)
    ]
    assert words in str(replace(why, contributions=tuple(parts), bias=float(bias)))


def test_nothing_but_a_classifier_that_knows_its_images_is_explained(model, photos):
    bare = Classifier(model.backbone, model.head)
    with pytest.raises(UserError, match="does not know the names of its classes"):
        explain(bare, photos / "a.png")
    assert explain(bare, photos / "a.png", inputs=model.inputs).to_dict() == explain(model, photos / "a.png").to_dict()
    with pytest.raises(UserError, match="2 class names are given for a model of 3"):
        explain(bare, photos / "a.png", inputs=Inputs(["a", "b"], 16, (0,) * 3, (1,) * 3))
    with pytest.raises(UserError, match="a Linear is not a classifier"):
        explain(torch.nn.Linear(2, 2), photos / "a.png")


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("nowhere.png", "no file or folder nowhere.png"),
        (".", "is a folder"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), "in floating point .* not torch.uint8"),
        (torch.zeros(2, 3, 16, 16), r"\(2, 3, 16, 16\)"),
        (torch.zeros(16, 16), r"\(16, 16\)"),
        (np.zeros((16, 16, 3)), r"uint8 \(H, W, 3\), not float64"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(model, image, sentence):
    with pytest.raises(UserError, match=sentence):
        explain(model, image)


def test_targets_and_methods_by_name():
    names = ["owl", "wren", "1"]
    assert [class_number(t, names) for t in ("pred", "wren", "0", 2, "1")] == [None, 1, 0, 2, 2]
    for wrong in (-1, 3, "3", "-0", "dodo", "²", ""):
        with pytest.raises(UserError, match="target: no class"):
            class_number(wrong, names)
    assert method_names(["ig", " cam", "IG"[:0]]) == ["integrated_gradients", "cam"]
