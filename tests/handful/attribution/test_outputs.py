"""Whatever a model gives is read as logits at one place, or refused in a sentence; every method and measure uses it."""

import dataclasses
from collections import OrderedDict, namedtuple
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from handful.attribution import attribute
from handful.attribution.outputs import ClassLogits, class_logits, warn_of_probabilities
from handful.errors import UserError
from handful.metrics.faithfulness import area_under, perturbation_curve
from handful.networks.classifier import Classifier
from handful.networks.heads import DenseHead
from tests.handful.attribution.nets import ConvBackbone, images
from tests.handful.attribution.test_every_method import OWN, run

METHODS = ["gradient", "gradcam", "integrated_gradients", "smoothgrad", "occlusion", "lime", "meaningful_perturbation"]
NEED_GRADIENTS = ["gradient", "gradcam", "integrated_gradients", "smoothgrad", "meaningful_perturbation"]
NEED_MODULES = ["gradcam", "guided_backprop", "deconvolution", "lrp"]


def plain(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(64, classes),
    ).eval()  # fmt: skip


class Answers(nn.Module):
    """A network whose logits come out in another form."""

    def __init__(self, form, classes=3):
        super().__init__()
        self.net = plain(classes)
        self.form = form

    def forward(self, x):
        return self.form(self.net(x))


@dataclasses.dataclass
class Record:
    features: torch.Tensor
    logits: torch.Tensor


Named = namedtuple("Named", "aux logits")

FORMS = {
    "logits of a mapping": lambda z: {"features": z.new_zeros(len(z), 7), "logits": z},
    "out of a mapping": lambda z: OrderedDict(out=z, aux=2 * z),
    "the only tensor of a mapping": lambda z: {"y": z, "loss": None},
    "a dataclass": lambda z: Record(z.new_zeros(len(z), 7), z),
    "a named tuple": lambda z: Named(2 * z, z),
    "auxiliary outputs": lambda z: (z, 2 * z),
    "a list of one": lambda z: [z],
    "a loss before": lambda z: (z.sum(), z),
    "one cell": lambda z: z[:, :, None, None],
    "half precision": lambda z: z.half(),
    "sparse": lambda z: z.to_sparse(),
    "squeezed": lambda z: z.squeeze(),
}


@pytest.mark.parametrize("form", FORMS)
def test_obvious_forms_give_what_the_tensor_gives(form):
    model, x = Answers(FORMS[form]).eval(), images()
    rough = {"rtol": 1e-2, "atol": 1e-3} if form == "half precision" else {"rtol": 1e-5, "atol": 1e-7}
    for method in ("gradient", "occlusion", "gradcam"):
        found, expected = run(method, model, x, 1), run(method, plain(), x, 1)
        torch.testing.assert_close(found.raw, expected.raw, **rough)
        torch.testing.assert_close(found.probabilities, expected.probabilities, **rough)
    maps = x.mean(dim=1)
    torch.testing.assert_close(
        perturbation_curve(model, x, maps, steps=4), perturbation_curve(plain(), x, maps, steps=4), **rough
    )


BAD_FORMS = {
    "several tensors of a tuple": (lambda z: (z.new_zeros(len(z), 7), z), r"tuple of \(\d+, 7\), \(\d+, 3\).* cannot"),
    "a mapping without logits": (lambda z: {"a": z, "b": z}, 'with a, b, and none of them is "logits"'),
    "a map of scores": (lambda z: z[:, :, None, None].expand(-1, -1, 4, 4), r"\(\d+, 3, 4, 4\) .*average"),
    "tokens": (lambda z: z[:, None], r"gives \(\d+, 1, 3\) for"),
    "class numbers": (lambda z: z.argmax(1), "floating-point logits are needed"),
    "truth values": (lambda z: z > 0, "floating-point logits"),
    "one number": (lambda z: z.sum(), r"gives \(\) for \d+ images"),
    "too few rows": (lambda z: z[:1], r"gives \(1, 3\) for"),
    "NaN": (lambda z: z * torch.nan, "gives nan as a logit of image 0"),
    "infinite": (lambda z: z.abs() / 0, "gives inf as a logit of image 0"),
    "minus infinity for every class": (lambda z: z - torch.inf, "gives -inf as a logit of image 0"),
    "a nested tensor": (lambda z: torch.nested.as_nested_tensor(list(z), layout=torch.jagged), "gives a nested tensor"),
    "a meta tensor": (lambda z: z.to("meta"), "gives a meta tensor"),
    "nothing": (lambda z: None, "gives a NoneType"),
    "numpy": (lambda z: z.detach().numpy(), "gives a ndarray"),
}


