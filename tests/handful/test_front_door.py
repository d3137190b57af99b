"""`handful.load` and `model.predict`: the model of a run, as its own code has it, from whatever is pointed at."""

import hashlib
import json
import shutil

import pytest
import torch
import yaml
from PIL import Image

import handful
from handful.errors import UserError
from handful.networks import build_classifier
from handful.networks.decomposed import decompose
from handful.networks.description import KEY, rebuild
from lightning_modules import load_module
from pipelines.finished_run import Run


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def batch(run):
    return next(iter(Run(run).datamodule().test_dataloader()))


def same(model, phase_file, batch):
    module = load_module(phase_file)
    with torch.no_grad():
        assert torch.equal(model(batch[0]), module.model(batch[0]))


@pytest.mark.parametrize("phase", ["dense", "sparsify", "finetune"])
@pytest.mark.parametrize("pointed_at", ["run", "phase", "checkpoint"])
def test_the_same_model_from_a_run_a_phase_and_a_checkpoint(run, batch, phase, pointed_at):
    file = run / phase / "best.ckpt"
    model = {
        "run": lambda: handful.load(run, phase=phase),
        "phase": lambda: handful.load(str(run / phase)),
        "checkpoint": lambda: handful.load(file),
    }[pointed_at]()
    same(model, file, batch)
    assert not model.training
    data = Run(run).datamodule()
    assert list(model.inputs.class_names) == list(data.class_names)
    assert (model.inputs.image_size, list(model.inputs.mean)) == (24, list(data.mean))
    assert model.network.backbone == "cifar_resnet20"


def test_a_run_means_its_last_classifier(run, batch):
    same(handful.load(run), run / "finetune" / "best.ckpt", batch)
    assert isinstance(handful.load(run).head, handful.SparseHead)


def test_the_checkpoint_alone_knows_all(run, tmp_path):
    file = shutil.copy(run / "finetune" / "best.ckpt", tmp_path / "alone.ckpt")
    model = handful.load(file)
    assert len(model.inputs.class_names) == 3
    description = torch.load(file, weights_only=True)[KEY]
    assert json.loads(json.dumps(description)) == description  # plain values
    assert rebuild(description).head.describe() == model.head.describe()


def earlier(run, tmp_path, phase):
    """A run as an earlier version has left it: no description in its checkpoint, no digests in its record."""
    folder = tmp_path / "earlier"
    (folder / phase).mkdir(parents=True)
    for name in ("config.yaml", "results.json"):
        shutil.copy(run / name, folder / name)
    checkpoint = torch.load(run / phase / "best.ckpt", weights_only=True)
    del checkpoint[KEY]
    torch.save(checkpoint, folder / phase / "best.ckpt")
    (folder / phase / "done.json").write_text("{}")
    return folder


@pytest.mark.parametrize("phase", ["dense", "sparsify", "finetune"])
def test_runs_of_earlier_versions_load(run, batch, tmp_path, phase):
    folder = earlier(run, tmp_path, phase)
    for path in (folder, folder / phase, folder / phase / "best.ckpt"):
        model = handful.load(path)
        same(model, run / phase / "best.ckpt", batch)
        assert model.inputs == handful.load(run).inputs
    (folder / "results.json").unlink()
    assert handful.load(folder).inputs is None
    with pytest.raises(UserError, match=r"does not know its class names.*model\.inputs = handful\.Inputs"):
        handful.load(folder).predict(batch[0])


def test_a_decomposed_classifier_of_an_earlier_version_loads(tmp_path):
    network = {"backbone": "cifar_resnet20", "options": {"width": 4}}
    model = decompose(build_classifier(network, 3), torch.arange(2).repeat(3, 1)).eval()
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    arguments = {"network": network, "num_classes": 3, "filters_per_class": 2, "source": "dense"}
    for name in ("Decompose", "Retrain"):
        file = tmp_path / f"{name}.ckpt"
        torch.save({"handful_module": name, "hyper_parameters": arguments, "state_dict": state}, file)
        again = handful.load(file)
        images = torch.randn(2, 3, 24, 24)
        assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("kind", ["dense", "decomposed"])
def test_saved_and_loaded(tmp_path, kind):
    model = build_classifier({"backbone": "conv4", "options": {"width": 8}}, 3).eval()
    if kind == "decomposed":
        model = decompose(model, torch.arange(2).repeat(3, 1)).eval()
    model.inputs = handful.Inputs(["a", "b", "c"], 32, (0.5,) * 3, (0.25,) * 3)
    handful.save(model, tmp_path / "model.ckpt")
    for path in (tmp_path, tmp_path / "model.ckpt"):
        again = handful.load(path)
        images = torch.randn(2, 3, 32, 32)
        assert torch.equal(again(images), model(images))
        assert list(again.inputs.class_names) == ["a", "b", "c"]
    # what was saved can be saved again, and a bare network cannot
    handful.save(again, tmp_path / "again.ckpt")
    with pytest.raises(UserError, match="does not know its network"):
        handful.save(handful.Classifier(model.backbone, model.head), tmp_path / "bare.ckpt")


