"""CAM and Grad-CAM: the laws of pool-then-linear networks, Captum, several targets at once."""

import captum.attr
import pytest
import torch
from torch import nn

from handful.attribution import attribute
from handful.errors import UserError
from handful.networks.classifier import Classifier
from handful.networks.heads import DenseHead, SparseHead
from tests.handful.attribution.nets import ConvBackbone, images, relu_classifier


def sparse_classifier() -> Classifier:
    model = relu_classifier()
    head = SparseHead(6, 4, 3)
    torch.manual_seed(0)
    weight = torch.tensor([[1.0, 0, 0.5], [0, -2, 0], [0, 0, 1.5], [0.3, 0.3, 0]])
    head.fill(torch.tensor([4, 0, 2]), torch.rand(3), 0.5 + torch.rand(3), weight, torch.randn(4))
    model.head = head
    return model


@pytest.mark.parametrize("make", [relu_classifier, sparse_classifier])
def test_mean_of_cam_plus_bias_is_the_logit(make):
    model, x = make(), images(5)
    found = attribute(model, x, "top3", method="cam", chunk=2)
    with torch.no_grad():
        logits = model.eval()(x)
        _, bias = model.head.class_weights()
    expected = logits.topk(3).values
    torch.testing.assert_close(found.raw.mean(dim=(2, 3)) + bias[found.targets], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scores, expected)
    torch.testing.assert_close(found.probabilities, logits.softmax(1).topk(3).values)
    assert found.completeness.abs().max() < 1e-4


def test_cells_times_gradcam_is_the_positive_part_of_cam():
    model, x = relu_classifier(), images(4)
    cam = attribute(model, x, 2, method="cam").raw
    grad = attribute(model, x, 2, method="gradcam").raw
    torch.testing.assert_close(cam[0].numel() * grad, cam.relu(), rtol=1e-4, atol=1e-5)
    assert cam.relu().max() > 0


def test_naming_the_last_layer_changes_nothing():
    model, x = relu_classifier(), images()
    for name in ("backbone", "backbone.5"):
        by_name = attribute(model, x, 0, method="gradcam", layer=name)
        torch.testing.assert_close(by_name.raw, attribute(model, x, 0, method="gradcam").raw)
        assert by_name.layer == name


def test_gradcam_agrees_with_captum_at_an_inner_layer():
    model, x = relu_classifier().eval(), images()
    mine = attribute(model, x, 1, method="gradcam", layer="backbone.2").raw
    other = captum.attr.LayerGradCam(model, model.backbone[2]).attribute(x, 1, relu_attributions=True)
    torch.testing.assert_close(mine, other[:, 0])


def test_an_in_place_relu_after_the_layer_does_not_spoil_it():
    x = images()
    mine = attribute(relu_classifier(inplace=True), x, 1, method="gradcam", layer="backbone.1").raw
    torch.testing.assert_close(mine, attribute(relu_classifier(), x, 1, method="gradcam", layer="backbone.1").raw)


def test_several_targets_in_one_pass_are_the_single_ones():
    model, x = relu_classifier(), images()
    every = torch.tensor([[0, 1, 2], [2, 1, 0], [3, 3, 1]])
    together = attribute(model, x, every, method="gradcam", layer="backbone.2").raw
    for column in range(3):
        alone = attribute(model, x, every[:, column], method="gradcam", layer="backbone.2").raw
        torch.testing.assert_close(together[:, column], alone)


def test_a_target_function_contrasts_two_classes():
    model, x = relu_classifier(), images()
    margin = attribute(model, x, lambda logits: logits[:, 0] - logits[:, 3], method="gradient").raw
    parts = attribute(model, x, torch.tensor([[0, 3]] * 3), method="gradient").raw
    torch.testing.assert_close(margin, parts[:, 0] - parts[:, 1], rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="explains a class"):
        attribute(model, x, lambda logits: logits[:, 0], method="cam")


def test_a_plain_network_has_its_last_maps_found():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = attribute(model, images(), 0, method="gradcam")
    assert found.layer == "1"
    assert found.raw.shape == (3, 10, 10)


def test_a_layer_that_runs_twice_is_not_taken_for_the_last_maps():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 5, 3), relu, nn.Flatten(), nn.Linear(320, 3))
    found = attribute(model, images(), 0, method="gradcam")
    assert found.layer == "2"
    assert found.raw.shape == (3, 8, 8)


def test_layers_that_cannot_be_used_are_named_in_a_sentence():
    model, x = relu_classifier(), images()
    with pytest.raises(UserError, match=r'no layer "backbone\.relu5".*backbone\.5'):
        attribute(model, x, method="gradcam", layer="backbone.relu5")
    with pytest.raises(UserError, match=r"\(3, 4\), not maps"):
        attribute(model, x, method="gradcam", layer="head")
    relu = nn.ReLU()
    shared = Classifier(
        ConvBackbone(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu, num_features=4), DenseHead(4, 3)
    )
    with pytest.raises(UserError, match="more than once"):
        attribute(shared, x, method="gradcam", layer="backbone.1")
    with pytest.raises(UserError, match=r"cam .*needs a model that pools"):
        attribute(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), x, method="cam")


def test_known_maps_spare_the_pass():
    model, x, runs = relu_classifier().eval(), images(5), []
    with torch.no_grad():
        maps = model.feature_maps(x)
    model.backbone.register_forward_hook(lambda *_: runs.append(1))
    found = attribute(model, x, method="cam", maps=maps)
    assert runs == []
    again = attribute(model, x, method="cam")
    assert runs
    assert found.raw.equal(again.raw)
    assert found.logits.equal(again.logits)
    assert found.completeness.equal(again.completeness)


@pytest.mark.parametrize("maps", [torch.rand(1, 6, 2, 2), torch.rand(5, 6)], ids=["one map for five images", "no maps"])
def test_maps_of_other_images_are_refused(maps):
    with pytest.raises(UserError, match=r"feature maps \(N, F, h, w\) of the 5 images"):
        attribute(relu_classifier(), images(5), method="cam", maps=maps)