@pytest.mark.parametrize("form", BAD_FORMS)
@pytest.mark.parametrize("method", ["gradient", "occlusion", "gradcam"])
def test_any_other_form_is_one_sentence_everywhere(form, method):
    make, sentence = BAD_FORMS[form]
    model, x = Answers(make).eval(), images().abs() + 0.1
    with pytest.raises(UserError, match=sentence):
        run(method, model, x, 1)
    with pytest.raises(UserError, match=sentence):
        perturbation_curve(model, x, x[:, 0], steps=2)


def test_a_batch_of_one_image_that_is_squeezed():
    """The last batch of a data set often is one, and so is a part of any batch where memory is short."""
    one = torch.tensor([0.5, -1.0, 2.0])
    assert class_logits(one, 1).values.tolist() == [[0.5, -1.0, 2.0]]
    model, x = Answers(lambda z: z.squeeze()).eval(), images()[:1]
    expected = run("integrated_gradients", plain(), x, 1)
    torch.testing.assert_close(run("integrated_gradients", model, x, 1).raw, expected.raw)


@pytest.mark.parametrize("size", [(12, 20), (9, 9), (7, 40)])
@pytest.mark.parametrize("method", ["gradient", "gradcam", "occlusion"])
def test_images_of_a_size_that_the_model_does_not_take(method, size):
    rigid = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3)).eval()
    assert run(method, rigid, images(), 1).raw.isfinite().all()
    with pytest.raises(UserError, match=rf"the model does not take images \(\d+, 3, {size[0]}, {size[1]}\)"):
        run(method, rigid, torch.rand(3, 3, *size), 1)


def test_a_model_without_weights():
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)).eval()
    with pytest.raises(UserError, match=r"0\.weight has no size yet.*run the model once"):
        attribute(lazy, images(), method="gradient")
    with pytest.raises(UserError, match=r"0\.weight lies on the meta device"):
        attribute(plain().to("meta"), images(), method="occlusion")


@pytest.mark.parametrize("form", [lambda z: z, lambda z: z[:, 0], lambda z: {"logits": z}])
def test_one_logit_means_a_sigmoid(form):
    model, x = Answers(form, classes=1).eval(), images()
    with torch.no_grad():
        z = model.net(x)[:, 0]
    for target, sign in ((1, 1), (0, -1)):
        found = attribute(model, x, target, method="gradient")
        leaf = x.clone().requires_grad_()
        model.net(leaf).sum().backward()
        torch.testing.assert_close(found.raw, sign * leaf.grad)
        torch.testing.assert_close(found.scores, sign * z)
        torch.testing.assert_close(found.probabilities, (sign * z).sigmoid())
    found = attribute(model, x, method="gradient")
    assert torch.equal(found.predictions, (z > 0).long())
    torch.testing.assert_close(found.logits.softmax(1)[:, 1], z.sigmoid())
    both = attribute(model, x, "top2", method="occlusion")
    torch.testing.assert_close(both.raw[:, 0], -both.raw[:, 1])
    with pytest.raises(UserError, match="class 2 is out of range: the model has 2 classes"):
        attribute(model, x, 2, method="gradient")


def test_curves_of_one_logit_are_sigmoids_and_tell_maps_apart():
    model, x = Answers(lambda z: 5 * z, classes=1).eval(), images()
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    ones, zeros = (perturbation_curve(model, x, maps, [c] * 3, steps=6) for c in (1, 0))
    torch.testing.assert_close(ones + zeros, torch.ones_like(ones))
    torch.testing.assert_close(ones[:, 0], model(x)[:, 0].sigmoid().detach())
    assert (area_under(ones) != 1).all()
    assert not torch.equal(ones, perturbation_curve(model, x, -maps, [1] * 3, steps=6))


