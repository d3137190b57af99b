"""Images, targets, labels, classes and maps as people have them: converted, or refused in one sentence."""


import numpy
import pytest
import torch

from handful.attribution import attribute, contributions
from handful.errors import UserError
from handful.metrics.faithfulness import perturbation_curve
from tests.handful.attribution.nets import images, linear_model, relu_classifier

SAME = [
    numpy.int64(2), numpy.uint8(2), numpy.array(2), torch.tensor(2), torch.tensor(2, dtype=torch.uint8), 2.0, "2",
    torch.tensor(2.0), numpy.float32(2), [2, 2, 2], (2, 2, 2), torch.tensor([2, 2, 2], dtype=torch.int8),
    numpy.array([2, 2, 2], dtype=numpy.uint16), torch.tensor([2.0, 2.0, 2.0]), [torch.tensor(2)] * 3,
    [numpy.int32(2)] * 3, numpy.array([2, 2, 2])[::-1],
]  # fmt: skip


@pytest.mark.parametrize("target", SAME, ids=lambda target: f"{type(target).__name__} {target}")
def test_class_numbers_of_any_type_are_the_same(target):
    model, x = relu_classifier(), images()
    expected = attribute(model, x, 2, method="gradient")
    found = attribute(model, x, target, method="gradient")
    torch.testing.assert_close(found.raw, expected.raw)
    assert found.targets.tolist() == [2, 2, 2]
    assert contributions(model, x, target).classes.tolist() == [2, 2, 2]
    if not isinstance(target, str):
        curve = perturbation_curve(model, x, x[:, 0], target, steps=3)
        torch.testing.assert_close(curve, perturbation_curve(model, x, x[:, 0], torch.tensor([2, 2, 2]), steps=3))


@pytest.mark.parametrize(
    "labels",
    [[1, 0, 3], (1, 0, 3), numpy.array([1, 0, 3]), numpy.array([[1], [0], [3]]), torch.tensor([[1], [0], [3]]),
     torch.tensor([1.0, 0.0, 3.0]), torch.tensor([1, 0, 3], dtype=torch.uint8)],
)  # fmt: skip
def test_labels_of_any_type_are_the_same(labels):
    found = attribute(relu_classifier(), images(), "label", method="gradient", labels=labels)
    assert found.targets.tolist() == [1, 0, 3]
    assert contributions(relu_classifier(), images(), "label", labels=labels).classes.tolist() == [1, 0, 3]


BAD_TARGETS = [
    (True, "target: expected integers, got bool; give pred, label"), (numpy.True_, "got bool"),
    (torch.tensor(True), "got bool"), ([True, False, True], "got bool"),
    (torch.tensor([True, False, True]), "got bool"),
    (None, "target: expected numbers, got nothing; give pred"), (1.5, "expected integers"),
    (float("nan"), "expected integers"), (float("inf"), "expected integers"), ([0.5, 1, 2], "expected integers"),
    (torch.tensor([1j, 1, 2]), "expected integers"),
    (-1, "-1 is out of range"), ("-1", "-1 is out of range"), (numpy.int64(4), "4 is out of range"),
    ([0, 1, 9], "9 is out of range"), ([0, 1], "2 targets for 3 images"), ([], "target"),
    (torch.zeros(3, 0, dtype=torch.int64), "targets for 3 images"),
    (torch.zeros(3, 1, 1), r"expected shape \(\), \(N,\) or \(N, T\), got \(3, 1, 1\)"),
    ([[0, 1], [2]], "in one shape"), (["a", "b", "c"], "got text; give pred"), ({"class": 1}, "got dict"),
    ("best", '"best" is unknown'), ("top0", '"top0" is unknown'), ("top9", "more classes than the 4"),
    (b"1", "got text"), (object(), "got object"), (range(3, 6), "4 is out of range"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "sentence"), BAD_TARGETS, ids=lambda value: str(value).split(" at 0x")[0][:30])
def test_other_targets_are_one_sentence(target, sentence):
    with pytest.raises(UserError, match=sentence):
        attribute(relu_classifier(), images(), target, method="gradient")


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [(torch.eye(3), r"labels.argmax\(1\)"), ([1, 2], "labels: expected 3 of them"), ([0, 1, 7], "out of range"),
     ([True, False, True], "labels: expected integers"), ([0.5, 1, 2], "labels: expected integers")],
)  # fmt: skip
def test_other_labels_are_one_sentence(labels, sentence):
    with pytest.raises(UserError, match=sentence):
        attribute(relu_classifier(), images(), "label", method="gradient", labels=labels)


