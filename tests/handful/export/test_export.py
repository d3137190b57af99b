"""Models that are handed on: the same logits in every runtime, a card, and `handful.load` of the folder."""

import json

import numpy as np
import pytest
import torch

import handful
from handful import Inputs, SparseHead, UserError, build_classifier
from handful.export import Deployed, export
from handful.networks.head import Head, build_head


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 3).eval()
    head = SparseHead(model.num_features, 3, 4)
    weight = torch.tensor([[0.5, 0, 1, 0], [0, 0.7, 0, 0.4], [0.3, 0, 0, 1]])
    head.fill(torch.tensor([1, 3, 5, 7]), torch.rand(4), torch.rand(4) + 0.5, weight, torch.rand(3))
    model.head = head.eval()
    model.inputs = Inputs(["crow", "o_w|l", "wren"], 24, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    model.feature_names = {5: "red eye"}
    return model


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def wanted(model, pixels):
    with torch.no_grad():
        return model(model.inputs.normalise(pixels))


def test_normalisation_is_inside(model, pixels, wanted):
    with torch.no_grad():
        logits, features = Deployed(model)(pixels)
    torch.testing.assert_close(logits, wanted)
    weight, bias = model.head.class_weights()
    torch.testing.assert_close(features @ weight.T + bias, wanted)


def test_the_folder_is_loaded_with_the_same_logits_to_the_bit(model, pixels, wanted, tmp_path):
    assert export(model, tmp_path, results={}, name="bi_rds") == tmp_path / "model.safetensors"
    for path in (tmp_path, tmp_path / "model.safetensors"):
        loaded = handful.load(path)
        with torch.no_grad():
            assert torch.equal(loaded(loaded.inputs.normalise(pixels)), wanted)
        assert loaded.inputs == Inputs(["crow", "o_w|l", "wren"], 24, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
        assert loaded.feature_names == {5: "red eye"}
    assert json.loads((tmp_path / "config.json").read_text())["head"]["kind"] == "sparse"


def test_onnxruntime_gives_the_same_logits_for_any_batch(model, pixels, wanted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = export(model, tmp_path, "onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (pixels, pixels[:1]):
        logits, features = session.run(["logits", "features"], {"pixels": batch.numpy()})
        np.testing.assert_allclose(logits, wanted[: len(batch)], rtol=1e-4, atol=1e-5)
        assert features.shape == (len(batch), 16)
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["class_names"]) == list(model.inputs.class_names)
    assert json.loads(known["feature_names"]) == {"5": "red eye"}
    assert handful.load(tmp_path).num_classes == 3


def test_torch_export_gives_the_same_logits_for_any_batch(model, pixels, wanted, tmp_path):
    file = export(model, tmp_path, "torch_export")
    extra = {"handful.json": ""}
    program = torch.export.load(file, extra_files=extra)
    for batch in (pixels, pixels[:1]):
        torch.testing.assert_close(program.module()(batch)[0], wanted[: len(batch)])
    assert json.loads(json.loads(extra["handful.json"])["class_names"]) == list(model.inputs.class_names)


def with_head(network, size, kind):
    """A classifier of five classes with random weights and a head of few features."""
    torch.manual_seed(0)
    model = build_classifier({**network, "image_size": size}, 5).eval()
    if kind != "dense":
        options = {"relu": True} if kind == "binary" else {}
        head = build_head(
            {"kind": kind, "num_features": model.num_features, "num_classes": 5, "n_selected": 4, **options}
        )
        values = head.state_dict() | {"selection": torch.arange(4), "std": torch.rand(4) + 0.5}
        signs = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]])
        if kind != "binary":
            signs = signs * torch.tensor([1, -1, 1, -1])
        values["weight"] = (signs if kind == "binary" else 0.5 * signs).to(values["weight"].dtype)
        head.load_state_dict(values)
        model.head = head.eval()
    model.inputs = Inputs(list("abcde"), size, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    return model


def check_every_runtime(model, folder):
    """Same logits through onnxruntime and torch.export, of three images and of one; classes agree with the head."""
    onnxruntime = pytest.importorskip("onnxruntime")
    size = model.inputs.image_size
    pixels = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        wanted = model(model.inputs.normalise(pixels))
    assert float(wanted.std()) > 0
    session = onnxruntime.InferenceSession(export(model, folder, "onnx"), providers=["CPUExecutionProvider"])
    program = torch.export.load(export(model, folder, "torch_export")).module()
    scale = float(wanted.abs().max())
    assert session.get_inputs()[0].shape == ["batch", 3, size, size]
    assert [output.shape[0] for output in session.get_outputs()] == ["batch", "batch"]
    for batch in (pixels, pixels[:1]):
        logits = session.run(["logits"], {"pixels": batch.numpy()})[0]
        np.testing.assert_allclose(logits, wanted[: len(batch)], rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(program(batch)[0], wanted[: len(batch)], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", ["ternary", "binary"])
def test_heads_of_few_values_in_every_runtime(kind, tmp_path):
    check_every_runtime(with_head({"backbone": "conv4", "options": {"width": 4}}, 32, kind), tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("backbone", "kind"),
    [("tf_efficientnet_lite0", "sparse"), ("resnet18", "ternary"), ("convnext_atto", "dense"),
     ("convnext_tiny", "binary"), ("vit_tiny_patch16_224", "sparse"), ("densenet121", "binary")],
)  # fmt: skip
def test_timm_networks_in_every_runtime(backbone, kind, tmp_path):
    check_every_runtime(with_head({"backbone": backbone}, 64, kind), tmp_path)


def test_the_card_says_what_was_measured(model, tmp_path):
    results = {
        "stages": {"dense": {"accuracy": 91.5, "n_features": 16}, "sparse": {"accuracy": 88.25, "diversity@5": None}},
        "weights": "package x 0.1, abc",
        "data": {"name": "ToyBirds", "images": {"train": 9}},
        "versions": {"torch": "2.6"},
    }
    export(model, tmp_path, results=results, name="bi_rds", stage="sparse")
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: handful\n")
    assert "# bi\\_rds" in card
    assert "| **sparse** (this model) | 88.25 | – |" in card
    assert "decides with 4 features, 2 of them per class" in card
    assert "Started from package x 0.1, abc. Data: ToyBirds (9 training images)." in card
    assert "o\\_w\\|l" in card


def test_what_cannot_be_handed_on_is_one_sentence(model, tmp_path):
    with pytest.raises(UserError, match=r"--to: no format 'onx'; did you mean 'onnx'\?"):
        export(model, tmp_path, "onx")
    with pytest.raises(UserError, match="does not know its network"):
        export(model.with_head(model.head).eval().__class__(model.backbone, model.head), tmp_path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="weights alone"):
        handful.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(UserError, match=r"model\.safetensors: not a checkpoint"):
        handful.load(tmp_path)


def test_a_network_that_cannot_be_followed_is_one_sentence(tmp_path):
    class Branching(Head):
        kind = "branching"

        def class_weights(self):
            return torch.zeros(2, 4), torch.zeros(2)

        def forward(self, features):
            return features[:, :2] if float(features.sum()) > 0 else features[:, 2:]

    model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
    model.head, model.inputs = Branching(4, 2), Inputs(["a", "b"], 32, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match=r"torch\.export cannot follow this network"):
        export(model, tmp_path, "torch_export")
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_model_in_all_of_its_formats(model, tmp_path):
    export(model, tmp_path, "torch_export")
    export(model, tmp_path, "safetensors")
    assert {"model.pt2", "model.safetensors", "names.csv"} <= {file.name for file in tmp_path.iterdir()}
    other = build_classifier({"backbone": "cifar_resnet20", "options": {"width": 4}}, 2).eval()
    other.inputs = Inputs(["crow", "wren"], 24, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    export(other, tmp_path, "safetensors")
    assert not {"model.pt2", "names.csv"} & {file.name for file in tmp_path.iterdir()}
    assert handful.load(tmp_path).num_classes == 2