@pytest.mark.parametrize("method", OWN)
def test_every_method_explains_one_logit(method):
    torch.manual_seed(0)
    backbone = ConvBackbone(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), num_features=5)
    model, x = Classifier(backbone, DenseHead(5, 1)).eval(), images()
    positive, negative = run(method, model, x, 1), run(method, model, x, 0)
    torch.testing.assert_close(positive.scores, -negative.scores)
    if method in ("cam", "gradient", "integrated_gradients", "occlusion", "lime", "smoothgrad"):
        torch.testing.assert_close(positive.raw, -negative.raw)
    if method in ("cam", "integrated_gradients"):
        torch.testing.assert_close(positive.completeness, -negative.completeness, rtol=1e-3, atol=1e-6)
        assert positive.completeness.abs().max() < (1e-5 if method == "cam" else 1e-2)


def test_probabilities_instead_of_logits_are_warned_of():
    with pytest.warns(UserWarning, match="gives probabilities and not logits"):
        attribute(nn.Sequential(plain(), nn.Softmax(1)), images(), method="gradient")
    with pytest.warns(UserWarning, match="gives probabilities"):
        perturbation_curve(nn.Sequential(plain(), nn.Softmax(1)), images(), images()[:, 0], steps=2)


@pytest.mark.parametrize("classes", [1, 3])
def test_sigmoids_instead_of_logits_are_warned_of(classes):
    """One logit and one per class: another sigmoid gave every image a probability between 0.5 and 0.73."""
    x = torch.cat([images(), -images()])
    with pytest.warns(UserWarning, match="as behind a sigmoid.*leave out the sigmoid"):
        attribute(Answers(torch.sigmoid, classes), x, method="gradient")


def test_a_softmax_in_half_precision_is_one():
    """Its rows sum to 1 within some thousandths."""
    rows = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)).bfloat16().softmax(1).float()
    with pytest.warns(UserWarning, match="leave out the softmax"):
        warn_of_probabilities(ClassLogits(rows))


class InPlace(nn.Module):
    """A network that begins with an operation in place, as many do with a ReLU or a normalisation."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.net = plain()

    def forward(self, x):
        self.change(x)
        return self.net(x)


@pytest.mark.parametrize("method", [*METHODS, "deconvolution", "guided_backprop"])
@pytest.mark.parametrize("change", [lambda x: x.mul_(2), lambda x: x.sub_(0.5).clamp_(min=0)], ids=["mul", "clamp"])
def test_a_model_that_changes_its_input_in_place(method, change):
    """The images stayed changed for every later pass, and gradients ended in torch's own error."""
    outside = InPlace(lambda x: None)
    outside.forward = lambda x: outside.net(change(x.clone()))
    found, expected = (run(method, model.eval(), images(), 1) for model in (InPlace(change), outside))
    torch.testing.assert_close(found.raw, expected.raw)
    curves = [perturbation_curve(m.eval(), images(), images()[:, 0], steps=3) for m in (InPlace(change), outside)]
    torch.testing.assert_close(*curves)


class Recomputing(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return checkpoint(self.net, x, use_reentrant=True)


class WithMask(nn.Module):
    def forward(self, x, mask):
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Recomputing(), "switch gradient checkpointing off"),
        (WithMask(), "takes more than images.*'mask'"),
        (lambda x: torch.from_numpy(x.numpy()).mean(dim=(2, 3)), "leaves torch for numpy"),
    ],
)
def test_what_a_gradient_cannot_pass_is_named(model, sentence):
    with pytest.raises(UserError, match=sentence):
        attribute(model, images(), method="gradient")


def test_one_hot_targets_are_not_taken_for_classes_0_and_1():
    with pytest.raises(UserError, match=r"target: rows of 0 and 1 for 3 classes are one-hot; take target\.argmax\(1\)"):
        attribute(plain(), images(), torch.eye(3), method="gradient")
    assert attribute(plain(2), images(), [[0, 1], [1, 0], [0, 1]], method="gradient").raw.shape[1] == 2