def test_a_target_function_may_keep_its_column():
    model, x = relu_classifier(), images()
    flat = attribute(model, x, lambda logits: logits[:, 1], method="gradient").raw
    torch.testing.assert_close(attribute(model, x, lambda logits: logits[:, 1:2], method="gradient").raw, flat)
    with pytest.raises(UserError, match="made float of logits"):
        attribute(model, x, lambda logits: 1.0, method="gradient")
    with pytest.raises(UserError, match="gradient"):
        attribute(model, x, lambda logits: logits[:, 1].detach(), method="gradient")


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.numpy, torch.Tensor.double, list, tuple, lambda x: x.clone().requires_grad_(),
     lambda x: x.to(memory_format=torch.channels_last), lambda x: [one.numpy() for one in x],
     lambda x: x.numpy()[:, ::-1][:, ::-1]],
)  # fmt: skip
def test_images_of_any_type_are_the_same(change):
    model, x = relu_classifier(), images()
    given = change(x)
    torch.testing.assert_close(
        attribute(model, given, 1, method="gradient").raw, attribute(model, x, 1, method="gradient").raw
    )
    torch.testing.assert_close(contributions(model, given, 1).values, contributions(model, x, 1).values)
    curve = perturbation_curve(model, given, x[:, 0], [1] * 3, steps=3)
    torch.testing.assert_close(curve, perturbation_curve(model, x, x[:, 0], [1] * 3, steps=3))
    assert not isinstance(given, torch.Tensor) or given.grad is None


def with_pixel(value):
    x = images()
    x[1, 0, 3, 4] = value
    return x


BAD_IMAGES = [
    (lambda: images()[0], r"not \(3, 12, 12\): give one image as image\[None\]"),
    (lambda: images()[:0], "non-empty batch"),
    (lambda: images()[:, :, :0], "non-empty batch"),
    (lambda: images().permute(0, 2, 3, 1), "channels last"),
    (lambda: (images() * 50).byte(), r"uint8: give normalised floating-point images, \(pixels / 255"),
    (lambda: images().long(), "int64"),
    (lambda: with_pixel(torch.nan), "image 1 of 3 holds NaN"),
    (lambda: with_pixel(torch.inf), "image 1 of 3 holds NaN or infinite"),
    (lambda: images().repeat(1, 4, 1, 1), "have 12 channels, and the model takes 3|takes images of 3 channels"),
    (lambda: images()[:, :1], "1 channels?, and the model takes 3|takes images of 3 channels"),
    (lambda: "photo.jpg", "images: expected numbers, got text"),
    (lambda: None, "images: expected numbers, got nothing"),
    (lambda: [images()[0], images(size=8)[0]], "images: expected numbers in one shape"),
]


@pytest.mark.parametrize(("make", "sentence"), BAD_IMAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_other_images_are_one_sentence(make, sentence):
    model = relu_classifier()
    with pytest.raises(UserError, match=sentence):
        attribute(model, make(), 1, method="gradient")
    with pytest.raises(UserError, match=sentence):
        contributions(model, make(), 1)
    with pytest.raises(UserError, match=sentence):
        perturbation_curve(model, make(), images()[:, 0], steps=3)


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.numpy, list, lambda m: m[:, None], torch.Tensor.half, torch.Tensor.double,
     lambda m: m.clone().requires_grad_()],
)  # fmt: skip
def test_maps_of_any_type_are_the_same(change):
    model, x = relu_classifier(), images()
    maps = torch.arange(144.0).reshape(12, 12).expand(3, 12, 12)
    torch.testing.assert_close(
        perturbation_curve(model, x, change(maps), steps=4), perturbation_curve(model, x, maps, steps=4)
    )


def nan_map():
    maps = torch.zeros(3, 12, 12)
    maps[2, 1, 1] = torch.nan
    return maps


@pytest.mark.parametrize(
    ("maps", "sentence"),
    [(nan_map(), "map 2 holds values that are not finite"), (torch.zeros(3, 3, 12, 12), r"got \(3, 3, 12, 12\)"),
     (torch.zeros(3, 6, 6), "maps must be"), (torch.zeros(2, 12, 12), "maps must be"), (None, "maps: expected"),
     (torch.zeros(3, 12, 12, dtype=torch.int64), "expected floating point")],
)  # fmt: skip
def test_other_maps_are_one_sentence(maps, sentence):
    with pytest.raises(UserError, match=sentence):
        perturbation_curve(relu_classifier(), images(), maps, steps=3)


@pytest.mark.parametrize("classes", [7, [0, 1, 7], "top2", [[0, 1]] * 3, lambda logits: logits[:, 0]])
def test_classes_of_a_curve_are_checked(classes):
    with pytest.raises(UserError, match=r"out of range|one class per image"):
        perturbation_curve(relu_classifier(), images(), images()[:, 0], classes, steps=3)


def test_a_baseline_may_be_an_array_and_must_be_finite():
    model, x = linear_model(), images(size=8, dtype=torch.float64)
    found = attribute(model, x, 0, method="integrated_gradients", baseline=numpy.ones((3, 8, 8)))
    torch.testing.assert_close(found.raw, model[1].weight[0].reshape(3, 8, 8) * (x - 1))
    with pytest.raises(UserError, match="baseline holds NaN"):
        attribute(model, x, 0, method="integrated_gradients", baseline=torch.full((3, 8, 8), torch.nan))