def test_pictures_are_read_as_in_training(run, tmp_path):
    model = handful.load(run)
    generator = torch.Generator().manual_seed(0)
    files = []
    for number, size in enumerate([(40, 30), (24, 24), (30, 90)]):
        pixels = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8).numpy()
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    images = torch.stack([model.inputs.image(Image.open(file)) for file in files])
    with torch.no_grad():
        expected = model(images).softmax(1)
    found = model.predict(files, batch_size=2)
    torch.testing.assert_close(found.probabilities, expected)
    assert list(found.names) == [str(file) for file in files]
    assert list(found.classes) == [model.inputs.class_names[label] for label in expected.argmax(1)]
    assert found.top(2)[0][0] == (found.classes[0], pytest.approx(float(expected[0].max())))
    assert len(str(found).splitlines()) == len(found) == 3
    for same_pictures in ([Image.open(file) for file in files], images):
        torch.testing.assert_close(model.predict(same_pictures).probabilities, expected)
    for one in (files[0], str(files[0]), Image.open(files[0]), images[0]):
        assert model.predict(one).classes == found.classes[:1]


def test_a_colour_under_transparency_decides_nothing(run, tmp_path):
    model = handful.load(run)
    hidden = []
    for colour in ((255, 0, 0, 0), (0, 0, 255, 0)):
        picture = Image.new("RGBA", (30, 30), colour)
        picture.save(tmp_path / f"{colour[0]}.png")
        hidden += [picture, tmp_path / f"{colour[0]}.png"]
    found = model.predict(hidden).probabilities
    assert torch.equal(found, found[:1].expand_as(found))


def test_predicting_leaves_the_model_as_it_was(run):
    model = handful.load(run).train()
    model.backbone.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.predict(torch.randn(2, 3, 24, 24))
    assert model.training
    assert not model.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        ([], "no pictures"),
        (["gone.png"], "gone.png cannot be read: No such file"),
        (5.0, "a picture is a file"),
        ([torch.zeros(3, 24, 24)], "a picture is a file"),
        (torch.zeros(2, 24, 24, 3, dtype=torch.uint8), "normalised floating point"),
        (torch.zeros(0, 3, 24, 24), "no pictures"),
        (torch.zeros(1, 1, 24, 24), "images of 3 channels, not 1"),
    ],
)
def test_pictures_that_are_none(run, pictures, sentence):
    with pytest.raises(UserError, match=sentence):
        handful.load(run).predict(pictures)


def test_weights_that_are_no_numbers_predict_nothing(run):
    model = handful.load(run)
    model.head.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        model.predict(torch.zeros(1, 3, 24, 24))


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def test_what_cannot_be_loaded(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    cases = [
        (tmp_path / "gone", None, "there is no such checkpoint"),
        (run, "fintune", "no finished phase 'fintune' .*did you mean 'finetune'.* there are dense, sparsify, finetune"),
        (run / "dense", "dense", "it has no phases|neither the folder"),
        (run / "dense" / "best.ckpt", "dense", "in the folder of a run only"),
        (run / "report", None, "neither the folder of a run"),
        (run / "config.yaml", None, "not a checkpoint written by Handful"),
    ]
    (tmp_path / "tensors.ckpt").touch()
    torch.save({"state_dict": {}}, tmp_path / "tensors.ckpt")
    cases.append((tmp_path / "tensors.ckpt", None, "not a checkpoint written by Handful"))
    torch.save({"state_dict": {}, "handful_module": "InfoMaxPlugin", "hyper_parameters": {}}, tmp_path / "plugin.ckpt")
    cases.append((tmp_path / "plugin.ckpt", None, "holds InfoMaxPlugin, not a classifier"))
    (copy / "dense" / "best.ckpt").write_bytes(b"")
    cases.append((copy / "dense", None, "best.ckpt"))
    file = copy / "finetune" / "best.ckpt"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    record = {"files": {"best.ckpt": {"size": file.stat().st_size, "sha256": digest}}}
    (copy / "finetune" / "done.json").write_text(json.dumps(record))
    handful.load(copy)
    damage(file)
    cases += [(copy, None, "damaged or changed"), (copy, "finetune", "damaged or changed")]
    cases.append((copy / "finetune", None, "damaged or changed"))
    for path, phase, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            handful.load(path, phase)
    (copy / "config.yaml").write_text(yaml.safe_dump({"phases": None}))
    with pytest.raises(UserError, match="it has no phases"):
        handful.load(copy)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 99}, "version 99"),
        ({"head": {"kind": "quantum"}}, "no kind 'quantum'"),
        ({"network": {"backbone": "resnet5"}}, "no model 'resnet5'"),
        ({"network": {"backbone": "resnet18", "options": {"checkpoint_path": "/etc/passwd"}}}, "checkpoint_path"),
        ({"inputs": {"class_names": ["a"]}}, "inputs are others"),
        (
            {"inputs": {"class_names": ["a"], "image_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}},
            "1 class names for 3 classes",
        ),
    ],
)
def test_descriptions_that_make_no_sense(run, tmp_path, change, sentence):
    checkpoint = torch.load(run / "finetune" / "best.ckpt", weights_only=True)
    checkpoint[KEY] |= change
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match=sentence) as caught:
        handful.load(tmp_path / "changed.ckpt")
    assert "changed.ckpt" in str(caught.value)


def test_nothing_is_unpickled(tmp_path):
    class Stranger:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({KEY: Stranger(), "state_dict": {}}, tmp_path / "stranger.ckpt")
    with pytest.raises(UserError, match=r"stranger\.ckpt: not a checkpoint"):
        handful.load(tmp_path / "stranger.ckpt")