def test_an_error_within_a_model_stays_what_it_is():
    with pytest.raises(TypeError):
        attribute(lambda x: x + None, images(), method="gradient")


def test_a_class_that_is_masked_out_is_no_fault():
    logits = class_logits(torch.tensor([[0.0, -torch.inf]]), 1).values
    assert logits.softmax(1).tolist() == [[1.0, 0.0]]


# Models that are not plain modules


def exported(net, x):
    return torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))


@pytest.fixture(scope="module")
def forms_of_models():
    net, x = plain(), images()
    script = torch.jit.script(net)
    with torch.inference_mode():
        early = plain()
    program = exported(net, x)
    return {
        "frozen": plain().requires_grad_(False),
        "scripted": script,
        "traced": torch.jit.trace(net, x),
        "frozen script": torch.jit.freeze(script),
        "exported": program.module(),
        "exported program": program,
        "compiled": torch.compile(plain(), backend="eager"),
        "data parallel": nn.DataParallel(plain()),
        "averaged": AveragedModel(plain()),
        "function": lambda x: net(x),
        "made in inference mode": early,
        "half": plain().half(),
        "bfloat16": plain().bfloat16(),
    }


WITH_MODULES = ["frozen", "compiled", "data parallel", "averaged", "made in inference mode", "half", "bfloat16"]
WITHOUT_MODULES = ["scripted", "traced", "frozen script", "exported", "exported program", "function"]


@pytest.mark.parametrize("surroundings", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", WITH_MODULES + WITHOUT_MODULES)
def test_other_forms_of_a_model_give_the_same(forms_of_models, form, surroundings):
    model, x = forms_of_models[form], images()
    rough = {"rtol": 0.05, "atol": 0.02} if form in ("half", "bfloat16") else {"rtol": 1e-4, "atol": 1e-6}
    with surroundings():
        for method in ("gradient", "integrated_gradients", "occlusion"):
            torch.testing.assert_close(run(method, model, x, 1).raw, run(method, plain(), x, 1).raw, **rough)
        curve = perturbation_curve(model, x, x[:, 0], steps=3)
    torch.testing.assert_close(curve, perturbation_curve(plain(), x, x[:, 0], steps=3), **rough)


@pytest.mark.parametrize("form", WITHOUT_MODULES)
@pytest.mark.parametrize("method", NEED_MODULES)
def test_layers_that_cannot_be_reached_are_a_sentence(forms_of_models, form, method):
    with pytest.raises(UserError, match=f"{method} looks into the layers of a model"):
        run(method, forms_of_models[form], images(), 1)


@pytest.mark.parametrize("method", NEED_MODULES)
def test_layers_that_can_be_reached_are(forms_of_models, method):
    for form in ("frozen", "data parallel", "averaged", "made in inference mode"):
        torch.testing.assert_close(
            run(method, forms_of_models[form], images(), 1).raw, run(method, plain(), images(), 1).raw
        )


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        with torch.no_grad():
            return self.net(x)


@pytest.mark.parametrize("method", NEED_GRADIENTS)
def test_a_score_without_gradient_is_a_sentence(method):
    with pytest.raises(UserError, match="gradient"):
        run(method, Detached(), images(), 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_quantised_models_are_explained_without_gradients_only(method):
    dynamic = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear})
    if method in NEED_GRADIENTS:
        with pytest.raises(UserError, match="gradient"):
            run(method, dynamic, images(), 1)
    else:
        found, expected = run(method, dynamic, images(), 1).raw, run(method, plain(), images(), 1).raw
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


def test_what_is_no_model_is_a_sentence():
    for model, sentence in ((nn.Linear, "the class Linear itself"), ("resnet18", "not str"), (None, "not NoneType")):
        with pytest.raises(UserError, match=sentence):
            attribute(model, images(), method="gradient")


def test_an_exported_model_for_one_batch_size_is_a_sentence():
    model = torch.export.export(plain(), (images(),)).module()
    with pytest.raises(UserError, match="export it with a dynamic batch"):
        attribute(model, images(), method="occlusion", window=6)
